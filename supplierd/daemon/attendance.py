"""Who is there: workers whose connections have ended, peers of push workers, and strangers that came and went."""

from collections.abc import Mapping
from typing import Final

from supplierd.core.supplier import Supplier
from supplierd.daemon.changes import Changes
from supplierd.daemon.doors import Doors
from supplierd.daemon.sessions import Session, Sessions
from supplierd.logs import Repeating
from supplierd.transport.bells import Bells
from supplierd.transport.doorbells import MOST, Doorbells
from supplierd.transport.link import Link

FLOODED: Final = "a flood of connections"


class Attendance:
    """Looks now and then, and tells the supplier.

    Args:
        supplier: is told who has gone, and which push worker has come.
        sessions, push_links, bells, doorbells: the ways to peers, looked at; None: there are none.
        doors: of all listeners; the one of a push worker that is flooded is shut.
        repeating: the log.

    Attributes:
        calm: whether the end of each worker's connection would be told of. Whoever learns of one sets this to False.
    """

    def __init__(
        self,
        supplier: Supplier,
        sessions: Sessions,
        push_links: Mapping[str, Link],
        *,
        doors: Doors,
        bells: Bells | None,
        doorbells: Doorbells | None,
        repeating: Repeating,
    ) -> None:
        self._supplier = supplier
        self._sessions = sessions
        self._push_links = push_links
        self._doors = doors
        self._bells = bells
        self._doorbells = doorbells
        self._repeating = repeating
        self._changes = Changes(supplier)
        self.calm = False

    def look(self, now: float) -> None:
        """Look who is still there, count strangers, and log what has changed. `now`: seconds, monotonic."""
        strangers = self._doors.strangers() + self._sessions.strangers()
        strangers += sum(link.strangers() for link in self._push_links.values())
        self.calm = not self._push_links
        for session in self._sessions:
            if session.lost(now):
                self._tell_of_flood(session, now)
                self.lose(session, now)
            self.calm &= session.calm
        for name, link in self._push_links.items():
            if link.flooded:
                self._doors.shut(link, now, FLOODED)
            worker = self._supplier.workers[name]
            if link.connected() and not worker.connected:
                self._supplier.open_push_worker(worker, now)
            elif worker.connected and not link.connected():
                self._supplier.disconnected(worker, now)
        if self._bells is not None:
            self._bells.sweep(now)
            strangers += self._bells.strangers()
        if self._doorbells is not None:
            self._doorbells.sweep()
            self._tell_of_turned_away(self._doorbells, now)
        if strangers:
            self._supplier.rejected["no_handshake"] += strangers
            self._repeating.event("stranger", now, "connection without a handshake refused", count=strangers)
        self._changes.log(now)

    def lose(self, session: Session, now: float) -> None:
        """A worker's connection is gone."""
        self._sessions.close(session.worker.name)
        self._supplier.disconnected(session.worker, now)

    def _tell_of_flood(self, session: Session, now: float) -> None:
        if session.link.flooded:
            text = f"{FLOODED}: {session.link.endpoint} was closed, and its worker gets another one"
            self._repeating.event("flood", now, text, worker=session.worker.name)

    def _tell_of_turned_away(self, doorbells: Doorbells, now: float) -> None:
        count, doorbells.turned_away = doorbells.turned_away, 0
        if count:
            text = f"more than {MOST} doorbells: other publishers' frames come over ZeroMQ, which takes more CPU"
            self._repeating.event("doorbell", now, text, turned_away=count)

"""Which link, which bell and which peer belong to which worker: the transport's side of a session."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from supplierd.core.worker import Worker
from supplierd.transport.bells import Bell, Bells
from supplierd.transport.control import Peer
from supplierd.transport.link import Link

CONNECT_GRACE = 10.0
"""Seconds that a worker has to connect to its link after it joined."""
LEAVE_GRACE = 0.1
"""Seconds for which a session outlives its connection: a LEAVE, and the report in it, comes by another connection, and
may be a moment behind."""


@dataclass(slots=True)
class Session:
    """A worker's session.

    Attributes:
        worker: whose it is.
        link: its socket.
        peer: where it spoke from last; None for a push worker.
        welcome: the answer to its JOIN, should that be repeated.
        opened_at: seconds, monotonic.
        bell: the connection that its newest demand came by, if it was one.
        had_bell: whether there ever was one: then the worker was there, whatever its link says.
    """

    worker: Worker
    link: Link
    peer: Peer | None
    welcome: bytes
    opened_at: float
    bell: Bell | None = None
    had_bell: bool = False
    _missed_at: float | None = None  # when the connection was seen to be gone

    @property
    def calm(self) -> bool:
        """Whether its end would be told of, and has not begun as far as was seen."""
        return self.bell is not None and self._missed_at is None

    def lost(self, now: float) -> bool:
        """Whether the worker's connection is gone, or did not come in time."""
        if self.link.handshakes > 1:
            return True  # its client has connected again: what was under way to it went with the former connection
        if self.link.flooded:
            return True  # its client asks for another session, whose link is somewhere else
        if self.link.connected():
            self._missed_at = None
            return False
        if not self.link.was_connected and (self.bell is not None or not self.had_bell):
            return now - self.opened_at >= CONNECT_GRACE
        if self._missed_at is None:
            self._missed_at = now
        return now - self._missed_at >= LEAVE_GRACE


class Sessions:
    """All sessions: `by_worker`, by its name. `bells` holds their bells; None: there are none."""

    def __init__(self, bells: Bells | None) -> None:
        self._bells = bells
        self.by_worker: dict[str, Session] = {}
        self._strangers = 0

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self.by_worker.values()))

    def get(self, worker_name: str) -> Session | None:
        """The session of a worker, if it has one."""
        return self.by_worker.get(worker_name)

    def add(self, session: Session) -> None:
        """Enter a session; the worker must have none."""
        assert session.worker.name not in self.by_worker
        self.by_worker[session.worker.name] = session

    def close(self, worker_name: str) -> Session | None:
        """End a worker's session, if it has one, and close its link and its bell."""
        session = self.by_worker.pop(worker_name, None)
        if session is not None:
            self.attach(session, None)
            self._strangers += session.link.strangers()
            session.link.close()
        return session

    def attach(self, session: Session, bell: Bell | None) -> None:
        """From now on frames in shared memory go by this bell; a former one is closed."""
        if session.bell is not None and self._bells is not None:
            self._bells.close(session.bell)
        session.bell = bell
        if bell is not None:
            former = self.by_worker.get(bell.worker)
            if former is not None and former is not session and former.bell is bell:
                former.bell = None  # one bell serves one worker, so that its end is told of the right one
            bell.worker = session.worker.name
            session.had_bell = True

    def hung_up(self, bell: Bell) -> None:
        """A bell's worker has closed it. Whether the worker itself is gone, its link shows."""
        session = self.by_worker.get(bell.worker)
        if session is not None and session.bell is bell:
            self.attach(session, None)
        elif self._bells is not None:
            self._bells.close(bell)

    def strangers(self) -> int:
        """Connections to links that failed to shake hands since the last call."""
        count, self._strangers = self._strangers, 0
        return count + sum(session.link.strangers() for session in self.by_worker.values())


def new_session_number() -> int:
    """A number that nobody can guess: knowing it is what lets a peer speak for the session."""
    return secrets.randbits(63) | 1

"""The daemon's listening sockets: waited for, bound anew to cut peers off, and shut while descriptors are short.

A flood of connections or of JOINs must not end the process, and not delay frames. The door that is flooded is shut for
a moment, which ends the flood's connections; the others that came through it reconnect by themselves.
"""

import logging
from collections.abc import Callable, Container, Iterable
from contextlib import suppress
from typing import Final

from supplierd.core.bucket import TokenBucket
from supplierd.logs import Repeating, event
from supplierd.transport.control import ControlChannel
from supplierd.transport.descriptors import Descriptors
from supplierd.transport.listener import Listener
from supplierd.transport.sockets import Socket, TransportError, Waiter, readable

JOINS_PER_SECOND: Final = 100.0
"""Each takes the loop about a millisecond. Beyond it a JOIN is passed over, and its worker repeats it a second later.
One second's worth, and all the workers that there can be, may join at once, as they do when the daemon restarts."""

log = logging.getLogger("supplierd.security")


class Doors:
    """All listeners of a daemon.

    Args:
        waiter: of the loop; it then waits for the listeners given here.
        listeners: inboxes and control channels.
        links: gives the workers' sockets.
        max_workers: how many may join at once.
        descriptors: watched, so that they don't run out.
    """

    def __init__(
        self,
        waiter: Waiter,
        listeners: Iterable[Listener],
        links: Callable[[], Iterable[Listener]],
        max_workers: int,
        descriptors: Descriptors,
    ) -> None:
        self._waiter = waiter
        self._links = links
        self._joins = TokenBucket(JOINS_PER_SECOND, JOINS_PER_SECOND + max_workers)
        self._descriptors = descriptors
        self._strangers = 0
        self._shut_doors: set[Listener] = set()
        self._repeating = Repeating(log)
        self._sockets: dict[Listener, tuple[Socket, Socket]] = {}
        for listener in listeners:
            self.watch(listener)

    def watch(self, listener: Listener) -> None:
        """Wait for the sockets that a listener has now; if it could not be bound, that is tried again."""
        for socket in self._sockets.get(listener, ()):
            self._waiter.remove(socket)
        self._sockets[listener] = (listener.socket, listener.events)
        self._waiter.add(listener.socket, patient=isinstance(listener, ControlChannel))
        self._waiter.add(listener.events)
        if not listener.listening:
            self._shut_doors.add(listener)

    def reopen(self, listener: Listener) -> None:
        """Cut off a listener's peers; those who may come reconnect by themselves."""
        try:
            listener.reopen()
        except TransportError as error:
            event(log, logging.ERROR, f"{listener.endpoint} cannot be bound again yet: {error.strerror}")
            self._shut_doors.add(listener)
        if listener in self._sockets:
            self.watch(listener)

    def may_join(self, now: float) -> bool:
        """Whether one more worker may join now: not too many at once, and none while descriptors are short."""
        return not self._descriptors.short and self._joins.take(now)

    def come_and_gone(self, ready: Container[Socket | int], now: float) -> None:
        """Take note of connections, as soon as there are some: a flood must be noticed at once."""
        for listener, (_, events) in self._sockets.items():
            if events in ready:
                if listener.listening and self._descriptors.look():
                    self.shut(listener, now, self._short())
                self._strangers += listener.strangers()
                if readable(events):
                    self._waiter.again(events)

    @property
    def calm(self) -> bool:
        """Whether descriptors were not short when they were counted last, and every door is open."""
        return not (self._descriptors.short or self._shut_doors)

    def look(self, now: float) -> None:
        """Shut the door through which most have come while descriptors are short, and open it when they are not."""
        short = self._descriptors.look()
        if not (short or self._shut_doors):
            return
        if short:
            for listener in self._all():
                self._strangers += listener.strangers()
            crowded = max(self._all(), key=lambda listener: listener.connections * listener.listening)
            if crowded.listening:
                self.shut(crowded, now, self._short())
            return
        for listener in self._shut_doors & {*self._all()}:
            with suppress(TransportError):  # somebody else's socket is there now: a later turn may succeed
                listener.resume()
                self._shut_doors.discard(listener)
            if listener in self._sockets:
                self.watch(listener)  # it may have another socket, bound or not
        self._shut_doors &= {*self._all()}

    def shut(self, listener: Listener, now: float, why: str) -> None:
        """Cut everybody off from a listener, until the next look at which descriptors are not short."""
        self._shut_doors.add(listener)
        listener.pause()
        self._repeating.event(f"shut: {why}", now, f"{why}: everybody was cut off from {listener.endpoint}")

    def _short(self) -> str:
        return f"too many open files, of {self._descriptors.limit}"

    def _all(self) -> tuple[Listener, ...]:
        return (*self._sockets, *self._links())

    def strangers(self) -> int:
        """Connections that failed to shake hands since the last call."""
        count, self._strangers = self._strangers, 0
        return count

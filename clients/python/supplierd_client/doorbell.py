"""The publisher's end of an inbox's doorbell: a place for one message, which the next one replaces until it is taken.

See supplierd.wire.doorbell. Nothing here waits, but `open` where it is asked to; wherever something is missing, the
message goes over ZeroMQ.
"""

import os
import select
import socket
import weakref
from array import array
from typing import Final

from supplierd.wire.bell import MAX_PACKET
from supplierd.wire.doorbell import GREETING, doorbell_path
from supplierd_client.putter import Putter

RETRY_AFTER: Final = 1.0
"""Seconds between two attempts to reach a daemon's doorbell."""
NOT_OVERTAKEN: Final = 1.0
"""Seconds after a frame that went inline over ZeroMQ for which the next ones take the same way, so that none overtakes
it."""
_FLAGS: Final = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC


class Doorbell:
    """The way from one publisher to one inbox. For one thread at a time.

    Args:
        endpoint: of the inbox; "" for a publisher that needs none.
    """

    def __init__(self, endpoint: str) -> None:
        self._path = doorbell_path(endpoint)
        self._line: socket.socket | None = None
        self._ends: tuple[int, ...] = ()  # descriptors of the daemon's
        self._putter: Putter | None = None
        self._retry_at = self._not_before = float("-inf")
        _OPEN.add(self)

    def open(self, seconds: float, now: float) -> bool:
        """Connect, or see what has become of that: whether messages can be put. Waits for so long, if there is somebody
        to wait for. `now`: seconds, monotonic."""
        if self._line is None and (not self._path or now < self._retry_at or not self._connect(now)):
            return False
        assert self._line is not None
        greeted = select.poll()
        greeted.register(self._line, select.POLLIN)
        if not greeted.poll(seconds * 1e3):
            return False
        greeting, descriptors = _receive(self._line)
        if greeting != GREETING or len(descriptors) != 2:
            for descriptor in descriptors:  # it is gone, has enough of us, no descriptors left, or another age
                os.close(descriptor)
            self._give_up(now)
            return False
        self._ends = tuple(descriptors)
        self._putter = Putter(self._line.fileno(), *descriptors)
        return True

    def put(self, message: bytes, now: float) -> bool:
        """Put a message in the place of the one before; False where it must go over ZeroMQ."""
        if len(message) > MAX_PACKET:
            self.yield_to(now)
            return False
        if (self._putter is None and not self.open(0.0, now)) or now < self._not_before:
            return False
        assert self._putter is not None
        if self._putter.put(message):
            return True
        self._give_up(now)
        return False

    def yield_to(self, now: float) -> None:
        """A message goes over ZeroMQ: an older one must not arrive after it, and newer ones not before it."""
        self._not_before = now + NOT_OVERTAKEN
        if self._putter is not None and not self._putter.take_back():
            self._give_up(now)

    def close(self) -> None:
        """Disconnect. What was put, the daemon still takes."""
        self._path = ""
        self._give_up(0.0)

    def _connect(self, now: float) -> bool:
        self._retry_at = now + RETRY_AFTER
        try:
            line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:  # there is no descriptor left
            return False
        try:
            line.setblocking(False)
            line.connect(self._path)
        except OSError:
            line.close()
            return False
        self._line = line
        return True

    def _give_up(self, now: float) -> None:
        """Disconnect, until the next attempt."""
        self._retry_at = now + RETRY_AFTER
        self._putter = None
        if self._line is not None:
            self._line.close()
            self._line = None
        ends, self._ends = self._ends, ()  # forgotten first: after a fork, or a signal, they would be closed again
        for descriptor in ends:
            os.close(descriptor)


def _receive(line: socket.socket) -> tuple[bytes, list[int]]:
    """A greeting, and the descriptors that came with it. `socket.recv_fds` heeds no flags: programs would inherit
    them."""
    descriptors = array("i")
    try:
        greeting, received, _, _ = line.recvmsg(len(GREETING), socket.CMSG_LEN(2 * descriptors.itemsize), _FLAGS)
    except OSError:
        return b"", []
    for _, _, data in received:
        descriptors.frombytes(data[: len(data) // descriptors.itemsize * descriptors.itemsize])
    return greeting, list(descriptors)


_OPEN: weakref.WeakSet[Doorbell] = weakref.WeakSet()


def _close_inherited() -> None:
    for doorbell in list(_OPEN):  # else the daemon takes its parent for alive, and its parent the daemon
        doorbell.close()


os.register_at_fork(after_in_child=_close_inherited)

"""The worker's end of a bell: a socket over which a daemon on this machine is asked for frames, and names them.

See supplierd.wire.bell for what is said over it.
"""

import os
import socket
import weakref
from typing import Final

from supplierd.wire.bell import MAX_PACKET, Hearer, Place
from supplierd.wire.errors import WireError
from supplierd.wire.frame import Header

NEVER_WAIT: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class HungUpError(Exception):
    """The daemon has ended the connection."""


class Bell:
    """A connection to a daemon's bells. It never waits.

    Args:
        path: of their socket.

    Attributes:
        descriptor: readable when something is there, or the connection has ended.
        more: whether something may be there.
        hearer: reads the packets that name frames.
        buffer: for packets.
        receive_into, write: the socket's own.

    Raises:
        OSError: there is none, or it has too much to do.
    """

    __slots__ = ("__weakref__", "_left", "_socket", "buffer", "descriptor", "hearer", "more", "receive_into", "write")

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.setblocking(False)
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise
        self.descriptor = self._socket.fileno()
        self.more = True
        self.hearer = Hearer()
        self._left = 0  # bytes of a packet that was put back
        self.buffer = memoryview(bytearray(MAX_PACKET))
        self.receive_into, self.write = self._socket.recv_into, self._socket.send
        _OPEN.add(self)

    def receive(self) -> memoryview | None:
        """The next packet, which lasts until the next call; None where there is none.

        Raises:
            HungUpError: there will be none.
        """
        self.more = False  # whoever waits is told again of what is left
        size = self.fetched()
        try:
            size = size or self.receive_into(self.buffer)
        except BlockingIOError:
            return None
        except ConnectionResetError:  # said once, before what was sent, by an end that left something unread
            self.more = True
            return None
        except OSError as error:
            raise HungUpError from error
        if not size:
            raise HungUpError
        return self.buffer[:size]

    def fetch(self) -> bool:
        """Have the next packet at hand, for the next `receive` or `fetched`; whether there is one, or the end."""
        if not self._left:
            try:
                self._left = self.receive_into(self.buffer)
            except BlockingIOError:
                return False
            except OSError:
                pass  # `receive` is told again, or that this is the end
        return True

    def fetched(self) -> int:
        """How many bytes of `buffer` are the packet that `fetch`, or `put_back`, has left there; it is taken."""
        size, self._left = self._left, 0
        return size

    def put_back(self, size: int) -> None:
        """The packet in `buffer` is the next one again."""
        self._left, self.more = size, True

    def frame(self, size: int) -> tuple[Header, tuple[int, int, int], Place]:
        """What the packet of this size in `buffer` says of a frame, as Hearer.frame. If a signal handler's exception
        interrupts it, the packet is the next one again: the daemon believes that it was heard.

        Raises:
            WireError: it is no such packet.
        """
        try:
            return self.hearer.frame(self.buffer[:size])
        except WireError:
            raise
        except BaseException:
            self.put_back(size)
            raise

    def send(self, packet: bytes) -> bool:
        """Send a packet; False where the daemon does not read, or is gone."""
        try:
            self.write(packet, NEVER_WAIT)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """End the connection; what was sent arrives."""
        self._socket.close()


_OPEN: weakref.WeakSet[Bell] = weakref.WeakSet()


def _close_inherited() -> None:
    for bell in list(_OPEN):  # else a child keeps the connection open, for the daemon and for whoever waits for it
        bell.close()


os.register_at_fork(after_in_child=_close_inherited)

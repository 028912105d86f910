"""A listening Unix socket of packets, as bells and doorbells have."""

import os
import select
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

_SO_PASSRIGHTS: Final = 83
"""Linux 6.16; the socket module has no name for it."""


class PacketListener:
    """A Unix socket that listens at a path, and never waits. What a killed daemon left there is removed.

    Its connections take no descriptors, where the kernel can refuse them: to drop one that a peer sent may take long,
    as with the last of a TCP connection that lingers.

    Args:
        path: where to listen; its SocketLock must be held.
        backlog: how many may knock at once.
        epoll: tells of who knocks.

    Attributes:
        descriptor: that `epoll` tells of.

    Raises:
        OSError: the path cannot be bound, or there is no descriptor left.
    """

    def __init__(self, path: Path, backlog: int, epoll: select.epoll) -> None:
        self._path, self._epoll = path, epoll
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.descriptor = self._socket.fileno()
        try:
            self._socket.setblocking(False)
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)
            path.unlink(missing_ok=True)
            self._socket.bind(str(path))
            self._file = os.stat(path)
            self._socket.listen(backlog)
            epoll.register(self.descriptor, select.EPOLLIN)
        except OSError:
            self._socket.close()
            raise

    def accept(self) -> socket.socket | None:
        """A connection, which never waits; None where there is none, or no descriptor left: whoever knocks waits until
        the next sweep."""
        try:
            connection, _ = self._socket.accept()
        except BlockingIOError:
            return None
        except OSError:
            self._epoll.modify(self.descriptor, 0)
            return None
        connection.setblocking(False)
        return connection

    def sweep(self) -> None:
        """Let in who had to wait. To be called a few times a second."""
        self._epoll.modify(self.descriptor, select.EPOLLIN)

    def close(self) -> None:
        """Listen no more. Where somebody removed our file, what lies there now is another daemon's."""
        self._socket.close()
        with suppress(OSError):
            if os.path.samestat(os.stat(self._path), self._file):
                self._path.unlink()

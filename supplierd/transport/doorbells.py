"""The doorbells: by which publishers on this machine put references to shared memory into an inbox.

No thread of libzmq is between a publisher and the loop, and nothing queues: a doorbell holds one message, and its
publisher replaces that until it is taken (supplierd.wire.doorbell). Whoever may use an inbox's file may use its
doorbell, whose file has the same mode. There are never more than MOST connections; who gets none uses ZeroMQ.
"""

import select
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supplierd.transport.inbox import Inbox
from supplierd.wire.bell import MAX_PACKET
from supplierd.wire.doorbell import GREETING, doorbell_path

MOST: Final = 32
"""For all inboxes: as many as streams, by default. Each takes two descriptors."""
BACKLOG: Final = 64
EVENTS_AT_ONCE: Final = 64


@dataclass(slots=True, eq=False)
class Doorbell:
    """One publisher's.

    Attributes:
        inbox: what it belongs to.
        line: the connection, by which each side sees that the other is there.
        end: where messages are taken.
    """

    inbox: Inbox
    line: socket.socket
    end: socket.socket


@dataclass(slots=True, eq=False)
class _Listener:
    inbox: Inbox
    path: Path
    socket: socket.socket


class Doorbells:
    """The listening sockets, and all connections to them.

    Args:
        inboxes: those that can have one get one. A socket that a killed daemon left at its path is removed, so the
            SocketLock of the inbox must be held.

    Attributes:
        descriptor: becomes readable when `take` has something to give.
        by_end: the doorbells, by the descriptors of their ends.
        turned_away: how many connections there was no room for.

    Raises:
        OSError: a path cannot be bound; its `filename` says which.
    """

    def __init__(self, inboxes: Iterable[Inbox]) -> None:
        self._epoll = select.epoll()
        self.descriptor = self._epoll.fileno()
        self.by_end: dict[int, Doorbell] = {}
        self._by_line: dict[int, Doorbell] = {}
        self._listeners: dict[int, _Listener] = {}
        self.turned_away = 0
        for inbox in inboxes:
            path = doorbell_path(inbox.endpoint)
            if path:
                try:
                    self._listen(inbox, Path(path))
                except OSError as error:
                    self.close()
                    raise OSError(error.errno, error.strerror, path) from None

    def take(self) -> Iterator[tuple[Inbox, bytes]]:
        """What has arrived: a message of each doorbell that has one; of one that is too long, more than MAX_PACKET
        bytes of it."""
        gone: dict[Doorbell, None] = {}
        for descriptor, _ in self._epoll.poll(0, EVENTS_AT_ONCE):
            if descriptor in self._listeners:
                self._accept(self._listeners[descriptor])
                continue
            doorbell = self.by_end.get(descriptor) or self._by_line.get(descriptor)
            if doorbell is None:
                continue  # closed for what was heard before
            if descriptor in self._by_line:  # its publisher is gone, or says what nobody asked for
                gone[doorbell] = None
            try:
                message = doorbell.end.recv(MAX_PACKET + 1, socket.MSG_DONTWAIT)
            except BlockingIOError:  # its publisher has taken it back
                continue
            except OSError:
                message = b""
            if message:
                yield doorbell.inbox, message
            else:
                gone[doorbell] = None
        for doorbell in gone:  # not before: a newcomer could get the descriptor of one that events still tell of
            self.end(doorbell)

    def end(self, doorbell: Doorbell) -> None:
        """End a connection: its publisher is gone, or says what nobody asked for."""
        for table, one in ((self.by_end, doorbell.end), (self._by_line, doorbell.line)):
            del table[one.fileno()]
            with suppress(OSError):
                self._epoll.unregister(one)  # its publisher's copy would keep the end in it
            one.close()

    def sweep(self) -> None:
        """Let in who had to wait. To be called a few times a second."""
        for descriptor in self._listeners:
            self._epoll.modify(descriptor, select.EPOLLIN)

    def close(self) -> None:
        """End everything."""
        for doorbell in list(self.by_end.values()):
            self.end(doorbell)
        self._epoll.close()
        for listener in self._listeners.values():
            listener.socket.close()
            listener.path.unlink(missing_ok=True)

    def _listen(self, inbox: Inbox, path: Path) -> None:
        listener = _Listener(inbox, path, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        try:
            listener.socket.setblocking(False)
            path.unlink(missing_ok=True)
            listener.socket.bind(str(path))
            listener.socket.listen(BACKLOG)
            self._epoll.register(listener.socket, select.EPOLLIN)
        except OSError:
            listener.socket.close()
            raise
        self._listeners[listener.socket.fileno()] = listener

    def _accept(self, listener: _Listener) -> None:
        try:
            line, _ = listener.socket.accept()
        except BlockingIOError:
            return
        except OSError:  # descriptors are short: whoever knocks waits until the next sweep
            self._epoll.modify(listener.socket, 0)
            return
        line.setblocking(False)
        if len(self.by_end) >= MOST:
            line.close()
            self.turned_away += 1
            return
        try:
            end, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:
            line.close()
            return
        doorbell = Doorbell(listener.inbox, line, end)
        with other:
            try:
                other.setblocking(False)
                other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_PACKET)  # of one that does not replace
                self._epoll.register(end, select.EPOLLIN)
                self._epoll.register(line, select.EPOLLIN)
                socket.send_fds(line, [GREETING], [end.fileno(), other.fileno()], socket.MSG_DONTWAIT)
            except OSError:  # it is gone already, or the kernel has no more room
                end.close()
                line.close()
                return
        self.by_end[end.fileno()] = self._by_line[line.fileno()] = doorbell

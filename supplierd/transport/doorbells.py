"""The doorbells: by which publishers on this machine put references to shared memory into an inbox.

No thread of libzmq is between a publisher and the loop, and nothing queues: a doorbell holds one message, and its
publisher replaces that until it is taken (supplierd.wire.doorbell). At what a publisher has in its hands the loop only
looks, and so cannot be made to wait: it reads the file by pread, and the eventfd never, being told of each write to it
(EPOLLET). Whoever may use an inbox's file may use its doorbell, whose file has the same mode. There are never more than
MOST connections; who gets none uses ZeroMQ.
"""

import errno
import fcntl
import os
import select
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supplierd.transport.inbox import Inbox
from supplierd.transport.packets import PacketListener
from supplierd.wire.doorbell import GREETING, SIZE, decode_put, doorbell_path

MOST: Final = 32
"""For all inboxes: as many as streams, by default."""
DESCRIPTORS: Final = 3
"""That each takes."""
BACKLOG: Final = 64
EVENTS_AT_ONCE: Final = 64
_MFD_NOEXEC_SEAL: Final = 8
"""Linux 6.3; the os module has no name for it."""
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


@dataclass(slots=True, eq=False)
class Doorbell:
    """One publisher's.

    Attributes:
        inbox: what it belongs to.
        line: the connection, by which each side sees that the other is there.
        file: descriptor of where messages are put.
        event: descriptor of what tells of them.
        number: of the put that was taken last; -1 before the first.
    """

    inbox: Inbox
    line: socket.socket
    file: int
    event: int
    number: int = -1

    def take(self) -> bytes:
        """The message that was put; b"" where there is none, or it was taken."""
        found = decode_put(os.pread(self.file, SIZE, 0))
        if found is None or found[0] == self.number:
            return b""
        self.number, message = found
        return message


class Doorbells:
    """The listening sockets, and all connections to them.

    Args:
        inboxes: those that can have one get one. A socket that a killed daemon left at its path is removed, so the
            SocketLock of the inbox must be held.

    Attributes:
        descriptor: becomes readable when `take` has something to give.
        by_event: the doorbells, by the descriptors of their eventfds.
        turned_away: how many connections there was no room for.

    Raises:
        OSError: a path cannot be bound; its `filename` says which.
    """

    def __init__(self, inboxes: Iterable[Inbox]) -> None:
        self._epoll = select.epoll()
        self.descriptor = self._epoll.fileno()
        self.by_event: dict[int, Doorbell] = {}
        self._by_line: dict[int, Doorbell] = {}
        self._listeners: dict[int, tuple[PacketListener, Inbox]] = {}
        self.turned_away = 0
        for inbox in inboxes:
            path = doorbell_path(inbox.endpoint)
            if path:
                try:
                    listener = PacketListener(Path(path), BACKLOG, self._epoll)
                except OSError as error:
                    self.close()
                    raise OSError(error.errno, error.strerror, path) from None
                self._listeners[listener.descriptor] = listener, inbox

    def take(self) -> Iterator[tuple[Inbox, bytes]]:
        """What has arrived: the message of each doorbell that has one."""
        gone: list[Doorbell] = []
        for descriptor, _ in self._epoll.poll(0, EVENTS_AT_ONCE):
            if descriptor in self._listeners:
                self._accept(*self._listeners[descriptor])
                continue
            doorbell = self.by_event.get(descriptor)
            if doorbell is None:
                doorbell = self._by_line.get(descriptor)
                if doorbell is None:
                    continue
                gone.append(doorbell)  # its publisher is gone, or says what nobody asked for
            message = doorbell.take()
            if message:
                yield doorbell.inbox, message
        for doorbell in gone:  # not before: a newcomer could get the descriptor of one that events still tell of
            self._end(doorbell)

    def sweep(self) -> None:
        """Let in who had to wait. To be called a few times a second."""
        for listener, _ in self._listeners.values():
            listener.sweep()

    def close(self) -> None:
        """End everything."""
        for doorbell in list(self.by_event.values()):
            self._end(doorbell)
        self._epoll.close()
        for listener, _ in self._listeners.values():
            listener.close()

    def _accept(self, listener: PacketListener, inbox: Inbox) -> None:
        line = listener.accept()
        if line is None:
            return
        if len(self.by_event) >= MOST:
            line.close()
            self.turned_away += 1
            return
        ends: list[int] = []
        try:
            ends.append(_make_file())
            os.ftruncate(ends[0], SIZE)
            fcntl.fcntl(ends[0], fcntl.F_ADD_SEALS, _SEALS)
            ends.append(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
            self._epoll.register(ends[1], select.EPOLLIN | select.EPOLLET)
            self._epoll.register(line, select.EPOLLIN)
            socket.send_fds(line, [GREETING], ends, socket.MSG_DONTWAIT)
        except OSError:  # it is gone already, or the kernel has no more room
            for end in ends:
                os.close(end)
            line.close()
            return
        self.by_event[ends[1]] = self._by_line[line.fileno()] = Doorbell(inbox, line, *ends)

    def _end(self, doorbell: Doorbell) -> None:
        del self.by_event[doorbell.event], self._by_line[doorbell.line.fileno()]
        self._epoll.unregister(doorbell.event)  # its publisher's copy would keep it there
        self._epoll.unregister(doorbell.line)
        os.close(doorbell.event)
        os.close(doorbell.file)
        doorbell.line.close()


def _make_file() -> int:
    """A file in memory that nobody can execute, where the kernel knows of that; with `vm.memfd_noexec=2` some make no
    other. Raises OSError."""
    name, flags = "supplierd-doorbell", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(name, flags | _MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.memfd_create(name, flags)

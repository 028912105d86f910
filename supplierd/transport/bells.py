"""The bells: one Unix socket of packets for each worker on this machine, over which descriptors and demands go.

A packet is one system call, and no thread of libzmq is between the worker and the loop. Nothing queues here: a worker
is sent a frame only after it has asked, and it asks for one at a time. A connection belongs to nobody until a message
names its session; connections that name none are closed after HANDSHAKE seconds, and there are never more than
`most` of them.
"""

import select
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from supplierd.transport.control import Peer
from supplierd.transport.packets import PacketListener
from supplierd.transport.sockets import Message
from supplierd.wire.bell import MAX_PACKET, Told, encode_head

HANDSHAKE: Final = 2.0
"""Seconds, as libzmq gives a silent client."""
BACKLOG: Final = 1024
EVENTS_AT_ONCE: Final = 64
"""Packets that one turn hears: they take at most two or three milliseconds, and frames wait meanwhile."""
_NEVER_WAIT: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class Bell:
    """One connection.

    Attributes:
        descriptor: of its socket.
        opened_at: seconds, monotonic.
        told: which heads its peer knows.
        worker: the name of the worker whose session was named on it; "" before.
    """

    __slots__ = ("_send", "_socket", "descriptor", "opened_at", "receive", "told", "worker")

    def __init__(self, connection: socket.socket, opened_at: float) -> None:
        self._socket = connection
        self.descriptor = connection.fileno()
        self._send, self.receive = connection.send, connection.recv
        self.told = Told()
        self.opened_at = opened_at
        self.worker = ""

    def ring(self, head: int, short: bytes, message: Message) -> bool:
        """Hand over a frame in shared memory; False where its message is too long, or the peer does not read.

        Args:
            head: number of its head; 0: it has none of its own, and goes by other ways.
            short: the frame's short form.
            message: the whole one.
        """
        known = self.told.knows(head)
        if not known:
            if not head or len(message) > MAX_PACKET // 2:
                return False
            short = encode_head(head, message.bytes)
        try:
            self._send(short, _NEVER_WAIT)
        except OSError:  # the peer does not read, or is gone, which the next look shows
            return False
        if not known:
            self.told.tell(head)
        return True

    def send(self, _: Peer, message: bytes) -> None:
        """Answer the peer; one that is gone, or does not read, is passed over."""
        with suppress(OSError):
            self._send(message, _NEVER_WAIT)

    def close(self) -> None:
        """End the connection, after what was sent."""
        self._socket.close()


class Bells:
    """The listening socket, and all connections to it.

    Args:
        path: where to listen; a socket that a killed daemon left is removed, so the path's SocketLock must be held.
        most: how many connections there may be.

    Attributes:
        connections: by descriptor.
        descriptor: becomes readable when `take` has something to give.

    Raises:
        OSError: the path cannot be bound.
    """

    def __init__(self, path: Path, most: int) -> None:
        self.path = path
        self._most = most
        self.connections: dict[int, Bell] = {}
        self._strangers = 0
        self._epoll = select.epoll()
        try:
            self._listener = PacketListener(path, BACKLOG, self._epoll)
        except OSError:
            self._epoll.close()
            raise
        self.descriptor = self._epoll.fileno()

    def take(self, now: float) -> Iterator[tuple[Bell, bytes]]:
        """What has arrived: a packet of each connection that has one; b"" where a connection has ended."""
        listener = self._listener.descriptor
        for descriptor, _ in self._epoll.poll(0, EVENTS_AT_ONCE):
            if descriptor == listener:
                self._accept(now)
                continue
            bell = self.connections.get(descriptor)
            if bell is None:
                continue  # closed for what was heard before
            try:
                packet = bell.receive(MAX_PACKET)
            except (BlockingIOError, ConnectionResetError):
                continue  # one that ended with something unread is reset once, before what it sent, such as its LEAVE
            except OSError:
                packet = b""
            yield bell, packet

    def close(self, bell: Bell) -> None:
        """End a connection. May be repeated."""
        if self.connections.get(bell.descriptor) is bell:
            del self.connections[bell.descriptor]
            self._strangers += not bell.worker
            bell.close()

    def sweep(self, now: float) -> None:
        """End the connections that have named no session in time. To be called a few times a second."""
        self._listener.sweep()
        for bell in list(self.connections.values()):
            if not bell.worker and now - bell.opened_at >= HANDSHAKE:
                self.close(bell)

    def strangers(self) -> int:
        """Connections that ended without naming a session since the last call."""
        count, self._strangers = self._strangers, 0
        return count

    def shut(self) -> None:
        """End everything."""
        for bell in list(self.connections.values()):
            self.close(bell)
        self._epoll.close()
        self._listener.close()

    def _accept(self, now: float) -> None:
        connection = self._listener.accept()
        if connection is None:
            return
        if len(self.connections) >= self._most:
            connection.close()
            self._strangers += 1
            return
        try:
            self._epoll.register(connection, select.EPOLLIN)
        except OSError:  # the kernel has no more room for it
            connection.close()
            return
        self.connections[connection.fileno()] = Bell(connection, now)

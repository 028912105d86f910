"""One worker's own socket: a conflated PUSH, bound at an endpoint that is new for each session, so that no second
client can take a share of its frames. A frame goes to all links by reference; nothing is copied.

A conflated PUSH never blocks on a slow peer and replaces what that has not fetched; without a peer it says EAGAIN, and
POLLOUT shows whether there is one.
"""

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import zmq

from supplierd.transport.curve import Lock
from supplierd.transport.listener import Listener
from supplierd.transport.lock import IPC
from supplierd.transport.sockets import TCP_BUFFER_BYTES, WORKERS_PER_IO_THREAD, Context, Socket, open_socket, readable
from supplierd.wire.endpoints import ipc

MAX_INBOUND_BYTES: Final = 1024
"""A PUSH receives nothing but handshakes."""
FLOOD: Final = 512
"""Events of connections between two looks beyond which a link is flooded: its worker makes two or three."""


class Link(Listener):
    """A worker's socket.

    Args:
        context: of the daemon.
        endpoint: where to bind; a tcp port of "*" is chosen by the system.
        affinity: bit mask of I/O threads; 0: any.
        lock: the keys of which the worker needs one, on tcp.

    Attributes:
        was_connected: whether there ever was a peer.
        flooded: whether more connections come and go than can be looked at.

    Raises:
        zmq.ZMQError: the endpoint cannot be bound.
    """

    def __init__(self, context: Context, endpoint: str, affinity: int = 0, lock: Lock | None = None) -> None:
        self._context = context
        self._affinity = affinity
        self.was_connected = self.flooded = False
        super().__init__(endpoint, lock)
        self.endpoint = self.socket.get_string(zmq.LAST_ENDPOINT)

    def _make(self) -> Socket:
        socket = open_socket(self._context, zmq.PUSH, MAX_INBOUND_BYTES)
        socket.set(zmq.CONFLATE, 1)
        socket.set(zmq.SNDBUF, TCP_BUFFER_BYTES)
        socket.set(zmq.AFFINITY, self._affinity)
        return socket

    def send(self, message: zmq.Frame) -> bool:
        """Hand over a frame, in place of one that the peer has not fetched; False where there is no peer."""
        try:
            self.socket.send(message, zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        self.was_connected = True
        return True

    def connected(self) -> bool:
        """Whether a peer is there."""
        there = bool(int(self.socket.get(zmq.EVENTS)) & zmq.POLLOUT)
        self.was_connected = self.was_connected or there
        return there

    def strangers(self) -> int:
        """As the original; to be called a few times a second."""
        count = self._strangers.take(FLOOD)
        self.flooded = readable(self.events)
        return count

    def pause(self) -> None:
        """As the original; a flood ends with it."""
        super().pause()
        self._strangers.skip()
        self.flooded = False

    def close(self) -> None:
        """Unbind; a frame not yet fetched is destroyed."""
        super().close()
        if self.local:
            Path(self.endpoint.removeprefix(IPC)).unlink(missing_ok=True)


class LinkFactory:
    """Opens links where workers can reach them.

    Args:
        context: of the daemon, with `io_threads` threads.
        runtime_dir: where ipc links are bound.
        ports: for tcp links, tried in turn.
        lock: gives the lock of a worker's link by the worker's name.
    """

    def __init__(
        self,
        context: Context,
        io_threads: int,
        runtime_dir: Path,
        ports: range,
        lock: Callable[[str], Lock | None] = lambda _: None,
    ) -> None:
        self._context = context
        self._io_threads = io_threads
        self._runtime_dir = runtime_dir
        self._ports = ports
        self._lock = lock
        self._next_port = self._cycle()
        self._opened = 0

    def _cycle(self) -> Iterator[int]:
        while True:
            yield from self._ports

    def open(self, control_endpoint: str, worker: str = "") -> Link:
        """A link for a worker that talks over `control_endpoint`: ipc beside ipc, tcp on the same address beside tcp.

        Raises:
            zmq.ZMQError: no endpoint can be bound.
        """
        affinity = self._affinity()
        if control_endpoint.startswith(IPC):
            return Link(self._context, ipc(self._runtime_dir / link_name()), affinity)
        lock = self._lock(worker)
        host = control_endpoint.rpartition(":")[0]
        for _ in self._ports:
            try:
                return Link(self._context, f"{host}:{next(self._next_port)}", affinity, lock)
            except zmq.ZMQError as error:
                if error.errno != zmq.EADDRINUSE:
                    raise
        raise zmq.ZMQError(zmq.EADDRINUSE)

    def open_at(self, endpoint: str, worker: str = "") -> Link:
        """A link at a fixed endpoint, for a worker without a client.

        Raises:
            zmq.ZMQError: the endpoint cannot be bound.
        """
        return Link(self._context, endpoint, self._affinity(), self._lock(worker))

    def _affinity(self) -> int:
        """The first eight workers share the first I/O thread, the next eight the second …"""
        thread = self._opened // WORKERS_PER_IO_THREAD % self._io_threads
        self._opened += 1
        return 1 << thread


def link_name() -> str:
    """A socket's file name that was not used before: an old session's client can never meet a new one's socket."""
    return f"w-{secrets.token_hex(6)}.sock"


def remove_dead_links(runtime_dir: Path) -> int:
    """Remove the workers' sockets that a killed daemon left. To be called with the runtime directory's lock held."""
    removed = 0
    for path in runtime_dir.glob("w-*.sock"):
        os.unlink(path)
        removed += 1
    return removed

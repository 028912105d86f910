"""Peers that do not use our client: plain ZeroMQ sockets, and connections that speak whatever bytes they like."""

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, NoReturn, Self

import zmq

from supplierd.wire import control
from supplierd.wire import frame as wire
from supplierd.wire.endpoints import machine_boot_id
from tests.support.waiting import DEADLINE, wait_for

PlainSocket = zmq.Socket[bytes]

ZMTP_1: Final = b"\x01\x00"
"""What a peer of ZMTP/1.0 begins with: an anonymous identity. Messages follow, with no handshake."""


def no_socket() -> NoReturn:
    """In place of what makes a socket: no descriptor is left for one."""
    raise zmq.ZMQError(errno.EMFILE)


@contextmanager
def plain(kind: int, endpoint: str, **options: Any) -> Iterator[PlainSocket]:
    """A connected socket of any type; options by their name in lower case."""
    with zmq.Context() as context, context.socket(kind) as connected:
        connected.set(zmq.LINGER, 0)
        for name, value in options.items():
            connected.set(getattr(zmq, name.upper()), value)
        connected.connect(endpoint)
        yield connected


@contextmanager
def raw_connection(endpoint: str) -> Iterator[socket.socket]:
    """A bare connection to an ipc or tcp endpoint."""
    family = socket.AF_UNIX if endpoint.startswith("ipc://") else socket.AF_INET
    with socket.socket(family) as connection:
        if family == socket.AF_UNIX:
            connection.connect(endpoint.removeprefix("ipc://"))
        else:
            host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
            connection.connect((host, int(port)))
        connection.settimeout(DEADLINE)
        yield connection


def zmtp_1_message(body: bytes) -> bytes:
    """A message part in the framing of ZMTP/1.0."""
    length = len(body) + 1
    size = bytes([length]) if length < 255 else b"\xff" + length.to_bytes(8, "big")
    return size + b"\x00" + body


@contextmanager
def raw_push(endpoint: str) -> Iterator[socket.socket]:
    """A bare connection that has shaken hands as a PUSH of ZMTP/3.0, and may now send what it likes."""
    ready = b"\x05READY" + b"\x0bSocket-Type" + (4).to_bytes(4, "big") + b"PUSH"
    with raw_connection(endpoint) as connection:
        connection.sendall(b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
        connection.sendall(b"\x04" + bytes([len(ready)]) + ready)
        heard = b""
        while b"READY" not in heard:
            more = connection.recv(4096)
            if not more:
                raise ConnectionResetError("the daemon refuses the handshake")
            heard += more
        yield connection


def zmtp_3_head(size: int, more: bool = False) -> bytes:
    """The announcement of a message part in the framing of ZMTP/3.0."""
    return bytes([2 | more]) + size.to_bytes(8, "big")


def zmtp_3_part(body: bytes, more: bool = False) -> bytes:
    """A message part in the framing of ZMTP/3.0."""
    return zmtp_3_head(len(body), more) + body


def dropped_by_peer(connection: socket.socket) -> bool:
    """Whether the other side closes the connection; waits for it."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        pass
    return True


def frame_message(
    stream: str = "cam-1", seq: int = 1, payload: bytes = b"pixels", epoch: int | None = None, **fields: Any
) -> bytes:
    """A frame message as any publisher may build it."""
    header = wire.Header(
        stream,
        time.monotonic_ns() if epoch is None else epoch,
        machine_boot_id(),
        seq,
        time.time_ns(),
        time.monotonic_ns(),
        encoding="bytes",
        **fields,
    )
    return wire.encode_head(header) + payload


class Talk:
    """A peer of the control channel that says what it is told to, and hears the answers."""

    def __init__(self, endpoint: str) -> None:
        self._context: zmq.Context[PlainSocket] = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.set(zmq.LINGER, 0)
        self.socket.connect(endpoint)

    def ask(self, message: control.FromClient | bytes) -> control.FromDaemon:
        """Say something, and hear the next answer."""
        self.socket.send(message if isinstance(message, bytes) else control.encode(message))
        return self.hear()

    def hear(self) -> control.FromDaemon:
        """The next message."""
        assert self.socket.poll(round(DEADLINE * 1e3)), "the daemon says nothing"
        return control.decode_from_daemon(self.socket.recv())

    def silent(self, milliseconds: int = 100) -> bool:
        """Whether nothing is said for a while."""
        return not self.socket.poll(milliseconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.destroy(linger=0)


class Background:
    """Something done over and over in a thread, until told to end; what it raises is raised again at the end.

    Args:
        step: what is done.
        every: seconds between two turns.
        limit: how often it is done at most; None: until told to end.

    Attributes:
        turns: how often it was done.
    """

    def __init__(self, step: Callable[[], object], every: float = 0.0, limit: int | None = None) -> None:
        self.turns = 0
        self._step = step
        self._every = every
        self._limit = limit
        self._over = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            while self.turns != self._limit and not self._over.wait(self._every):
                self._step()
                self.turns += 1
        except BaseException as error:  # told to whoever waits
            self._error = error

    @property
    def done(self) -> bool:
        """Whether it has been done as often as it shall be, or has failed."""
        return not self._thread.is_alive()

    def wait_turns(self, count: int) -> None:
        """Wait for so many more turns."""
        wanted = self.turns + count
        wait_for(lambda: self.turns >= wanted or self._error, f"{count} turns")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(DEADLINE)
        if self._error is not None and error is None:
            raise self._error

"""What the client's sockets have in common: options, endpoints, and the check for a forked child."""

import os
from pathlib import Path
from typing import Final

import zmq

from supplierd.wire import endpoints
from supplierd_client.errors import ForkedError

TCP_BUFFER_BYTES: Final = 64 * 1024
"""Default buffers hide dozens of frames on a slow link, seconds old; ipc ignores the option."""
RECONNECT_MS: Final = 50
RECONNECT_MAX_MS: Final = 500
"""Between attempts to reach a daemon that is away: a restarted one is found within half a second."""
TCP_DEAD_AFTER_MS: Final = 5_000
_POLLIN: Final = int(zmq.POLLIN)  # a plain number: the enumeration's & costs a microsecond
MAX_MESSAGE_BYTES: Final = 1024 * 1024 * 1024
"""What a daemon may send; its own limit for frames is lower."""


def connect(
    context: "zmq.Context[zmq.Socket[bytes]]", kind: int, endpoint: str, conflate: bool = False
) -> "zmq.Socket[bytes]":
    """A connected socket.

    Raises:
        ValueError: the endpoint is not one that ZeroMQ understands.
    """
    socket = context.socket(kind)
    options = {
        zmq.LINGER: 0,
        zmq.MAXMSGSIZE: MAX_MESSAGE_BYTES,
        zmq.RECONNECT_IVL: RECONNECT_MS,
        zmq.RECONNECT_IVL_MAX: RECONNECT_MAX_MS,
        zmq.SNDBUF: TCP_BUFFER_BYTES,
        zmq.RCVBUF: TCP_BUFFER_BYTES,
        zmq.TCP_MAXRT: TCP_DEAD_AFTER_MS,
        zmq.TCP_KEEPALIVE: 1,
        zmq.TCP_KEEPALIVE_IDLE: 1,
        zmq.TCP_KEEPALIVE_INTVL: 1,
        zmq.TCP_KEEPALIVE_CNT: TCP_DEAD_AFTER_MS // 1_000,
    }
    if kind != zmq.PULL:
        options[zmq.IMMEDIATE] = 1  # without a connection say so; don't keep what will be stale
    if conflate:
        options[zmq.CONFLATE] = 1
    for option, value in options.items():
        socket.set(option, value)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        socket.close()
        raise ValueError(
            f"endpoint {endpoint!r} cannot be used: {error.strerror}; "
            "give one like ipc:///run/supplierd/control.sock or tcp://host:port"
        ) from None
    return socket


def readable(socket: "zmq.Socket[bytes]") -> bool:
    """Whether a message can be received: cheaper to ask than to catch the exception of a receive that cannot."""
    return bool(int(socket.get(zmq.EVENTS)) & _POLLIN)


def default_inbox(runtime_dir: str | os.PathLike[str] | None) -> str:
    """The inbox in the runtime directory."""
    return endpoints.inbox_endpoint(endpoints.runtime_dir(runtime_dir))


def default_control(runtime_dir: str | os.PathLike[str] | None) -> str:
    """The control channel in the runtime directory."""
    return endpoints.control_endpoint(endpoints.runtime_dir(runtime_dir))


def local_directory(endpoint: str) -> Path | None:
    """The directory of an ipc endpoint; None for another transport."""
    return Path(endpoint.removeprefix("ipc://")).parent if endpoint.startswith("ipc://") else None


class ProcessGuard:
    """Remembers the process that made an object: ZeroMQ's sockets do not survive a fork."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._pid = os.getpid()

    @property
    def forked(self) -> bool:
        """Whether this is another process."""
        return os.getpid() != self._pid

    def check(self) -> None:
        """Raise ForkedError in a forked child."""
        if os.getpid() != self._pid:
            raise ForkedError(
                f"this {self._what} belongs to process {self._pid}, and this is its forked child {os.getpid()}: "
                f'create a {self._what} in the child, or start it with multiprocessing\'s "spawn" method'
            )

"""What the client's sockets have in common: options, endpoints, and the check for a forked child."""

import logging
import math
import os
import time
import weakref
from pathlib import Path
from typing import Final, NoReturn

import zmq

from supplierd.wire import endpoints
from supplierd.wire.keys import ClientKeys
from supplierd_client.errors import ForkedError

TCP_BUFFER_BYTES: Final = 64 * 1024
"""Default buffers hide dozens of frames on a slow link, seconds old; ipc ignores the option."""
RECONNECT_MS: Final = 50
RECONNECT_MAX_MS: Final = 500
"""Between attempts to reach a daemon that is away: a restarted one is found within half a second."""
TCP_DEAD_AFTER_MS: Final = 5_000
CONNECT_TIMEOUT_MS: Final = 2_000
"""The kernel waits longer and longer between its attempts: after a partition of 14 s for another 4 s."""
MAX_MESSAGE_BYTES: Final = 1024 * 1024 * 1024
"""What a daemon may send; its own limit for frames is lower."""


UNREACHED_AFTER: Final = 5.0
"""Seconds without a connection after which the log says so."""

log = logging.getLogger("supplierd_client")


def deadline_after(timeout: float | None) -> float:
    """When a wait of so many seconds is over: seconds, monotonic. None: never.

    Raises:
        TypeError, ValueError: it is no number of seconds.
    """
    if timeout is None:
        return float("inf")
    seconds = float(timeout)
    if math.isnan(seconds):
        raise ValueError(f"timeout is {timeout!r}: give seconds, or None to wait for ever")
    return time.monotonic() + seconds


class Alone:
    """What cannot be copied: it has sockets, which belong to one object."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        name = type(self).__name__
        raise TypeError(f"a {name} cannot be copied or pickled: make a {name} where one is needed")


class Reach:
    """Says once that nobody lets us in, and what may be the reason: a daemon does not tell a key that it refuses.

    Args:
        endpoint: of the daemon.
        keys: the ones that are shown there.
    """

    def __init__(self, endpoint: str, keys: ClientKeys | None) -> None:
        self._endpoint = endpoint
        self._hint = "is it running?"
        if keys is not None:
            self._hint = f"is it running, and is key {keys.own.public} in its configuration, for this?"
        elif endpoint.startswith("tcp:"):
            self._hint = "is it running, and does it ask for keys (key and server_key)?"
        self._since: float | None = None
        self._told = False

    def failed(self, now: float) -> None:
        """Something could not be sent, for want of a connection. `now`: seconds, monotonic."""
        if self._since is None:
            self._since = now
        elif now - self._since >= UNREACHED_AFTER:
            hint = endpoints.barred(self._endpoint) or self._hint
            log.warning("no daemon has answered at %s for %g s: %s", self._endpoint, UNREACHED_AFTER, hint)
            self._since, self._told = float("inf"), True  # never again

    def reached(self) -> None:
        """Something was sent."""
        self._since = None
        if self._told:
            self._told = False
            log.info("the daemon answers again at %s", self._endpoint)


def connect(
    context: "zmq.Context[zmq.Socket[bytes]]",
    kind: int,
    endpoint: str,
    conflate: bool = False,
    keys: ClientKeys | None = None,
) -> "zmq.Socket[bytes]":
    """A connected socket, which shows `keys` where the daemon asks for them.

    Raises:
        ValueError: the endpoint is not one that ZeroMQ understands.
    """
    endpoints.check_endpoint(endpoint)
    socket = context.socket(kind)
    options = {
        zmq.LINGER: 0,
        zmq.MAXMSGSIZE: MAX_MESSAGE_BYTES,
        zmq.RECONNECT_IVL: RECONNECT_MS,
        zmq.RECONNECT_IVL_MAX: RECONNECT_MAX_MS,
        zmq.SNDBUF: TCP_BUFFER_BYTES,
        zmq.RCVBUF: TCP_BUFFER_BYTES,
        zmq.TCP_MAXRT: TCP_DEAD_AFTER_MS,
        zmq.CONNECT_TIMEOUT: CONNECT_TIMEOUT_MS,
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
    if keys is not None:
        socket.set(zmq.CURVE_PUBLICKEY, keys.own.public.encode())
        socket.set(zmq.CURVE_SECRETKEY, keys.own.secret.encode())
        socket.set(zmq.CURVE_SERVERKEY, keys.server.encode())
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        socket.close()
        raise ValueError(endpoints.unusable(endpoint, error.strerror)) from None
    return socket


LONGEST_WAIT: Final = (1 << 31) - 1
"""Milliseconds that one poll can wait: a C int's."""
_POLLIN: Final = int(zmq.POLLIN)  # plain numbers: an enumeration's & costs a microsecond
_NOBLOCK: Final = int(zmq.NOBLOCK)


class Source:
    """A socket to receive from.

    Whoever waits with zmq_poll is told of all that is there, and takes one message at a time. A descriptor tells of
    changes only: after its signal the socket must be received from until nothing is left, or the next message comes
    without one. A send may swallow a signal, so after a wait in vain `more` is set, too.

    Args:
        socket: the ZeroMQ socket.
        by_descriptor: whether it is the descriptor that is waited for.

    Attributes:
        by_descriptor: the same; it may be changed, with `more` set.
        descriptor: becomes readable when something may have arrived.
        more: whether something may be there.
    """

    __slots__ = ("_events", "_receive", "_send", "by_descriptor", "descriptor", "more", "socket")

    def __init__(self, socket: "zmq.Socket[bytes]", by_descriptor: bool) -> None:
        self.socket = socket
        self.descriptor = int(socket.get(zmq.FD))
        self.more = True
        self.by_descriptor = by_descriptor
        self._events, self._receive, self._send = socket.get, socket.recv, socket.send  # looked up once: it is slow

    def receive(self) -> zmq.Frame | None:
        """The next message; None where nothing is left."""
        if not self.by_descriptor:
            self.more = False
        elif not int(self._events(zmq.EVENTS)) & _POLLIN:  # costs less than the exception of a receive in vain
            self.more = False
            return None
        try:
            return self._receive(_NOBLOCK, False)
        except zmq.Again:  # the message may have gone with its sender
            self.more = False
            return None

    def send(self, message: bytes) -> bool:
        """Send a message; False where there is no connection for it."""
        try:
            self._send(message, _NOBLOCK)
        except zmq.Again:
            return False
        return True


def default_inbox(runtime_dir: str | os.PathLike[str] | None) -> str:
    """The inbox in the runtime directory."""
    return endpoints.inbox_endpoint(endpoints.runtime_dir(runtime_dir))


def default_control(runtime_dir: str | os.PathLike[str] | None) -> str:
    """The control channel in the runtime directory."""
    return endpoints.control_endpoint(endpoints.runtime_dir(runtime_dir))


def reachable(endpoint: str, control: str) -> str:
    """Where a worker finds the endpoint that the daemon named: on the control channel's host for tcp, and beside its
    socket where this process (in a container) sees the runtime directory at another path."""
    if endpoint.startswith("ipc://"):
        beside = Path(control.removeprefix("ipc://")).parent / Path(endpoint).name
        return (
            f"ipc://{beside}" if not os.path.exists(endpoint.removeprefix("ipc://")) and beside.exists() else endpoint
        )
    return endpoint.replace("tcp://*", control.rpartition(":")[0], 1)


def reachable_bell(path: str, control: str) -> str:
    """The same for the path of a daemon's bells."""
    return reachable(f"ipc://{path}", control).removeprefix("ipc://")


def local_directory(endpoint: str) -> Path | None:
    """The directory of an ipc endpoint; None for another transport."""
    return Path(endpoint.removeprefix("ipc://")).parent if endpoint.startswith("ipc://") else None


class ProcessGuard:
    """Remembers the process that made an object: ZeroMQ's sockets do not survive a fork.

    Attributes:
        forked: whether this is another process.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._pid = os.getpid()
        self.forked = False
        _GUARDS.add(self)

    def check(self) -> None:
        """Raise ForkedError in a forked child."""
        if self.forked:
            raise ForkedError(
                f"this {self._what} belongs to process {self._pid}, and this is its forked child {os.getpid()}: "
                f'create a {self._what} in the child, or start it with multiprocessing\'s "spawn" method'
            )


_GUARDS: weakref.WeakSet[ProcessGuard] = weakref.WeakSet()


def _forked() -> None:
    for guard in list(_GUARDS):
        guard.forked = True


os.register_at_fork(after_in_child=_forked)

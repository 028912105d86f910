"""The bells of a running daemon: a worker's end that speaks by hand, and how to see who is connected and what comes by
other ways."""

import secrets
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import pytest
import zmq
from supplierd_client.sockets import Source

from supplierd.wire import bell, control
from supplierd.wire import frame as wire
from supplierd.wire.endpoints import BELL_SOCKET
from tests.support.daemon import Daemon
from tests.support.peers import PlainSocket, Talk, plain
from tests.support.waiting import DEADLINE, wait_for

_CONNECTED = "03"
"""The state of a connection in /proc/net/unix."""


def bell_path(daemon: Daemon) -> Path:
    """Where a daemon's bells listen."""
    return daemon.runtime_dir / BELL_SOCKET


def connected(daemon: Daemon) -> int:
    """How many connections to its bells a daemon has."""
    return connections(bell_path(daemon))


def connections(path: Path) -> int:
    """How many connections there are to what listens at a path, under which the kernel shows the ends there."""
    lines = (line.split() for line in Path("/proc/net/unix").read_text().splitlines())
    return sum(fields[5] == _CONNECTED for fields in lines if fields[-1] == str(path))


class Heard(NamedTuple):
    """A frame that a bell named."""

    kind: str
    stream: str
    epoch: int
    seq: int
    place: bell.Place


class BellPeer:
    """A worker's end of a bell that says what it is told to, and hears the answers."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(str(path))
        self._hearer = bell.Hearer()

    def say(self, message: bytes | control.FromClient) -> None:
        """Send a packet."""
        self.socket.send(message if isinstance(message, bytes) else control.encode(message))

    def demand(self, session: int, number: int, settled: control.Settled | None = None, leases: int = 0) -> None:
        """Send a short demand."""
        self.say(bell.encode_demand(session, number, settled, leases))

    def hear(self) -> Heard | control.FromDaemon:
        """The next packet."""
        packet = self.socket.recv(bell.MAX_PACKET)
        assert packet, "the daemon has hung up"
        if packet[0] not in (bell.FRAME_KIND, bell.HEAD_KIND):
            return control.decode_from_daemon(packet)
        header, (seq, _, _), place = self._hearer.frame(memoryview(packet))
        return Heard(chr(packet[0]), header.stream, header.epoch, seq, place)

    def frame(self) -> Heard:
        """The next packet, which names a frame."""
        heard = self.hear()
        assert isinstance(heard, Heard), heard
        return heard

    def hung_up(self) -> bool:
        """Whether the daemon ends the connection, with nothing more to say; waits for it."""
        try:
            return self.socket.recv(bell.MAX_PACKET) == b""
        except ConnectionResetError:  # it left something unread
            return self.hung_up()

    def silent(self, seconds: float = 0.1) -> bool:
        """Whether nothing is said for a while."""
        self.socket.settimeout(seconds)
        try:
            self.socket.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(DEADLINE)
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()


def join_of(name: str = "w", **changes: Any) -> control.Join:
    """A JOIN of a worker that reads arenas."""
    fields = {
        "worker": name,
        "instance": secrets.token_bytes(16),
        "attempt": 1,
        "versions": [control.VERSION],
        "client": "test",
        "streams": ["*"],
        "arena": "",
    }
    return control.Join(**{**fields, **changes})


class Hand(AbstractContextManager["Hand"]):
    """A whole worker that is played by hand: control channel, link and bell.

    Attributes:
        welcome: what it was welcomed with.
    """

    def __init__(self, daemon: Daemon, join: control.Join | None = None) -> None:
        self._daemon = daemon
        self._stack = ExitStack()
        self.talk = self._stack.enter_context(Talk(daemon.control))
        answer = self.talk.ask(join or join_of())
        assert isinstance(answer, control.Welcome), answer
        self.welcome = answer
        self.session = answer.session
        self.link: PlainSocket = self._stack.enter_context(plain(zmq.PULL, answer.endpoint))
        self.bell = self.another_bell()

    def another_bell(self) -> BellPeer:
        """One more connection to the daemon's bells."""
        return self._stack.enter_context(BellPeer(bell_path(self._daemon)))

    def demand(self, number: int, settled: control.Settled | None = None) -> None:
        """Send a short demand over the bell."""
        self.bell.demand(self.session, number, settled)

    def by_link(self) -> wire.Header | None:
        """The frame that has come by ZeroMQ, if one has."""
        return wire.decode(self.link.recv()) if self.link.poll(0) else None

    def next_by_link(self) -> wire.Header:
        """The next frame that comes by ZeroMQ."""
        return wait_for(self.by_link, "a frame by ZeroMQ")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


class PulledFrames:
    """The frames that the workers of this process have received by ZeroMQ.

    Attributes:
        seqs: their numbers, in order.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seqs: list[int] = []
        receive: Callable[[Source], zmq.Frame | None] = Source.receive

        def counted(source: Source) -> zmq.Frame | None:
            message = receive(source)
            if message is not None and source.socket.type == zmq.PULL:
                self.seqs.append(wire.decode(message.buffer).seq)
            return message

        patch.setattr(Source, "receive", counted)

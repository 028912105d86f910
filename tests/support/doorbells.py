"""The doorbells of a daemon: a publisher's end that speaks by hand, and how to see who is connected and what comes by
other ways."""

import array
import select
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from supplierd_client import Publisher

from supplierd.transport.doorbells import Doorbells
from supplierd.wire import frame as wire
from supplierd.wire.doorbell import GREETING, doorbell_path
from tests.support.bells import connections
from tests.support.daemon import Daemon
from tests.support.waiting import DEADLINE


def places(daemon: Daemon) -> int:
    """How many connections to its doorbell a daemon has."""
    return connections(Path(doorbell_path(daemon.inbox)))


def taken(doorbells: Doorbells) -> list[bytes]:
    """What the loop takes in one turn."""
    return [message for _, message in doorbells.take()]


def readable(doorbells: Doorbells) -> bool:
    """Whether the loop would wake for the doorbells."""
    poll = select.poll()
    poll.register(doorbells.descriptor, select.POLLIN)
    return bool(poll.poll(0))


def open_files() -> int:
    """How many descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


class Knocker:
    """A publisher's end of a doorbell that says what it is told to.

    Attributes:
        line: the connection.
        taking, giving: the ends that came with the greeting.
    """

    def __init__(self, path: str | Path) -> None:
        self._stack = ExitStack()
        self.line = self._own(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        self.line.settimeout(DEADLINE)
        self.line.connect(str(path))

    def enter(self) -> Self:
        """Be greeted."""
        greeting, descriptors, _, _ = socket.recv_fds(self.line, 100, 4)
        assert greeting == GREETING, "it was refused"
        self.taking, self.giving = (self._own(socket.socket(fileno=descriptor)) for descriptor in descriptors)
        self.giving.setblocking(False)
        return self

    def put(self, message: bytes) -> None:
        """Put a message, beside those that have not been taken."""
        assert self.giving.send(message) == len(message)

    def refused(self) -> bool:
        """Whether the daemon ends the connection; waits for it."""
        try:
            while self.line.recv(100):
                pass
        except ConnectionResetError:
            pass
        return True

    def close(self) -> None:
        self._stack.close()

    def _own(self, one: socket.socket) -> socket.socket:
        self._stack.callback(one.close)
        return one

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


Enter = Callable[..., Knocker]
"""Has somebody come in at an inbox; or, with `greeted=False`, only knock."""


class PushedFrames:
    """The frames that the publishers of this process have sent by ZeroMQ, or tried to.

    Attributes:
        seqs: their numbers, in order.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seqs: list[int] = []
        push: Callable[[Publisher, bytes], bool] = Publisher._push

        def counted(publisher: Publisher, message: bytes) -> bool:
            self.seqs.append(wire.decode(memoryview(message)).seq)
            return push(publisher, message)

        patch.setattr(Publisher, "_push", counted)


def send_descriptors(line: socket.socket, greeting: bytes, descriptors: list[int]) -> None:
    """Greet as a daemon does, or nearly so."""
    control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    line.sendmsg([greeting], control)

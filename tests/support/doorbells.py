"""The doorbells of a daemon: a publisher's end that speaks by hand, and how to see who is connected and what comes by
other ways."""

import array
import os
import select
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from supplierd_client import Publisher

from supplierd.transport.doorbells import Doorbells
from supplierd.wire import frame as wire
from supplierd.wire.doorbell import GREETING, doorbell_path, encode_put
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
        file, event: the descriptors that came with the greeting; -1 without.
        number: of its last put.
    """

    def __init__(self, path: str | Path) -> None:
        self.file = self.event = -1
        self.number = 0
        self.line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.line.settimeout(DEADLINE)
            self.line.connect(str(path))
        except OSError:
            self.line.close()
            raise

    def enter(self) -> Self:
        """Be greeted."""
        greeting, descriptors, _, _ = socket.recv_fds(self.line, 100, 4)
        assert greeting == GREETING, "it was refused"
        self.file, self.event = descriptors
        return self

    def put(self, message: bytes) -> None:
        """Put a message in the place of the one before."""
        self.number += 1
        self.write(encode_put(self.number, message))

    def write(self, content: bytes) -> None:
        """Have this in the file, whatever it is, and tell of it."""
        os.pwrite(self.file, content, 0)
        os.eventfd_write(self.event, 1)

    def refused(self) -> bool:
        """Whether the daemon ends the connection; waits for it."""
        try:
            while self.line.recv(100):
                pass
        except ConnectionResetError:
            pass
        return True

    def leave(self, name: str) -> None:
        """Close one of the three: `line`, `file` or `event`."""
        if name == "line":
            self.line.close()
        elif getattr(self, name) >= 0:
            os.close(getattr(self, name))
            setattr(self, name, -1)

    def close(self) -> None:
        for name in ("line", "file", "event"):
            self.leave(name)

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

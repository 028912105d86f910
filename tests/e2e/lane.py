"""What the tests of shared memory have in common: the processes of lane_parts.py, and waiting for what they see."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from supplierd_client import Frame, Publisher, Worker

from supplierd.arena import arena_directory
from tests.e2e.lane_parts import SIZE, filled
from tests.support.daemon import AGAIN_AFTER, Daemon
from tests.support.processes import Actor
from tests.support.waiting import DEADLINE, wait_for


class LaneActor(Actor):
    """A process that plays a part of lane_parts.py."""

    PROGRAM: ClassVar[Path] = Path(__file__).with_name("lane_parts.py")

    def tell(self, line: object = "") -> None:
        """Say something to it."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def wait_frame(self, condition: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """The next frame that is as wanted."""
        seen = len(self.frames)

        def found() -> list[dict[str, Any]]:
            return list(filter(condition, self.frames[seen:]))

        wait_for(lambda: found() or self._dead(), what)
        assert found(), f"the process has ended with {self.process.returncode}"
        return found()[0]

    def wait_shared(self) -> dict[str, Any]:
        """The next frame from an arena."""
        return self.wait_frame(lambda frame: frame["place"] is not None, "a frame in shared memory")

    def wait_inline(self) -> dict[str, Any]:
        """The next frame from a message."""
        return self.wait_frame(lambda frame: frame["place"] is None, "an inline frame")

    @property
    def warnings(self) -> list[str]:
        """What its log has warned of."""
        return [word["warning"] for word in self.words if "warning" in word]


@pytest.fixture
def lane(home: Path) -> Iterator[Callable[..., LaneActor]]:
    """Starts processes that play a part of lane_parts.py."""
    started: list[LaneActor] = []

    def start(part: str, **arguments: object) -> LaneActor:
        started.append(LaneActor(home, part, **arguments))
        return started[-1]

    yield start
    for each in started:
        each.close()


def publish(publisher: Publisher, size: int = SIZE) -> int:
    """Publish the next frame, filled with its number."""
    return publisher.publish(filled(publisher.published + 1, size))


def read(worker: Worker) -> Frame:
    """The next frame."""
    frame = worker.read(DEADLINE)
    assert frame is not None, "no frame came"
    return frame


def exchange(publisher: Publisher, worker: Worker, size: int = SIZE) -> Frame:
    """Publish until a worker gets a frame that is not older. Now and then libzmq's conflated receiver loses one that
    goes inline."""
    first = publisher.published + 1

    def got() -> Frame | None:
        publish(publisher, size)
        while (frame := worker.read(AGAIN_AFTER)) and frame.seq < first:
            del frame  # lest it is held while the next one is awaited
        return frame

    return wait_for(got, "a frame")


def arenas(daemon: Daemon) -> set[str]:
    """The files in the arena directory."""
    return {path.name for path in arena_directory(daemon.runtime_dir).iterdir()}


def inline(daemon: Daemon, stream: str = "cam-1") -> dict[str, int]:
    """How many of a stream's frames came inline, by reason."""
    found = daemon.stream(stream)
    return found.inline if found else {}


def leases(daemon: Daemon, worker: str) -> int:
    """How many slots a worker holds, as it said last."""
    found = daemon.worker(worker)
    return found.leases if found else 0

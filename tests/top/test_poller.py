"""The daemon is asked at most so often, whatever it answers; and the poller ends when it is told to."""

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import msgpack
import pytest

from supplierd.core.snapshot import Snapshot
from supplierd.top.app import Answer, Poller
from supplierd.transport.monitor import NoAnswerError
from supplierd.transport.sockets import TransportError
from supplierd.wire.errors import WireError
from tests.support.waiting import wait_for
from tests.top.pictures import snapshot, worker

INTERVAL = 0.02


class Monitor:
    """Answers from a list, the last one for ever; an exception is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[float] = []
        self.closed = False

    def snapshot(self, timeout: float) -> dict[str, Any]:
        self.asked.append(time.monotonic())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def poll() -> Iterator[Callable[..., tuple[Monitor, list[Answer]]]]:
    """Polls a monitor with these answers; the monitor, and what is delivered."""
    running: list[tuple[Poller, Monitor]] = []

    def start(*answers: Any) -> tuple[Monitor, list[Answer]]:
        monitor, found = Monitor(*answers), list[Answer]()
        poller = Poller(monitor, found.append, INTERVAL)
        running.append((poller, monitor))
        poller.start()
        return monitor, found

    yield start
    for poller, monitor in running:
        poller.stop(10.0)
        assert monitor.closed


def wire(name: str = "w") -> dict[str, Any]:
    return msgpack.unpackb(msgpack.packb(snapshot(worker(name)).to_wire()))  # type: ignore[no-any-return]


def test_it_asks_at_most_once_in_the_interval(poll: Callable[..., tuple[Monitor, list[Answer]]]) -> None:
    monitor, found = poll(wire())
    wait_for(lambda: len(found) >= 10, "ten answers")
    asked = monitor.asked[:10]
    assert all(later - earlier >= INTERVAL for earlier, later in pairwise(asked))


def test_no_answer_is_told_and_asking_goes_on(poll: Callable[..., tuple[Monitor, list[Answer]]]) -> None:
    _, found = poll(NoAnswerError("nobody there"), wire())
    wait_for(lambda: len(found) >= 2, "two answers")
    assert found[0] == "nobody there"
    assert isinstance(found[1], Snapshot)


def nested(depth: int = 10_000) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(depth):
        found = {"streams": found}
    return found


@pytest.mark.parametrize(
    "answer",
    [
        nested(),
        {},
        {"layout": 99},
        {**wire(), "streams": None},
        {**wire(), "workers": [[1]]},
        {**wire(), "distribution": [1]},
    ],
)
def test_what_is_no_snapshot_is_told(poll: Callable[..., tuple[Monitor, list[Answer]]], answer: Any) -> None:
    _, found = poll(answer)
    wait_for(lambda: found, "an answer")
    assert "version" in str(found[0])


@pytest.mark.parametrize("error", [TransportError(24), WireError("bad_message", "not msgpack")])
def test_an_error_is_told_and_asking_goes_on(
    poll: Callable[..., tuple[Monitor, list[Answer]]], error: Exception
) -> None:
    _, found = poll(error, wire())
    wait_for(lambda: len(found) >= 2, "two answers")
    assert found[0] == str(error)
    assert isinstance(found[1], Snapshot)


def test_texts_of_others_are_made_printable_at_the_door(poll: Callable[..., tuple[Monitor, list[Answer]]]) -> None:
    _, found = poll(wire("\x1b]0;owned\x07\x1b[2J"))
    wait_for(lambda: found, "an answer")
    assert isinstance(found[0], Snapshot)
    assert found[0].workers[0].name == "?]0;owned??[2J"


def test_errors_too(poll: Callable[..., tuple[Monitor, list[Answer]]]) -> None:
    _, found = poll(NoAnswerError("\x1b[31m"))
    wait_for(lambda: found, "an answer")
    assert found[0] == "?[31m"

"""SIGSTOP: of the daemon, which no publisher notices; of a worker, which no other worker notices; and what is handed
out after SIGCONT, which is never a frame from before.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.daemon import Daemon, assert_adds_up, free_port
from tests.support.processes import Actor
from tests.support.waiting import wait_for

Actors = Callable[..., Actor]

FPS = 30.0
INTERVAL = 1.0 / FPS
STANDSTILL = 5.0
"""Seconds that workers are stopped for: two orders of magnitude more than a frame interval."""
NEWEST = INTERVAL + 0.020
"""Seconds; a frame that is older was not the newest, or waited somewhere."""


def test_a_stopped_worker_changes_nothing_for_the_others(daemon: Daemon, actor: Actors) -> None:
    """Medians of frames received in turns with and without a standing neighbour, so that a busy machine hits both."""
    actor("publish", inbox=daemon.inbox, stream="cam-1", fps=FPS, size=100_000)
    names = ("one", "two", "three")
    others = [actor("work", control=daemon.control, name=name) for name in names]
    victim = actor("work", control=daemon.control, name="victim")
    for worker in (*others, victim):
        worker.wait_frames(5)
    ages: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(8):
        standing = bool(turn % 2)
        if standing:
            victim.freeze()
        others[0].wait_frames(2)  # those under way belong to the turn before
        starts = [len(worker.frames) for worker in others]
        others[0].wait_frames(15)
        ages[standing] += [
            f["age"] for worker, start in zip(others, starts, strict=True) for f in worker.frames[start:]
        ]
        if standing:
            victim.thaw()
    running, stopped = (statistics.median(ages[standing]) for standing in (False, True))
    print(f"median age {running * 1e3:.2f} ms, with a stopped worker {stopped * 1e3:.2f} ms")
    assert stopped < 1.2 * running + 0.001
    assert_adds_up(daemon.snapshot())


def first_after(worker: Actor, moment: float) -> dict[str, Any]:
    """The first frame that a worker took after a moment; one from before it may have been left unsaid until then."""

    def found() -> dict[str, Any] | None:
        return next((frame for frame in worker.frames if frame["at"] > moment), None)

    return wait_for(found, "a frame after the standstill")


def test_after_five_seconds_the_first_frame_is_the_newest(daemons: Callable[..., Daemon], actor: Actors) -> None:
    tcp = f"tcp://127.0.0.1:{free_port()}"
    daemon = daemons(f'[control]\nendpoints = ["ipc", "{tcp}"]').start()
    camera = actor("publish", inbox=daemon.inbox, stream="cam-1", fps=FPS, size=100_000)
    controls = {"ipc": daemon.control, "tcp": tcp}
    strict = [actor("work", control=at, name=f"strict-{by}", max_age=NEWEST) for by, at in controls.items()]
    plain = [actor("work", control=at, name=f"plain-{by}") for by, at in controls.items()]
    workers = [*strict, *plain]
    for worker in workers:
        worker.wait_frames(10)
    for worker in workers:
        worker.freeze()
    camera.wait_frames(round(STANDSTILL * FPS))
    published, thawed = camera.frames[-1]["seq"], time.time()
    for worker in workers:
        worker.thaw()
    for worker in workers:
        assert first_after(worker, thawed)["seq"] >= published - 1, "a frame from before was handed out"
        worker.wait_frames(5)
        assert worker.error is None
    print("ages after the standstill:", [f"{first_after(worker, thawed)['age'] * 1e3:.1f} ms" for worker in workers])
    for worker in strict:
        assert first_after(worker, thawed)["age"] <= NEWEST
    for worker in plain:  # without max_age it is the newest that the daemon has; how old, the machine decides
        assert first_after(worker, thawed)["age"] < NEWEST + 0.5
    snapshot = daemon.snapshot()
    assert_adds_up(snapshot)
    for found in snapshot.workers:
        assert found.mailboxes[0].overwritten >= STANDSTILL * FPS / 2


@pytest.mark.parametrize("lane", ["auto", "off"])
def test_publish_does_not_notice_a_daemon_that_stands_still(daemon: Daemon, actor: Actors, lane: str) -> None:
    """The 99th percentile of 300 publishes of 100 KB is under 1 ms, without the time for which the machine had no core
    for the publisher; both are reported."""
    actor("work", control=daemon.control, name="w")
    camera = actor("publish", inbox=daemon.inbox, stream="cam-1", fps=300.0, size=100_000, shared_memory=lane)
    camera.wait_frames(10)
    daemon.freeze()
    before = len(camera.frames)
    camera.wait_frames(300)
    daemon.thaw()
    took = camera.end()["took"][before : before + 300]
    whole = sorted(1e3 * seconds for seconds, _ in took)
    own = sorted(1e3 * (seconds - without_core) for seconds, without_core in took)
    text = "; ".join(
        f"{name}: p50 {times[149]:.2f} ms, p99 {times[296]:.2f} ms, longest {times[299]:.2f} ms"
        for name, times in (("own", own), ("with waiting for a core", whole))
    )
    print(text)
    assert own[296] < 1.0, text
    assert_adds_up(daemon.settled(lambda s: bool(s.streams[0].received), "a frame after the standstill"))

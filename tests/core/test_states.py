"""Idle, starved, waiting, busy: what the operator's supervisor restarts workers by."""

import pytest

from supplierd.core.service import WorkerPolicy
from supplierd.core.supplier import Supplier
from supplierd.core.worker import SLOW_FROM, State
from tests.core.builders import Camera, Process, report, supplier

IDLE_AFTER, TIMEOUT = 30.0, 5.0


@pytest.fixture
def core() -> Supplier:
    return supplier(
        {"patient": WorkerPolicy(idle_after=300.0, configured=True)},
        unknown_worker=WorkerPolicy(idle_after=IDLE_AFTER),
        stream_timeout=TIMEOUT,
    )


@pytest.fixture
def process(core: Supplier) -> Process:
    process = Process(core)
    process.join()
    return process


@pytest.fixture
def camera() -> Camera:
    return Camera()


def state(process: Process) -> State:
    return process.worker.state


def at(core: Supplier, now: float, name: str = "w") -> State:
    core.tick(now)
    return core.workers[name].state


def test_the_usual_round(core: Supplier, process: Process, camera: Camera) -> None:
    assert state(process) is State.BUSY  # joined, and has not asked yet
    process.demand(0.0)
    assert state(process) is State.WAITING
    core.frame(camera.shoot(), 1.0)
    assert state(process) is State.BUSY
    process.demand(2.0)
    assert state(process) is State.WAITING
    process.leave(3.0)
    assert state(process) is State.GONE


def test_a_frame_waits_for_a_worker_that_may_ask_any_moment_but_not_for_a_slow_one(
    core: Supplier, process: Process, camera: Camera
) -> None:
    """The demands of its neighbours are gathered meanwhile, or not."""
    process.demand(0.0)
    core.frame(camera.shoot(), 1.0)
    assert not process.worker.expected(1.0), "nothing waits for it"
    core.frame(camera.shoot(), 1.001)
    assert process.worker.expected(1.0 + SLOW_FROM / 2)
    assert not process.worker.expected(1.0 + SLOW_FROM)
    process.demand(2.0)
    core.frame(camera.shoot(), 2.001)
    assert process.worker.expected(2.0 + SLOW_FROM / 2)
    process.leave(2.002)
    assert not process.worker.expected(2.003)


def test_a_hung_worker_is_idle_once_frames_have_waited_long_enough(
    core: Supplier, process: Process, camera: Camera
) -> None:
    core.frame(camera.shoot(), 0.0)
    seen = process.demand(0.0)
    core.frame(camera.shoot(), 10.0)
    for second in range(11, 40):  # newer frames do not make the waiting any shorter
        core.frame(camera.shoot(), float(second))
        assert at(core, float(second)) is State.BUSY
    assert at(core, 40.0) is State.IDLE
    assert at(core, 400.0) is State.IDLE
    process.demand(401.0, report(seen))
    assert state(process) is State.BUSY  # it was given the frame that waited
    assert process.counts["consumed"] == 1


def test_the_time_counts_from_when_it_took_a_frame_last(core: Supplier, process: Process, camera: Camera) -> None:
    core.frame(camera.shoot(), 0.0)
    core.frame(camera.shoot(), 1.0)
    process.demand(20.0)
    core.frame(camera.shoot(), 20.0)
    assert at(core, 20.0 + IDLE_AFTER - 0.1) is State.BUSY
    assert at(core, 20.0 + IDLE_AFTER) is State.IDLE


def test_a_worker_that_never_asks_is_idle(core: Supplier, process: Process, camera: Camera) -> None:
    core.frame(camera.shoot(), 1.0)
    assert at(core, 30.9) is State.BUSY
    assert at(core, 31.0) is State.IDLE


def test_a_camera_that_is_down_makes_nobody_idle(core: Supplier, process: Process, camera: Camera) -> None:
    hung = Process(core, "hung")
    hung.join()
    core.frame(camera.shoot(), 0.0)
    process.demand(0.0)
    hung.demand(0.0)
    for hour in range(1, 24):
        assert at(core, hour * 3600.0) is State.BUSY
        assert at(core, hour * 3600.0, "hung") is State.BUSY
    process.demand(23.5 * 3600.0)
    assert at(core, 24 * 3600.0) is State.STARVED
    core.frame(camera.shoot(), 24 * 3600.0)  # it is up again: only now frames wait
    assert at(core, 24 * 3600.0 + IDLE_AFTER - 0.1, "hung") is State.BUSY
    assert at(core, 24 * 3600.0 + IDLE_AFTER, "hung") is State.IDLE


def test_idle_after_is_the_worker_s_own(core: Supplier, camera: Camera) -> None:
    Process(core, "patient").join()
    core.frame(camera.shoot(), 0.0)
    assert at(core, 299.0, "patient") is State.BUSY
    assert at(core, 300.0, "patient") is State.IDLE


def test_of_several_streams_the_one_that_waited_longest_counts(core: Supplier) -> None:
    process, early, late = Process(core, "both", streams=("early", "late")), Camera("early"), Camera("late")
    process.join(0.0)
    core.frame(early.shoot(), 1.0)
    core.frame(late.shoot(), 20.0)
    assert at(core, 1.0 + IDLE_AFTER - 0.1, "both") is State.BUSY
    assert at(core, 1.0 + IDLE_AFTER, "both") is State.IDLE


def test_joining_again_ends_idleness(core: Supplier, process: Process, camera: Camera) -> None:
    core.frame(camera.shoot(), 0.0)
    assert at(core, IDLE_AFTER) is State.IDLE
    process.join(IDLE_AFTER)
    assert at(core, IDLE_AFTER + 1.0) is State.BUSY
    assert at(core, 2 * IDLE_AFTER) is State.IDLE


def test_a_gone_worker_is_nothing_else(core: Supplier, process: Process, camera: Camera) -> None:
    core.frame(camera.shoot(), 0.0)
    process.crash(1.0)
    core.frame(camera.shoot(), 2.0)
    assert at(core, 1000.0) is State.GONE


def test_a_waiting_worker_is_starved_when_its_streams_are_silent(
    core: Supplier, process: Process, camera: Camera
) -> None:
    core.frame(camera.shoot(), 0.0)
    seen = process.demand(0.0)
    process.demand(0.1, report(seen))
    assert at(core, TIMEOUT - 0.1) is State.WAITING  # the last frame was not so long ago
    assert at(core, TIMEOUT) is State.WAITING  # nor has it asked for so long
    process.repeat(TIMEOUT)  # repeating is not asking anew
    assert at(core, TIMEOUT + 0.1) is State.STARVED
    process.demand(6.0)
    assert state(process) is State.STARVED
    core.frame(camera.shoot(), 7.0)
    assert state(process) is State.BUSY


def test_a_stream_that_never_had_a_frame_is_silent(core: Supplier, process: Process) -> None:
    process.demand(1.0)
    assert at(core, 1.0 + TIMEOUT - 0.1) is State.WAITING
    assert at(core, 1.0 + TIMEOUT) is State.STARVED


def test_a_worker_without_any_stream_is_starved(core: Supplier) -> None:
    process = Process(core, "early", streams=("*",))
    process.join(0.0)
    process.demand(0.0)
    assert at(core, TIMEOUT, "early") is State.STARVED


def test_one_live_stream_is_enough(core: Supplier) -> None:
    process, live = Process(core, "both", streams=("live", "dead"), target_fps=0.01), Camera("live")
    process.join(0.0)
    core.frame(live.shoot(), 0.0)
    process.demand(0.0)
    process.demand(0.0)
    for second in range(1, 30):
        core.frame(live.shoot(), float(second))  # not due yet, but there
        assert at(core, float(second), "both") is State.WAITING
    assert at(core, 29.0 + TIMEOUT, "both") is State.STARVED


def test_a_stream_that_is_followed_no_longer_feeds_nobody(core: Supplier) -> None:
    process, live = Process(core, "moved", streams=("live",)), Camera("live")
    process.join(0.0)
    process.streams = ("dead",)
    process.join(0.0)
    process.demand(0.0)
    for second in range(10):
        core.frame(live.shoot(), float(second))
    assert at(core, 10.0, "moved") is State.STARVED


def test_a_busy_worker_is_not_starved(core: Supplier, process: Process) -> None:
    assert at(core, 1000.0) is State.BUSY

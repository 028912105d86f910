"""What a newcomer is owed: nothing while its session is set up, which takes some tenths of a second."""

import pytest

from supplierd.core.service import WorkerPolicy
from supplierd.core.supplier import Supplier
from supplierd.core.worker import SET_UP_WITHIN
from tests.core.builders import Camera, Process, delivered, pictured, report, supplier

SHORTLY = SET_UP_WITHIN / 4


@pytest.fixture
def core() -> Supplier:
    return supplier({"w": WorkerPolicy(configured=True)})


def frames(core: Supplier, camera: Camera, count: int, now: float) -> None:
    for _ in range(count):
        core.frame(camera.shoot(), now)


def test_frames_before_its_first_demand_are_not_missed(core: Supplier) -> None:
    process, camera = Process(core), Camera()
    frames(core, camera, 1, 0.0)
    process.join(0.0)
    frames(core, camera, 3, SHORTLY)
    core.frame(newest := camera.shoot(), SHORTLY)
    assert process.demand(SHORTLY) is newest
    assert process.counts == {"offered": 5, "decimated": 4, "in_flight": 1}
    assert pictured(core).drop_ratio in (None, 0.0)


def test_once_it_has_asked_it_is_owed_every_frame(core: Supplier) -> None:
    process, camera = Process(core), Camera()
    process.join(0.0)
    process.demand(0.0)
    assert delivered(core.frame(first := camera.shoot(), SHORTLY)) == {"w": first}
    frames(core, camera, 3, SHORTLY)
    assert process.counts == {"offered": 4, "overwritten": 2, "in_flight": 1, "pending": 1}


def test_one_that_does_not_ask_in_time_misses_what_it_was_promised(core: Supplier) -> None:
    process, camera = Process(core), Camera()
    process.join(0.0)
    frames(core, camera, 2, SHORTLY)
    frames(core, camera, 4, SET_UP_WITHIN)
    assert process.counts == {"offered": 6, "decimated": 2, "overwritten": 3, "pending": 1}


@pytest.mark.parametrize("target_fps", [None, 5.0])
def test_a_frame_that_was_there_before_it_is_no_broken_promise_though_it_is_too_old(
    core: Supplier, target_fps: float | None
) -> None:
    """A camera that fell silent, and a worker with max_age that comes later."""
    process, camera = Process(core, target_fps=target_fps), Camera()
    core.frame(last := camera.shoot(), 0.0)
    process.join(100.0)
    assert process.demand(100.0) is last
    process.demand(100.0, report(last, "expired"))
    assert process.counts == {"offered": 1, "decimated": 1}
    assert process.mailbox.consecutive_drops == 0
    core.frame(late := camera.shoot(), 101.0)
    process.demand(101.0, report(late, "expired"))
    assert process.counts == {"offered": 2, "decimated": 1, "expired": 1}


def test_nor_in_the_window_though_it_was_counted_before_it_was_refused(core: Supplier) -> None:
    process, camera = Process(core), Camera()
    core.frame(old := camera.shoot(), 0.0)
    process.join(100.0)
    process.demand(100.0)
    core.tick(101.0)  # which takes a sample
    process.demand(101.5, report(old, "expired"))
    core.frame(seen := camera.shoot(), 102.0)
    process.demand(102.0, report(seen))
    assert process.mailbox.windowed() == (1, 0)


def test_nor_when_it_is_given_to_the_next_process_of_its_worker(core: Supplier) -> None:
    first, camera = Process(core), Camera()
    first.join(0.0)
    first.demand(0.0)
    seen = delivered(core.frame(camera.shoot(), 0.0))["w"]
    first.demand(0.1, report(seen))
    second = Process(core)
    second.join(100.0)
    assert second.demand(100.0) is seen
    second.demand(100.0, report(seen, "expired"))
    assert second.counts == {"offered": 2, "consumed": 1, "decimated": 1}


@pytest.mark.parametrize("went", ["left", "crashed", "has another session"])
def test_only_who_had_taken_its_leave_is_a_newcomer_again(core: Supplier, went: str) -> None:
    """Who is away without a word is expected back, and misses what comes meanwhile."""
    process, camera = Process(core), Camera()
    process.join(0.0)
    process.demand(0.0)
    seen = delivered(core.frame(camera.shoot(), 0.0))["w"]
    if went == "left":
        process.leave(0.0, report(seen))
    elif went == "crashed":
        process.crash(0.0)
    process.join(1.0, None if went == "left" else report(seen))
    frames(core, camera, 3, 1.0 + SHORTLY)
    lost = "decimated" if went == "left" else "overwritten"
    assert process.counts == {"offered": 4, "consumed": 1, lost: 2, "pending": 1}

"""How a worker goes: by taking leave, or without; and what becomes of its frames, also of those under way."""

import pytest

from supplierd.core.service import WorkerPolicy
from supplierd.core.supplier import FOLLOW_GRACE, SETTLE_GRACE, Reply, Supplier
from supplierd.core.worker import IllegalTransitionError, State
from tests.core.builders import Camera, Process, frame, pictured, report, supplier


@pytest.fixture
def core() -> Supplier:
    return supplier({"configured": WorkerPolicy(configured=True)})


@pytest.fixture
def process(core: Supplier) -> Process:
    """A worker with frame 1 under way and frame 2 pending."""
    process = Process(core)
    process.join()
    core.frame(frame(1), 0.0)
    process.demand()
    core.frame(frame(2), 0.0)
    return process


UNDER_WAY = frame(1)

# --- leaving --------------------------------------------------------------------------------------------------------


def test_a_leave_closes_the_ledger_without_a_rest(process: Process) -> None:
    assert process.leave(1.0, report(UNDER_WAY)) is process.worker
    assert process.counts == {"offered": 2, "consumed": 1, "left": 1}
    assert process.worker.state is State.GONE
    assert not pictured(process.supplier).expected


def test_what_it_does_not_report_it_left_behind(process: Process) -> None:
    process.leave()
    assert process.counts == {"offered": 2, "left": 2}
    assert process.mailbox.ledger.dropped == 0


def test_what_it_received_while_closing_is_a_drop(process: Process) -> None:
    process.leave(report=report(UNDER_WAY, "closed"))
    assert process.counts == {"offered": 2, "closed": 1, "left": 1}


def test_nothing_is_offered_to_one_that_left(core: Supplier, process: Process) -> None:
    process.leave(report=report(UNDER_WAY))
    before = process.counts
    for seq in (3, 4):
        core.frame(frame(seq), 1.0)
    core.tick(1.0 + FOLLOW_GRACE)
    assert process.counts == before
    assert process.demand() is Reply.REJOIN
    assert process.leave() is None


@pytest.mark.parametrize("name", ["w", "configured"])
def test_it_may_come_back(name: str, core: Supplier) -> None:
    process = Process(core, name)
    process.join()
    process.leave()
    core.frame(newest := frame(), 0.0)
    process.join()
    assert process.demand() is newest


# --- vanishing ------------------------------------------------------------------------------------------------------


def test_frames_of_a_vanished_worker_are_missed(core: Supplier, process: Process) -> None:
    process.crash(1.0)
    assert process.counts == {"offered": 2, "pending": 1, "in_flight": 1}, "it may come back for that one"
    for seq in (3, 4, 5):
        assert core.frame(frame(seq), 1.0) == []
    assert process.counts == {"offered": 5, "disconnected": 3, "pending": 1, "in_flight": 1}
    assert pictured(core).expected


@pytest.mark.parametrize(("name", "for_ever"), [("w", False), ("configured", True)])
def test_for_a_while_or_for_ever(name: str, for_ever: bool, core: Supplier) -> None:
    process, camera = Process(core, name), Camera()
    process.join()
    process.crash(1.0)
    core.tick(1.0 + FOLLOW_GRACE - 0.1)
    core.frame(camera.shoot(), 60.0)
    assert process.counts == {"offered": 1, "pending": 1}
    core.tick(1.0 + FOLLOW_GRACE)
    assert process.counts == {"offered": 1, "pending" if for_ever else "disconnected": 1}
    core.frame(camera.shoot(), 70.0)
    assert process.counts["offered"] == (2 if for_ever else 1)
    assert pictured(core, name).expected == for_ever


def test_the_newest_frame_waits_for_its_return_and_counts_once(core: Supplier, process: Process) -> None:
    process.demand(report=report(UNDER_WAY))
    process.crash(1.0)
    for seq in (3, 4):
        core.frame(newest := frame(seq), 1.0)
    process.join(2.0)
    assert process.counts["pending"] == 1
    before = process.counts["offered"]
    assert process.demand() is newest
    assert process.counts["offered"] == before


def test_what_waits_for_a_worker_that_no_longer_follows_is_left(core: Supplier, process: Process) -> None:
    process.crash(1.0)
    core.frame(frame(3), 1.0)
    box = process.mailbox
    process.streams = ("cam-2",)
    process.join(2.0)
    assert (box.ledger.pending, box.ledger.discarded["left"]) == (0, 1)


def test_a_vanished_worker_s_demand_is_void(core: Supplier, process: Process) -> None:
    process.demand(report=report(UNDER_WAY))
    process.demand()
    process.crash()
    assert core.tick(0.1) == []
    assert process.repeat() is Reply.REJOIN


def test_nobody_vanishes_twice(process: Process) -> None:
    process.crash()
    with pytest.raises(IllegalTransitionError):
        process.crash()


# --- a frame under way to a vanished worker -------------------------------------------------------------------------


def test_its_fate_stays_open_for_a_while(core: Supplier, process: Process) -> None:
    process.crash(1.0)
    core.tick(1.0 + SETTLE_GRACE - 0.1)
    assert process.counts == {"offered": 2, "pending": 1, "in_flight": 1}
    core.tick(1.0 + SETTLE_GRACE)
    assert process.counts == {"offered": 2, "pending": 1, "disconnected": 1}


def test_the_same_process_reports_it_when_it_joins_again(core: Supplier, process: Process) -> None:
    process.crash(1.0)
    process.join(1.0 + SETTLE_GRACE - 0.1, report(UNDER_WAY, processing=3.0))
    assert process.counts == {"offered": 2, "consumed": 1, "pending": 1}
    assert process.mailbox.last_consumed_at == SETTLE_GRACE + 0.9 - 3.0


@pytest.mark.parametrize("reported", [None, report(frame(2))])
def test_or_says_nothing_of_it(core: Supplier, process: Process, reported: None) -> None:
    process.crash(1.0)
    process.join(2.0, reported)
    assert process.counts["lost"] == 1


def test_another_process_cannot_know(core: Supplier, process: Process) -> None:
    process.crash(1.0)
    after = Process(core)
    after.join(2.0, report(UNDER_WAY))
    assert after.counts == {"offered": 2, "disconnected": 1, "pending": 1}


def test_a_worker_that_is_long_away_gets_the_last_frame_if_it_had_not(core: Supplier) -> None:
    process = Process(core)
    process.join()
    core.frame(last := frame(), 0.0)
    process.demand()
    process.crash(1.0)
    core.tick(1.0 + SETTLE_GRACE)
    process.join(100.0)
    assert process.demand(100.0) is last


def test_and_not_if_it_had(core: Supplier) -> None:
    process = Process(core)
    process.join()
    core.frame(frame(), 0.0)
    seen = process.demand()
    process.crash(1.0)
    core.tick(1.0 + SETTLE_GRACE)
    process.join(100.0, report(seen))
    assert process.demand(100.0) is Reply.NOTHING
    assert process.counts == {"offered": 1, "disconnected": 1}

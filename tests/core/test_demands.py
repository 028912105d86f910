"""Demands: who gets which frame, reports on it, repetition and loss, second looks, fairness over several streams."""

from collections import Counter
from typing import Any

import pytest

from supplierd.core.ledger import REPORTED_REASONS
from supplierd.core.stream import Frame
from supplierd.core.supplier import Delivery, Reply, Supplier
from supplierd.core.worker import SET_UP_WITHIN, State
from tests.core.builders import Camera, Process, delivered, frame, mailbox_pictured, pictured, report, sent, supplier


@pytest.fixture
def core() -> Supplier:
    return supplier()


@pytest.fixture
def process(core: Supplier) -> Process:
    process = Process(core)
    process.join()
    return process


@pytest.fixture
def camera() -> Camera:
    return Camera()


def test_a_waiting_worker_gets_the_next_frame_at_once(core: Supplier, process: Process, camera: Camera) -> None:
    assert process.demand() is Reply.NOTHING
    assert delivered(core.frame(first := camera.shoot(), 0.0)) == {"w": first}
    assert core.frame(camera.shoot(), 0.0) == []


def test_a_busy_one_gets_the_newest_when_it_asks(core: Supplier, process: Process, camera: Camera) -> None:
    for _ in range(4):
        assert core.frame(camera.shoot(), SET_UP_WITHIN) == []
    core.frame(newest := camera.shoot(), SET_UP_WITHIN)
    assert process.demand() is newest
    assert process.counts == {"offered": 5, "overwritten": 4, "in_flight": 1}


def test_one_frame_for_each_demand(core: Supplier, process: Process, camera: Camera) -> None:
    process.demand()
    for _ in range(3):
        core.frame(camera.shoot(), 0.0)
    assert process.counts == {"offered": 3, "in_flight": 1, "overwritten": 1, "pending": 1}


def test_a_repeated_demand_changes_nothing(core: Supplier, process: Process, camera: Camera) -> None:
    process.demand()
    assert [process.repeat(), process.repeat()] == [Reply.WAIT, Reply.WAIT]
    seen = delivered(core.frame(camera.shoot(), 0.0))["w"]
    core.frame(camera.shoot(), 0.0)
    before = process.counts
    assert process.repeat(report=report(seen)) is Reply.UNDER_WAY
    assert process.counts == before


def test_an_old_demand_is_not_heard(core: Supplier, process: Process, camera: Camera) -> None:
    process.demand()
    process.demand()
    process.number = 1
    assert process.repeat() is Reply.NOTHING
    process.number = 2
    assert process.repeat() is Reply.WAIT


def test_a_session_that_does_not_exist(core: Supplier, process: Process) -> None:
    stranger = Process(core, session=987654)
    assert stranger.demand() is Reply.REJOIN
    assert stranger.recheck() is Reply.REJOIN
    assert stranger.leave() is None
    assert Process(core, session=0).demand() is Reply.REJOIN  # the number of no session


# --- reports --------------------------------------------------------------------------------------------------------


def test_the_next_demand_proves_that_the_frame_was_consumed(core: Supplier, process: Process) -> None:
    core.frame(frame(), 1.0)
    seen = process.demand(1.0)
    process.demand(1.5, report(seen, age=0.004, processing=0.3))
    assert process.counts == {"offered": 1, "consumed": 1}
    mailbox, worker = mailbox_pictured(core), pictured(core)
    assert mailbox.last_consumed_at == pytest.approx(1001.2)
    assert mailbox.last_consumed_seq == 1
    assert sum(mailbox.age.counts) == sum(worker.processing.counts) == 1
    assert (mailbox.age.total, worker.processing.total) == (0.004, 0.3)


@pytest.mark.parametrize(
    ("outcome", "counted"),
    [
        *((reason, reason) for reason in REPORTED_REASONS),
        *((reason, "unreadable") for reason in ("", "a peer's own label", "left", "lost", "disconnected")),
    ],
)
def test_other_outcomes_are_counted_by_known_reasons(
    outcome: str, counted: str, core: Supplier, process: Process
) -> None:
    core.frame(frame(), 0.0)
    seen = process.demand()
    process.demand(report=report(seen, outcome, age=9.0))
    assert process.counts == {"offered": 1, counted: 1}
    assert sum(mailbox_pictured(core).age.counts) == 0
    assert mailbox_pictured(core).last_consumed_at is None


@pytest.mark.parametrize(
    "change", [{"stream": "cam-2"}, {"epoch": 1}, {"seq": 2}, {"stream": "x" * 99, "seq": -1}, None]
)
def test_a_demand_that_does_not_name_the_frame_never_had_it(
    change: dict[str, Any] | None, core: Supplier, process: Process
) -> None:
    core.frame(frame(), 0.0)
    seen = process.demand()
    process.demand(report=None if change is None else report(seen)._replace(**change))
    assert process.counts == {"offered": 1, "lost": 1}


def test_a_report_counts_once(core: Supplier, process: Process, camera: Camera) -> None:
    core.frame(camera.shoot(), 0.0)
    seen = process.demand()
    process.demand(report=report(seen))
    process.demand(report=report(seen))
    core.frame(camera.shoot(), 0.0)
    process.demand(report=report(seen))
    assert process.counts == {"offered": 2, "consumed": 1, "lost": 1}


def test_a_negative_time_is_a_clock_s_fault(core: Supplier, process: Process) -> None:
    core.frame(frame(), 0.0)
    seen = process.demand()
    process.demand(5.0, report(seen, age=-3.0, processing=-2.0))
    mailbox = mailbox_pictured(core)
    assert mailbox.last_consumed_at == 1005.0
    assert mailbox.age.total == 0.0


# --- a second look --------------------------------------------------------------------------------------------------


def test_a_recheck_without_a_newer_frame(core: Supplier, process: Process) -> None:
    core.frame(frame(), 0.0)
    process.demand()
    assert process.recheck() is Reply.NEWEST
    assert process.counts == {"offered": 1, "in_flight": 1}


def test_a_recheck_with_a_newer_frame(core: Supplier, process: Process, camera: Camera) -> None:
    core.frame(camera.shoot(), 0.0)
    process.demand()
    for _ in range(3):
        core.frame(newest := camera.shoot(), 0.0)
    assert process.recheck() is newest
    assert process.counts == {"offered": 4, "stale": 1, "overwritten": 2, "in_flight": 1}
    assert process.worker.state is State.BUSY
    assert process.recheck() is Reply.NEWEST
    process.demand(report=report(newest))
    assert process.counts["consumed"] == 1


def test_a_recheck_looks_at_the_frames_own_stream(core: Supplier) -> None:
    process = Process(core, streams=("cam-1", "cam-2"))
    process.join()
    core.frame(frame(stream="cam-1"), 0.0)
    process.demand()
    core.frame(frame(stream="cam-2"), 0.0)
    assert process.recheck() is Reply.NEWEST


def test_a_recheck_of_another_demand_or_without_a_frame(core: Supplier, process: Process, camera: Camera) -> None:
    process.demand()
    assert process.recheck() is Reply.NOTHING  # nothing was sent
    core.frame(camera.shoot(), 0.0)
    core.frame(camera.shoot(), 0.0)
    for number in (0, 2):
        process.number = number
        assert process.recheck() is Reply.NOTHING
    assert process.counts == {"offered": 2, "in_flight": 1, "pending": 1}


# --- what could not be sent -----------------------------------------------------------------------------------------


def failed(core: Supplier, deliveries: list[Delivery]) -> None:
    for delivery in deliveries:
        core.undelivered(delivery)


def test_a_frame_that_could_not_be_sent_waits_with_its_demand(core: Supplier, process: Process, camera: Camera) -> None:
    process.demand()
    first = camera.shoot()
    failed(core, core.frame(first, 0.0))
    assert (process.counts, process.worker.state) == ({"offered": 1, "pending": 1}, State.WAITING)
    assert process.repeat() is Reply.WAIT
    failed(core, core.tick(0.1))
    assert delivered(core.tick(0.2)) == {"w": first}


def test_until_a_newer_one_replaces_it(core: Supplier, process: Process, camera: Camera) -> None:
    process.demand()
    failed(core, core.frame(camera.shoot(), 0.0))
    assert delivered(core.frame(newer := camera.shoot(), 0.1)) == {"w": newer}
    assert process.counts == {"offered": 2, "overwritten": 1, "in_flight": 1}


def test_a_frame_that_was_never_sent_is_offered_again(core: Supplier, process: Process) -> None:
    process.demand()
    failed(core, core.frame(last := frame(), 0.0))
    process.crash()
    process.join()
    assert process.demand() is last


def test_attempts_to_send_do_not_use_up_the_promised_rate(core: Supplier, camera: Camera) -> None:
    process = Process(core, "paced", target_fps=1.0)
    process.join()
    process.demand()
    for tenth in range(30):
        deliveries = core.frame(camera.shoot(), tenth / 10)
        assert [delivery.worker.name for delivery in deliveries] == (["paced"] if tenth in (0, 11, 21) else [])
        failed(core, deliveries)
        for tick in range(1, 9):
            failed(core, core.tick((tenth + tick / 10) / 10))
        for delivery in core.tick((tenth + 0.9) / 10):
            process.demand((tenth + 0.9) / 10, report(sent(delivery)))
    assert process.counts == {"offered": 30, "consumed": 3, "decimated": 26, "pending": 1}


# --- several streams ------------------------------------------------------------------------------------------------


def test_the_least_recently_served_stream_comes_first(core: Supplier) -> None:
    cameras = [Camera(f"cam-{i}") for i in range(4)]
    process = Process(core, streams=tuple(camera.stream for camera in cameras))
    process.join()
    seen: Frame | Reply = Reply.NOTHING
    served: list[str] = []
    for round_ in range(12):
        for camera in cameras:  # each is always there with a newer frame
            core.frame(camera.shoot(), float(round_))
        seen = process.demand(float(round_), report(seen) if isinstance(seen, Frame) else None)
        assert isinstance(seen, Frame)
        served.append(seen.stream)
    assert served == ["cam-0", "cam-1", "cam-2", "cam-3"] * 3


def test_a_slow_stream_is_not_starved_by_fast_ones(core: Supplier) -> None:
    fast, slow = Camera("fast"), Camera("slow")
    process = Process(core, streams=("fast", "slow"))
    process.join()
    served: Counter[str] = Counter()
    reported = None
    for step in range(300):
        core.frame(fast.shoot(), step * 0.01)
        if step % 10 == 0:
            core.frame(slow.shoot(), step * 0.01)
        if step % 5 == 4:
            seen = process.demand(step * 0.01, reported)
            assert isinstance(seen, Frame)
            served[seen.stream], reported = served[seen.stream] + 1, report(seen)
    assert served == {"slow": 30, "fast": 30}
    assert mailbox_pictured(core, stream="slow").overwritten == 0


def test_a_frame_that_can_never_be_sent_is_discarded_and_its_demand_stays(
    core: Supplier, process: Process, camera: Camera
) -> None:
    process.demand()
    for delivery in core.frame(camera.shoot(), 0.0):
        assert core.unreadable(delivery, 0.0) is None
    assert (process.counts, process.worker.state) == ({"offered": 1, "unreadable": 1}, State.WAITING)
    assert not core.tick(1.0)
    assert delivered(core.frame(second := camera.shoot(), 0.0)) == {"w": second}


def test_a_stream_that_cannot_be_read_takes_no_turn_of_another(core: Supplier) -> None:
    process = Process(core, streams=("bad", "good"))
    process.join(0.0)
    bad, good = Camera("bad"), Camera("good")
    for turn in range(10):
        core.frame(bad.shoot(), turn)
        core.frame(seen := good.shoot(), turn)
        process.number += 1
        delivery = core.demand(process.session, process.number, None, turn)
        while isinstance(delivery, Delivery) and delivery.mailbox.stream.name == "bad":
            delivery = core.unreadable(delivery, turn) or Reply.NOTHING
        assert isinstance(delivery, Delivery)
        assert delivery.mailbox.in_flight is seen

"""Sessions: who may join, what a newcomer starts with, taking over, coming back, and who is forgotten."""

import pytest

from supplierd.core.refusals import FrameRefusedError, RefusalError
from supplierd.core.service import ServiceClass, WorkerPolicy
from supplierd.core.supplier import FOLLOW_GRACE, SETTLE_GRACE, Reply, Supplier
from supplierd.core.worker import State
from tests.core.builders import BOOT, OTHER_BOOT, STARTED, Camera, Process, delivered, frame, picture, report, supplier

CONFIGURED = WorkerPolicy(configured=True)


def refused(process: Process) -> RefusalError:
    """The refusal of a JOIN, which must have changed nothing."""
    supplier = process.supplier
    before = picture(supplier), set(supplier.streams), dict(supplier._sessions), dict(supplier.workers)
    with pytest.raises(RefusalError) as caught:
        process.join()
    assert (picture(supplier), set(supplier.streams), dict(supplier._sessions), dict(supplier.workers)) == before
    return caught.value


# --- refusals -------------------------------------------------------------------------------------------------------


def test_unknown_workers_may_be_refused() -> None:
    error = refused(Process(supplier({"other": CONFIGURED}, unknown_worker=None)))
    assert error.reason == "unknown_worker"
    assert "add [workers.w] or set daemon.accept_unknown_workers" in str(error)
    Process(supplier({"w": CONFIGURED}, unknown_worker=None)).join()


def test_a_push_worker_has_no_session() -> None:
    error = refused(Process(supplier({"w": WorkerPolicy(push=True, configured=True)})))
    assert error.reason == "push_worker"


def test_a_worker_may_have_only_the_streams_of_its_policy() -> None:
    core = supplier({"w": WorkerPolicy(streams=("cam-1", "cam-2"), configured=True)})
    error = refused(Process(core, streams=("cam-1", "cam-3")))
    assert error.reason == "stream_not_allowed"
    assert "may have cam-1, cam-2, not cam-3" in str(error)
    Process(core, streams=("cam-2",)).join()
    assert list(core.workers["w"].mailboxes) == ["cam-2"]
    Process(core, streams=("*",)).join()
    assert list(core.workers["w"].mailboxes) == ["cam-2", "cam-1"]
    assert not core.workers["w"].any_stream


def test_unknown_streams_may_be_refused() -> None:
    core = supplier(streams=("cam-1",), accept_unknown_streams=False)
    error = refused(Process(core, streams=("cam-1", "cam-2")))
    assert error.reason == "unknown_stream"
    assert "add [streams.cam-2] or set daemon.accept_unknown_streams" in str(error)
    with pytest.raises(FrameRefusedError) as caught:
        core.frame(frame(stream="cam-2"), 0.0)
    assert caught.value.reason == "unknown_stream"
    assert core.rejected == {"unknown_stream": 1}
    core.frame(frame(stream="cam-1"), 0.0)


def test_the_number_of_streams_is_limited() -> None:
    core = supplier(max_streams=2)
    assert refused(Process(core, streams=("a", "b", "c"))).reason == "too_many_streams"
    core.frame(frame(stream="cam-1"), 0.0)
    assert refused(Process(core, streams=("a", "b"))).reason == "too_many_streams"
    Process(core, streams=("a", "cam-1")).join()
    with pytest.raises(FrameRefusedError, match=r"2 streams exist and daemon\.max_streams is 2") as caught:
        core.frame(frame(stream="b"), 0.0)
    assert caught.value.reason == "too_many_streams"


def test_refused_frames_say_why() -> None:
    core = supplier()
    core.frame(frame(2, epoch=2000), 0.0)
    for late, reason, text in (
        (frame(2, epoch=2000), "old_seq", "frame 2 of cam-1: it, or a newer one, was here before"),
        (frame(3, epoch=1999), "old_epoch", "frame 3 of cam-1: it is from an earlier run"),
        (frame(2**60, epoch=2000), "implausible_seq", "no publisher comes to such a number"),
    ):
        with pytest.raises(FrameRefusedError, match=text) as caught:
            core.frame(late, 0.0)
        assert caught.value.reason == reason
    assert core.rejected == {"old_seq": 1, "old_epoch": 1, "implausible_seq": 1}


@pytest.mark.parametrize(
    ("boot", "epoch", "published"), [(BOOT, STARTED, 5), (BOOT, STARTED - 1, 1), (OTHER_BOOT, STARTED + 1, 1)]
)
def test_frames_are_owed_an_account_from_the_daemons_start(boot: bytes, epoch: int, published: int) -> None:
    core = supplier()
    core.frame(frame(5, boot=boot, epoch=epoch), 0.0)
    assert core.streams["cam-1"].ledger.published == published


# --- what a session starts with -------------------------------------------------------------------------------------


def test_a_newcomer_starts_with_the_newest_frame() -> None:
    core, camera = supplier(), Camera()
    core.frame(camera.shoot(), 0.0)
    newest = camera.shoot()
    core.frame(newest, 0.0)
    process = Process(core)
    process.join()
    assert process.counts == {"offered": 1, "pending": 1}
    assert process.demand() is newest


def test_a_worker_for_every_stream_also_gets_those_that_appear_later() -> None:
    core = supplier()
    core.frame(frame(stream="cam-1"), 0.0)
    process = Process(core, streams=("*",))
    process.join()
    process.demand()
    process.demand()
    later = frame(stream="cam-2")
    assert delivered(core.frame(later, 0.0)) == {"w": later}


def test_a_stream_that_is_named_twice_counts_once() -> None:
    core = supplier()
    process = Process(core, streams=("cam-1", "cam-1"))
    process.join()
    core.frame(frame(), 0.0)
    assert process.counts == {"offered": 1, "pending": 1}


def test_a_process_that_comes_back_is_not_given_the_same_frame_twice() -> None:
    core, camera = supplier(), Camera()
    process = Process(core)
    process.join()
    core.frame(camera.shoot(), 0.0)
    seen = process.demand()
    process.join(report=report(seen))
    assert process.counts == {"offered": 1, "consumed": 1}
    assert process.demand() is Reply.NOTHING
    process.crash()
    process.join()
    assert process.demand() is Reply.NOTHING
    assert delivered(core.frame(newer := camera.shoot(), 0.0)) == {"w": newer}


def test_a_frame_that_was_lost_is_offered_again() -> None:
    core, camera = supplier(), Camera()
    process = Process(core)
    process.join()
    first = camera.shoot()
    core.frame(first, 0.0)
    seen = process.demand()
    core.frame(last := camera.shoot(), 0.0)
    assert process.demand(report=report(seen)) is last
    process.join(report=report(seen))  # of `last` it knows nothing
    assert process.counts == {"offered": 3, "consumed": 1, "lost": 1, "pending": 1}
    assert process.demand() is last


def test_one_that_could_not_be_read_too() -> None:
    core = supplier()
    process = Process(core)
    process.join()
    core.frame(frame(), 0.0)
    descriptor = process.demand()
    process.join(report=report(descriptor, "unreadable"))
    assert process.demand() is descriptor


def test_a_restarted_worker_gets_the_newest_frame_though_its_forerunner_had_it() -> None:
    core = supplier()
    core.frame(newest := frame(), 0.0)
    before, after = Process(core), Process(core)
    before.join()
    seen = before.demand()
    before.crash()
    after.join(report=report(seen))  # a report of another process does not count
    assert after.counts == {"offered": 2, "disconnected": 1, "pending": 1}
    assert after.demand() is newest


# --- taking over ----------------------------------------------------------------------------------------------------


def test_a_second_join_under_a_name_takes_over() -> None:
    core, camera = supplier(), Camera()
    old, new = Process(core), Process(core)
    old.join()
    old.demand()
    core.frame(camera.shoot(), 0.0)
    core.frame(pending := camera.shoot(), 0.0)
    worker = new.join()
    assert (worker.session, worker.instance, worker.number) == (new.session, new.instance, 0)
    assert core.session(old.session) is None
    assert core.session(new.session) is worker
    assert old.demand() is Reply.REJOIN
    assert old.recheck() is Reply.REJOIN
    assert old.leave() is None
    assert new.counts == {"offered": 2, "disconnected": 1, "pending": 1}
    assert new.demand() is pending


def test_taking_over_from_any_state() -> None:
    for state in State:
        core = supplier()
        Process(core).join()
        core.workers["w"].state = state
        assert Process(core).join().state is State.BUSY


def test_an_open_demand_ends_with_its_session() -> None:
    core = supplier()
    Process(core).join()
    old = Process(core)
    old.join()
    old.demand()
    Process(core).join()
    assert core.frame(frame(), 0.0) == []


def test_a_process_may_come_back_for_other_streams() -> None:
    core = supplier()
    process = Process(core, streams=("cam-1", "cam-2"))
    process.join()
    core.frame(frame(stream="cam-1"), 0.0)
    core.frame(frame(stream="cam-2"), 0.0)
    process.streams = ("cam-2",)
    process.join()
    core.frame(frame(2, stream="cam-1"), 0.0)
    ledgers = {name: m.ledger for name, m in process.worker.mailboxes.items()}
    assert (ledgers["cam-1"].offered, ledgers["cam-1"].discarded) == (1, {"left": 1})
    assert (ledgers["cam-2"].offered, ledgers["cam-2"].pending) == (1, 1)


def test_the_configurations_rate_wins_over_the_joins() -> None:
    core = supplier({"w": WorkerPolicy(target_fps=5.0, configured=True)})
    assert Process(core, target_fps=30.0).join().target_fps == 5.0
    assert Process(core, "x", target_fps=30.0).join().target_fps == 30.0
    assert Process(core, "x").join().target_fps is None


# --- who is forgotten -----------------------------------------------------------------------------------------------


def gone(core: Supplier, name: str, at: float, *, left: bool = True) -> None:
    process = Process(core, name)
    process.join(at)
    if left:
        process.leave(at)
    else:
        process.crash(at)


def test_at_the_limit_the_one_that_left_longest_ago_is_forgotten() -> None:
    core = supplier({"vip": CONFIGURED}, max_workers=4)
    gone(core, "vip", at=1.0)
    gone(core, "b", at=3.0)
    gone(core, "a", at=2.0)
    Process(core, "here").join(4.0)
    Process(core, "new").join(5.0)
    assert set(core.workers) == {"vip", "b", "here", "new"}
    core.frame(frame(), 6.0)  # nobody offers to the forgotten one


@pytest.mark.parametrize("left", [True, False])
def test_one_that_crashed_may_come_back_for_a_while(left: bool) -> None:
    core = supplier(max_workers=1)
    gone(core, "a", at=0.0, left=left)
    if not left:
        core.tick(FOLLOW_GRACE - 1.0)
        assert refused(Process(core, "b")).reason == "too_many_workers"
        core.tick(FOLLOW_GRACE)
    Process(core, "b").join(FOLLOW_GRACE)
    assert set(core.workers) == {"b"}


def test_a_connected_or_configured_worker_is_never_forgotten() -> None:
    core = supplier({"vip": CONFIGURED}, max_workers=2)
    Process(core, "a").join()
    error = refused(Process(core, "b"))
    assert error.reason == "too_many_workers"
    assert "2 workers are known and daemon.max_workers is 2" in str(error)


def test_the_grace_of_a_frame_ends_before_its_worker_can_be_forgotten() -> None:
    assert SETTLE_GRACE < FOLLOW_GRACE


def test_critical_workers_are_served_first() -> None:
    policies = {name: WorkerPolicy(service_class=ServiceClass(name), configured=True) for name in ServiceClass}
    core = supplier({name.value: policy for name, policy in policies.items()})
    for name in ("best_effort", "normal", "x-normal", "critical", "high", "a-normal"):
        process = Process(core, name)
        process.join()
        process.demand()
    served = [delivery.worker.name for delivery in core.frame(frame(), 0.0)]
    assert served == ["critical", "high", "a-normal", "normal", "x-normal", "best_effort"]


def test_a_ghost_does_not_throw_out_its_successor() -> None:
    core = supplier()
    ghost = Process(core)
    ghost.join()
    successor = Process(core)
    successor.join()
    assert refused(ghost).reason == "taken_over"
    assert core.workers["w"].instance == successor.instance

"""Each check of the chaos suite finds what it looks for, in evidence that was made up, and nothing in good evidence."""

import os
from pathlib import Path
from typing import Any

import pytest
from supplierd_client import Publisher

from supplierd.core.histogram import Histogram
from supplierd.core.snapshot import ArenaSnapshot, MailboxSnapshot, Snapshot, StreamSnapshot, WorkerSnapshot
from tests.chaos import invariants
from tests.chaos.invariants import SPARE_DESCRIPTORS, Handed
from tests.chaos.members import Level, Seen
from tests.chaos.parts import value_of
from tests.chaos.run import GoneError, Run, choose
from tests.chaos.stage import Stage, unknown_files
from tests.support.daemon import Daemon

NONE = Histogram((1.0,)).snapshot()


def seen(epoch: int = 1, seq: int = 1, life: int = 1, **changes: Any) -> Seen:
    frame = Seen(life, "cam", epoch, seq, 10.0 + seq, 10.5 + seq, 0.5, value_of(epoch, seq), True)
    return frame._replace(**changes)


def mailbox(**changes: Any) -> MailboxSnapshot:
    whole = MailboxSnapshot("cam", 10, 5, 2, 1, {"lost": 1}, 1, 0, 0, None, 5, 10, 3, NONE)
    return whole._replace(**changes)


def snapshot(*, leases: int = 0, leased: int = 1, stream: dict[str, Any] | None = None, **changes: Any) -> Snapshot:
    camera = StreamSnapshot("cam", False, 10, 9, {"overwritten": 1}, None, 10, 1, 25.0, {})._replace(**(stream or {}))
    worker = WorkerSnapshot(
        "w", "normal", "waiting", False, True, False, None, 0.5, 30.0, 1, "python", "", leases, NONE,
        (mailbox(**changes),),
    )  # fmt: skip
    return Snapshot(0.0, 30.0, (camera,), (worker,), (ArenaSnapshot("cam", 4096, 7, leased),), {}, NONE)


# --- order, pixels, ages, resumption ----------------------------------------------------------------------------------


def test_frames_in_order_are_well() -> None:
    frames = [seen(1, 1), seen(1, 3), seen(2, 1), seen(2, 1, life=2), seen(2, 2, life=2), seen(1, 1, stream="other")]
    assert not [*invariants.disorder("w", frames)]


@pytest.mark.parametrize(
    "later",
    [seen(1, 4), seen(1, 5), seen(1, 4, life=2), seen(0, 9, life=2)],
    ids=["older", "again", "older in the next life", "an older epoch in the next life"],
)
def test_an_older_frame_after_a_newer_one_is_found(later: Seen) -> None:
    assert len([*invariants.disorder("w", [seen(1, 5), later])]) == 1


@pytest.mark.parametrize("wrong", [{"whole": False}, {"value": value_of(1, 2)}, {"value": value_of(2, 1)}])
def test_a_torn_or_mixed_up_frame_is_found(wrong: dict[str, Any]) -> None:
    assert not [*invariants.torn("w", [seen()])]
    assert len([*invariants.torn("w", [seen(), seen(**wrong)])]) == 1


@pytest.mark.parametrize("age", [-0.1, 3600.0, float("nan")])
def test_an_age_by_a_clock_that_jumped_is_found(age: float) -> None:
    assert not [*invariants.wrong_ages("w", [seen()])]
    assert len([*invariants.wrong_ages("w", [seen(age=age)])]) == 1


def test_resumed_is_who_has_a_frame_of_each_stream_that_was_captured_after_the_fault() -> None:
    frames = [seen(seq=1), seen(seq=3), seen(seq=4), seen(seq=2, stream="other")]
    assert invariants.resumed_after(frames, ["cam"], end=12.5) == 1.0
    assert invariants.resumed_after(frames, ["cam", "other"], end=11.5) == 2.0
    assert invariants.resumed_after(frames, ["cam", "other"], end=12.5) is None
    assert invariants.resumed_after(frames, ["cam"], end=15.0) is None


# --- ledgers ----------------------------------------------------------------------------------------------------------


def test_ledgers_that_add_up_are_well() -> None:
    assert mailbox().balance == 0
    assert not [*invariants.ledger_errors(snapshot(), {"w": Handed(5, 6, 1)})]


@pytest.mark.parametrize(
    "wrong",
    [
        {"offered": 11},
        {"consumed": 4},
        {"pending": 2, "offered": 11},
        {"in_flight": -1, "offered": 9},
        {"stream": {"published": 11}},
        {"stream": {"dropped": {}}},
    ],
    ids=str,
)
def test_a_ledger_that_does_not_add_up_is_found(wrong: dict[str, Any]) -> None:
    assert len([*invariants.ledger_errors(snapshot(**wrong), {})]) == 1


@pytest.mark.parametrize("handed", [Handed(2, 4, 2), Handed(8, 8, 2)], ids=["invented", "forgotten"])
def test_a_ledger_that_workers_contradict_is_found(handed: Handed) -> None:
    assert len([*invariants.ledger_errors(snapshot(), {"w": handed})]) == 1


def test_a_counter_that_goes_down_is_found() -> None:
    before = invariants.counters(snapshot())
    assert not [*invariants.went_down(before, invariants.counters(snapshot(overwritten=3)))]
    lower = invariants.counters(snapshot(overwritten=1, discarded={}, stream={"received": 8}))
    assert len([*invariants.went_down(before, lower)]) == 3


# --- leaks ------------------------------------------------------------------------------------------------------------


def test_a_leaked_descriptor_or_thread_is_found() -> None:
    before = {"daemon, life 1": Level(20, 4)}
    assert not [
        *invariants.leaks(before, {"daemon, life 1": Level(20 + SPARE_DESCRIPTORS, 4), "w, life 2": Level(99, 9)})
    ]
    assert len([*invariants.leaks(before, {"daemon, life 1": Level(21 + SPARE_DESCRIPTORS, 5)})]) == 2


def test_a_leaked_slot_is_found() -> None:
    assert not [*invariants.leased_slots(snapshot(leases=1, leased=3))]
    assert len([*invariants.leased_slots(snapshot(leases=1, leased=4))]) == 1


def test_a_file_that_belongs_to_nobody_is_found(daemon: Daemon) -> None:
    with Publisher("cam", daemon.inbox, shared_memory="on") as publisher:
        daemon.deliver(publisher, b"frame")
        (arena,) = (daemon.runtime_dir / "arena").iterdir()
        assert not unknown_files(daemon.runtime_dir, links=0, owners=[os.getpid()])
        assert len(unknown_files(daemon.runtime_dir, links=1, owners=[os.getpid()])) == 1
        assert len(unknown_files(daemon.runtime_dir, links=0, owners=[1])) == 1
        for left in ("w-1.sock", "core", "arena/torn"):
            path = daemon.runtime_dir / left
            path.touch()
            assert len(unknown_files(daemon.runtime_dir, links=0, owners=[os.getpid()])) == 1, left
            path.unlink()
        second = arena.with_name(arena.name.replace("cam", "cam2"))
        second.hardlink_to(arena)
        assert len(unknown_files(daemon.runtime_dir, links=0, owners=[os.getpid()])) == 1


# --- the run itself ---------------------------------------------------------------------------------------------------


def test_a_seed_replays_its_choices() -> None:
    first, again, other = ([name for name, _ in zip(choose(seed, True), range(30), strict=False)] for seed in (5, 5, 6))
    assert first == again != other


def test_a_run_looks_at_everything(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is wrong at first; then a frame is torn, a file is left, somebody stands still, and somebody dies."""
    with Stage(home, apart=False) as stage:
        stage.start()
        run = Run(stage, 1, print)
        run.begin()
        assert not run.violations
        monkeypatch.setattr("tests.chaos.run.GIVEN_UP_AFTER", 1.0)
        monkeypatch.setattr("tests.chaos.run.SETTLED_WITHIN", 0.1)
        fast, slow, camera = stage.workers["fast"], stage.workers["slow"], stage.cameras["cam-far"]
        fast.seen.append(fast.seen[-1]._replace(whole=False))
        (stage.runtime_dir / "core").touch()
        slow.freeze()
        run.hold_still()
        slow.thaw()
        camera.process.kill()
        camera.process.wait()
        with pytest.raises(GoneError):
            run.hold_still()
    for wanted in ("torn", "in life 1 after", "core is left", "slow never did", "cam-far ended by itself"):
        assert any(wanted in line for line in run.violations), wanted

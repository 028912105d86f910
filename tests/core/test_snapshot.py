"""The snapshot: adds up, stays as it was, travels as msgpack, and says times as the wall clock shows them."""

from contextlib import suppress
from typing import Any

import msgpack
import pytest

from supplierd.core.refusals import FrameRefusedError
from supplierd.core.service import ServiceClass, WorkerPolicy
from supplierd.core.snapshot import LAYOUT, ArenaSnapshot, Snapshot, take
from supplierd.core.stream import MAX_PUBLISHED
from supplierd.core.supplier import Supplier
from supplierd.core.worker import SET_UP_WITHIN
from tests.core.builders import Camera, Process, frame, mailbox_pictured, picture, pictured, report, supplier


@pytest.fixture
def core() -> Supplier:
    """Two streams, a critical worker that works, a push worker, and one that left."""
    core = supplier(
        {
            "vip": WorkerPolicy(ServiceClass.CRITICAL, drop_budget=0.0, target_fps=10.0, configured=True),
            "plain": WorkerPolicy(push=True, configured=True, streams=("cam-1",)),
        },
        streams=("cam-0", "cam-1"),
    )
    camera = Camera()
    vip, gone = Process(core, "vip", streams=("*",)), Process(core, "a-guest")
    vip.join()
    gone.join()
    vip.demand()
    for step in range(20):
        core.frame(camera.shoot(skipped=step % 3), step / 10)
    seen = vip.demand(2.0)
    vip.demand(2.1, report(seen, age=0.004, processing=0.1))
    gone.leave(2.1)
    core.rejected["bad_magic"] += 3
    core.distribution.observe(0.0004)
    core.tick(2.2)
    return core


def test_it_travels_as_msgpack(core: Supplier) -> None:
    arenas = (ArenaSnapshot("cam-1", 50_000_000, 6, 2),)
    snapshot = take(core, 2.5, 1000.0, arenas)
    travelled = Snapshot.from_wire(msgpack.unpackb(msgpack.packb(snapshot.to_wire())))
    assert travelled == snapshot
    assert travelled.workers[0].drop_ratio == snapshot.workers[0].drop_ratio


def test_an_empty_one_too() -> None:
    snapshot = picture(supplier())
    assert Snapshot.from_wire(msgpack.unpackb(msgpack.packb(snapshot.to_wire()))) == snapshot
    assert (snapshot.streams, snapshot.workers, snapshot.rejected) == ((), (), {})


@pytest.mark.parametrize("layout", [0, LAYOUT + 1, None, "1"])
def test_another_layout_is_refused(core: Supplier, layout: object) -> None:
    data: dict[str, Any] = {**picture(core).to_wire(), "layout": layout}
    with pytest.raises(ValueError, match="use the programs of one version"):
        Snapshot.from_wire(data)
    del data["layout"]
    with pytest.raises(ValueError, match="have layout None, this program reads"):
        Snapshot.from_wire(data)


@pytest.mark.parametrize(
    "change",
    [
        {"streams": 3},
        {"streams": [[]]},
        {"workers": [["w"]]},
        {"workers": None},
        {"arenas": [["cam-1", 1, 1, "1"]]},
        {"rejected": {"bad_magic": "3"}},
        {"at": "now"},
        {"at": 2**2000},
        {"distribution": [[0.1], [1], 0.1]},
    ],
)
def test_what_is_none_is_refused(core: Supplier, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"statistics cannot be read \(.*use the programs of one version"):
        Snapshot.from_wire({**picture(core).to_wire(), **change})


@pytest.mark.parametrize("name", ["at", "drop_window", "streams", "workers", "arenas", "rejected", "distribution"])
def test_what_lacks_a_part_is_refused(core: Supplier, name: str) -> None:
    data = picture(core).to_wire()
    del data[name]
    with pytest.raises(ValueError, match="statistics cannot be read"):
        Snapshot.from_wire(data)


def test_it_stays_as_it_was(core: Supplier) -> None:
    before = picture(core, 2.5)
    text = repr(before)
    core.frame(frame(900), 3.0)
    Process(core, "vip", streams=("*",)).join(3.0)
    core.rejected["bad_magic"] += 1
    core.distribution.observe(1.0)
    core.tick(50.0)
    assert repr(before) == text
    assert picture(core, 2.5) != before


def test_everything_adds_up(core: Supplier) -> None:
    snapshot = picture(core, 2.5)
    for stream in snapshot.streams:
        assert stream.published == stream.received + sum(stream.dropped.values())
    boxes = [mailbox for worker in snapshot.workers for mailbox in worker.mailboxes]
    assert [mailbox.balance for mailbox in boxes] == [0] * len(boxes)
    assert boxes[0]._replace(consumed=99).balance != 0


def test_streams_are_sorted_by_name_and_workers_by_class(core: Supplier) -> None:
    snapshot = picture(core)
    assert [stream.name for stream in snapshot.streams] == ["cam-0", "cam-1"]
    assert [worker.name for worker in snapshot.workers] == ["vip", "a-guest", "plain"]
    assert [mailbox.stream for mailbox in snapshot.workers[0].mailboxes] == ["cam-0", "cam-1"]


def test_a_stream(core: Supplier) -> None:
    never, live = picture(core, 2.5).streams
    assert (never.silent, never.last_frame_at, never.fps, never.epoch) == (True, None, 0.0, 0)
    assert (live.silent, live.published, live.received) == (False, 39, 20)
    assert live.last_frame_at == pytest.approx(1001.9)
    assert live.fps == pytest.approx(10 * 39 / 20, rel=0.25)
    assert live.last_seq == 39
    later = picture(core, 1.9 + core.settings.stream_timeout).streams[1]
    assert (later.silent, later.fps) == (True, 0.0)


def test_a_worker(core: Supplier) -> None:
    vip, guest, plain = picture(core).workers
    assert (vip.service_class, vip.state, vip.configured, vip.expected) == ("critical", "waiting", True, True)
    assert (vip.target_fps, vip.drop_budget, vip.push) == (10.0, 0.0, False)
    assert (guest.state, guest.configured, guest.expected) == ("gone", False, False)
    assert (plain.push, plain.expected, plain.mailboxes) == (True, True, ())


def test_a_mailbox(core: Supplier) -> None:
    mailbox = mailbox_pictured(core, "vip")
    assert mailbox.last_consumed_at == pytest.approx(1002.0)
    assert mailbox.last_consumed_seq == 39
    assert mailbox.age.total == pytest.approx(0.004)
    assert mailbox.dropped == {"overwritten": mailbox.overwritten, **mailbox.discarded}


def test_the_drop_ratio_is_over_the_window() -> None:
    core, camera = supplier(drop_window=10.0), Camera()
    process = Process(core)
    process.join(-SET_UP_WITHIN)
    assert pictured(core).drop_ratio is None
    for second in range(10):  # each second one consumed of four
        for _ in range(4):
            core.frame(camera.shoot(), float(second))
        seen = process.demand(float(second))
        process.demand(float(second), report(seen))
        process.repeat(float(second))
        core.tick(float(second))
        process.join(float(second), report(seen))
    ratio = pictured(core).drop_ratio
    assert ratio == pytest.approx(0.75, abs=0.02)
    for second in range(10, 22):
        core.tick(float(second))
    assert pictured(core).drop_ratio is None  # nothing in this window


def test_every_number_fits_into_msgpack_whatever_publishers_send() -> None:
    core = supplier()
    process = Process(core)
    process.join()
    for epoch in range(1001, 1100):
        for seq in (1, MAX_PUBLISHED // 2, MAX_PUBLISHED, 2**64 - 1):
            with suppress(FrameRefusedError):
                core.frame(frame(seq, epoch=epoch, unsent=2**64 - 1), 0.0)
    assert msgpack.packb(picture(core).to_wire())

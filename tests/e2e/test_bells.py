"""Real workers with bells: what comes by which way and in which order, and who resumes after which death.

That frames come by a bell shows in what does not come by ZeroMQ, and in the daemon's end of the connection.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from supplierd_client import AsyncWorker, Frame, Publisher, TakenOverError, Worker

from supplierd.wire.bell import MAX_HEADS
from tests.e2e.lane import exchange, publish
from tests.e2e.lane_parts import SIZE, filled, is_whole, place
from tests.support.bells import PulledFrames, connected
from tests.support.daemon import Daemon, assert_adds_up
from tests.support.peers import Background
from tests.support.processes import Actor
from tests.support.waiting import DEADLINE, wait_for

Actors = Callable[..., Actor]
Daemons = Callable[..., Daemon]

FPS = 30.0
RESUME = 3.0
"""Seconds within which frames flow again."""
GONE_WITHIN = 1.0
"""Seconds within which a worker that was killed is seen to be gone."""
TRIED = 1.5
"""Seconds after which a bell has proved itself: the next session has one, too."""


@pytest.fixture
def pulled(monkeypatch: pytest.MonkeyPatch) -> PulledFrames:
    return PulledFrames(monkeypatch)


def in_order(frames: list[dict[str, Any]]) -> bool:
    """Whether no older frame came after a newer one; a later epoch is newer."""
    return all((old["epoch"], old["seq"]) < (new["epoch"], new["seq"]) for old, new in pairwise(frames))


def camera(daemon: Daemon, actor: Actors, fps: float = FPS) -> Actor:
    return actor("publish", inbox=daemon.inbox, stream="cam-1", fps=fps, size=SIZE)


# --- by which way -----------------------------------------------------------------------------------------------------


def test_frames_in_shared_memory_come_by_the_bell(daemon: Daemon, pulled: PulledFrames) -> None:
    with Publisher("cam-1", daemon.inbox) as publisher, Worker("w", ["cam-1"], daemon.control) as worker:
        for _ in range(50):
            frame = exchange(publisher, worker)
            assert is_whole(frame)
            assert place(frame.array)
            del frame
        assert connected(daemon) == 1
        assert pulled.seqs == []
        assert_adds_up(daemon.snapshot())
    wait_for(lambda: connected(daemon) == 0, "the bell's end")
    assert daemon.logged("worker left")
    snapshot = daemon.snapshot()
    assert_adds_up(snapshot)
    assert snapshot.workers[0].mailboxes[0].consumed >= 49
    assert snapshot.rejected == {}


def test_an_asyncio_worker_has_a_bell_too(daemon: Daemon, pulled: PulledFrames) -> None:
    async def test() -> None:
        async with AsyncWorker("w", ["cam-1"], daemon.control) as worker:
            with Publisher("cam-1", daemon.inbox) as publisher:
                last = 0
                for _ in range(20):
                    publish(publisher)
                    frame = await worker.read(DEADLINE)
                    assert frame is not None
                    assert is_whole(frame)
                    assert frame.seq > last
                    last = frame.seq
                    del frame
            assert connected(daemon) == 1

    asyncio.run(asyncio.wait_for(test(), 2 * DEADLINE))
    assert pulled.seqs == []
    daemon.wait_for_state("w", "gone")
    assert daemon.logged("worker left")
    assert_adds_up(daemon.snapshot())


def test_arrays_of_every_kind_come_by_the_bell(daemon: Daemon, pulled: PulledFrames) -> None:
    """Type, shape and encoding are told once; a change of them is another head."""
    pictures = [
        np.arange(60_000, dtype=dtype).reshape(shape)
        for dtype in (np.uint8, np.float32, np.dtype(">u2"))
        for shape in ((60_000,), (200, 300), (100, 200, 3))
    ]
    with Publisher("cam-1", daemon.inbox) as publisher, Worker("w", ["cam-1"], daemon.control) as worker:
        for picture in pictures * 2:
            seq = publisher.publish(picture)
            frame = worker.read(DEADLINE)
            assert frame is not None
            assert frame.seq == seq
            assert frame.array.dtype == picture.dtype
            np.testing.assert_array_equal(frame.array, picture)
            del frame
        publisher.publish(filled(0).tobytes(), encoding="jpeg")
        jpeg = worker.read(DEADLINE)
        assert jpeg is not None
        assert (jpeg.encoding, bytes(jpeg.data)) == ("jpeg", filled(0).tobytes())
    assert pulled.seqs == []


def test_what_is_written_into_an_empty_metadata_stays_there(daemon: Daemon) -> None:
    """The frames of one run share a header, and users may write to a dict."""
    with Publisher("cam-1", daemon.inbox) as publisher, Worker("w", ["cam-1"], daemon.control) as worker:
        for _ in range(4):
            metadata: Any = exchange(publisher, worker).metadata
            assert metadata == {}
            metadata["mine"] = 1


def test_a_thread_that_had_to_wait_for_another_reads_no_longer_than_it_said(daemon: Daemon) -> None:
    with Publisher("cam-1", daemon.inbox) as publisher, Worker("w", ["cam-1"], daemon.control) as worker:
        for _ in range(3):
            exchange(publisher, worker)
        first = threading.Thread(target=worker.read, args=(DEADLINE,))
        first.start()
        wait_for(lambda: daemon.snapshot().workers[0].state == "waiting", "the first thread's demand")
        publishing = threading.Timer(0.8, publish, (publisher,))
        publishing.start()
        began = time.monotonic()
        assert worker.read(1.0) is None
        assert 0.8 < time.monotonic() - began < 1.5
        for thread in (first, publishing):
            thread.join(DEADLINE)


def test_inline_frames_come_in_order_to_the_same_worker(daemon: Daemon, pulled: PulledFrames) -> None:
    """Small ones, and those with more metadata than fits into a packet, go by ZeroMQ; those with little do not."""
    kinds: list[tuple[int, dict[str, str] | None]] = [
        (SIZE, None), (100, None), (SIZE, {"a": "b"}), (SIZE, {"a": "x" * 3000}), (100, {"a": "x" * 30_000}),
    ]  # fmt: skip
    got: list[Frame] = []
    inline = []
    with Publisher("cam-1", daemon.inbox) as publisher, Worker("w", ["cam-1"], daemon.control) as worker:
        for turn in range(8 * len(kinds)):
            size, metadata = kinds[turn * 3 % len(kinds) if turn % 2 else turn % len(kinds)]
            seq = publisher.publish(filled(publisher.published + 1, size), metadata=metadata)
            if size != SIZE or (metadata and metadata != {"a": "b"}):
                inline.append(seq)
            frame = worker.read(DEADLINE)
            assert frame is not None
            assert frame.seq == seq
            assert frame.metadata == (metadata or {})
            assert is_whole(frame)
            assert bool(place(frame.array)) is (size == SIZE)
            got.append(frame)
            del got[:-2]  # a worker may keep one
            del frame
        assert pulled.seqs == inline
        assert connected(daemon) == 1
    assert_adds_up(daemon.snapshot())


def test_more_streams_than_a_bell_remembers(daemons: Daemons, pulled: PulledFrames) -> None:
    """Heads are forgotten and told again, and no frame is taken for another stream's."""
    count = MAX_HEADS + 2
    daemon = daemons(f"[daemon]\nmax_streams = {count}").start()
    publishers = [Publisher(f"cam-{i}", daemon.inbox) for i in range(count)]
    try:
        with Worker("w", ["*"], daemon.control) as worker:
            for turn in range(1, 4):
                for number, publisher in enumerate(publishers):
                    publisher.publish(np.full(40_000, number, np.uint8))
                    frame = worker.read(DEADLINE)
                    assert frame is not None
                    assert (frame.stream, frame.seq) == (publisher.stream, turn)
                    assert (frame.array == number).all()
                    del frame
        assert pulled.seqs == []
        assert_adds_up(daemon.snapshot())
    finally:
        for publisher in publishers:
            publisher.close()


def test_without_bells_all_goes_over_zeromq(daemons: Daemons, pulled: PulledFrames) -> None:
    daemon = daemons("[control]\nbell = false").start()
    with Publisher("cam-1", daemon.inbox) as publisher, Worker("w", ["cam-1"], daemon.control) as worker:
        seqs = []
        for _ in range(20):
            frame = exchange(publisher, worker)
            assert place(frame.array)
            assert is_whole(frame)
            seqs.append(frame.seq)
            del frame
        assert pulled.seqs == seqs
    daemon.wait_for_state("w", "gone")
    assert_adds_up(daemon.snapshot())


def test_a_bell_that_cannot_be_reached_is_done_without(daemon: Daemon, pulled: PulledFrames) -> None:
    """Its file is gone, as where only some sockets were put into a container."""
    (daemon.runtime_dir / "bell.sock").unlink()
    with Publisher("cam-1", daemon.inbox) as publisher, Worker("w", ["cam-1"], daemon.control) as worker:
        frame = exchange(publisher, worker)
        assert place(frame.array)
        assert pulled.seqs == [frame.seq]
        del frame
    assert_adds_up(daemon.snapshot())


# --- deaths -----------------------------------------------------------------------------------------------------------


def test_a_killed_daemon_is_followed_by_a_bell_of_the_next(daemon: Daemon, actor: Actors) -> None:
    camera(daemon, actor)
    workers = [actor("work", control=daemon.control, name=f"w-{i}") for i in range(3)]
    for worker in workers:
        worker.wait_frames(1)
    workers[-1].wait_frames(round(FPS * TRIED))
    assert connected(daemon) == len(workers)
    daemon.kill()
    daemon.start()
    for worker in workers:
        worker.wait_frames(1, deadline=RESUME)
    for worker in workers:
        worker.wait_frames(5)
        assert worker.error is None
        assert in_order(worker.frames)
    assert connected(daemon) == len(workers)
    assert_adds_up(daemon.snapshot())


def test_a_daemon_that_says_goodbye_is_followed_by_a_bell_of_the_next(
    daemon: Daemon, actor: Actors, pulled: PulledFrames
) -> None:
    source = camera(daemon, actor)
    with Worker("w", ["cam-1"], daemon.control) as worker:
        seqs: list[int] = []

        def step() -> None:
            frame = worker.read(DEADLINE)
            assert frame is not None
            seqs.append(frame.seq)

        with Background(step) as reader:
            reader.wait_turns(round(FPS * TRIED))
            daemon.stop()
            assert connected(daemon) == 0
            daemon.start()
            before = reader.turns
            wait_for(lambda: reader.turns > before, "a frame of the next daemon", RESUME)
            reader.wait_turns(5)
            assert connected(daemon) == 1
        assert seqs == sorted(set(seqs))
        assert pulled.seqs == []
    source.end()
    assert_adds_up(daemon.snapshot())


def test_a_killed_worker_is_gone_within_a_second(daemon: Daemon, actor: Actors) -> None:
    camera(daemon, actor)
    untouched = actor("work", control=daemon.control, name="untouched")
    victim = actor("work", control=daemon.control, name="victim")
    for worker in (untouched, victim):
        worker.wait_frames(10)
    seen = len(untouched.frames)
    victim.kill()
    killed = time.monotonic()
    daemon.wait_for_state("victim", "gone")
    assert time.monotonic() - killed < GONE_WITHIN
    wait_for(lambda: connected(daemon) == 1, "its bell's end")
    untouched.wait_frames(10)
    frames = untouched.frames[seen:]
    assert max(new["at"] - old["at"] for old, new in pairwise(frames)) < 1.0
    successor = actor("work", control=daemon.control, name="victim")
    successor.wait_frames(5, deadline=RESUME)
    assert connected(daemon) == 2
    snapshot = daemon.snapshot()
    assert_adds_up(snapshot)
    assert not daemon.logged("worker took over")


def test_after_a_standstill_the_first_frame_is_the_newest(daemon: Daemon, actor: Actors) -> None:
    """One lay in the bell all the time: the client asks over the bell whether there is a newer one."""
    source = camera(daemon, actor)
    worker = actor("work", control=daemon.control, name="w")
    worker.wait_frames(20)
    worker.freeze()
    source.wait_frames(round(2.0 * FPS))
    published, thawed = source.frames[-1]["seq"], time.time()
    worker.thaw()

    def first() -> dict[str, Any] | None:
        return next((frame for frame in worker.frames if frame["at"] > thawed), None)

    found = wait_for(first, "a frame after the standstill")
    assert found["seq"] >= published - 1, "a frame from before was handed out"
    print(f"age after the standstill: {found['age'] * 1e3:.1f} ms")
    worker.wait_frames(5)
    assert connected(daemon) == 1
    snapshot = daemon.snapshot()
    assert_adds_up(snapshot)
    assert snapshot.workers[0].mailboxes[0].discarded.get("stale", 0) <= 1
    assert snapshot.workers[0].mailboxes[0].overwritten >= FPS


def test_a_worker_that_takes_over_has_the_bell(daemon: Daemon, actor: Actors, pulled: PulledFrames) -> None:
    camera(daemon, actor)
    with Worker("w", ["cam-1"], daemon.control) as old:
        assert old.read(DEADLINE) is not None
        with Worker("w", ["cam-1"], daemon.control) as new:
            assert new.read(DEADLINE) is not None
            with pytest.raises(TakenOverError):
                for _ in iter(old.read, None):
                    pass
            assert new.read(DEADLINE) is not None
            wait_for(lambda: connected(daemon) == 1, "the old one's bell to end")
    assert pulled.seqs == []
    assert len(daemon.logged("worker took over")) == 1
    assert_adds_up(daemon.snapshot())


def test_a_leave_with_a_frame_unread_is_heard(daemon: Daemon) -> None:
    """A worker closes while a frame lies in its bell: its report still arrives, and nothing counts as lost."""
    with Publisher("cam-1", daemon.inbox) as publisher:
        for turn in range(10):
            with Worker(f"w-{turn}", ["cam-1"], daemon.control) as worker:
                exchange(publisher, worker)
                assert worker.read(timeout=0) is None  # a demand is out
                daemon.wait_for_state(worker.name, "waiting")
                daemon.deliver(publisher, filled(0).tobytes())
    snapshot = daemon.settled(lambda s: all(w.state == "gone" for w in s.workers), "all to leave")
    assert len(daemon.logged("worker left")) == 10
    assert_adds_up(snapshot)
    for found in snapshot.workers:
        assert not found.expected
        assert found.mailboxes[0].consumed == 1


# --- strange frames ---------------------------------------------------------------------------------------------------


def test_a_capture_before_the_clock_began_ends_nobody(daemon: Daemon) -> None:
    """An age that 64 bits of nanoseconds cannot hold: of a publisher whose clock is wrong, or that lies."""
    with Publisher("cam-1", daemon.inbox) as publisher, Worker("w", ["cam-1"], daemon.control) as worker:
        exchange(publisher, worker)
        now, longest = time.time(), 2**63 / 1e9
        age = longest + time.monotonic() / 2
        seq = publisher.publish(filled(2), captured_at=now - age)
        frame = worker.read(DEADLINE)
        assert frame is not None
        assert frame.seq == seq
        assert frame.age > longest
        del frame
        assert exchange(publisher, worker).seq > seq
    daemon.wait_for_state("w", "gone")
    assert_adds_up(daemon.snapshot())

"""Arenas come and go: sizes change, publishers and daemons are restarted or killed, and nothing is left over."""

import random
from collections.abc import Callable

from supplierd_client import Publisher, Worker

from supplierd.arena import arena_directory
from supplierd.arena.writer import ArenaWriter
from tests.e2e.lane import LaneActor, arenas, exchange, inline, publish, read
from tests.e2e.lane_parts import SIZE, is_whole, mapped_arenas, place
from tests.support.daemon import Daemon, assert_adds_up
from tests.support.waiting import wait_for

Lane = Callable[..., LaneActor]


def test_jpegs_of_changing_sizes_share_one_arena(daemon: Daemon) -> None:
    chance = random.Random(1)
    with Publisher("cam-1", daemon.inbox) as publisher, Worker("detector", ["cam-1"], daemon.control) as worker:
        for _ in range(100):
            frame = exchange(publisher, worker, chance.randint(40_000, 200_000))
            assert is_whole(frame)
            assert place(frame.array)
        assert len(arenas(daemon)) == 1
        assert not inline(daemon)
    wait_for(lambda: not arenas(daemon), "the closed publisher's arena to go")


def test_another_resolution_takes_another_arena(daemon: Daemon) -> None:
    with Publisher("cam-1", daemon.inbox) as publisher, Worker("detector", ["cam-1"], daemon.control) as worker:
        kept = exchange(publisher, worker)
        old = arenas(daemon)
        assert mapped_arenas() == old
        for _ in range(5):
            frame = exchange(publisher, worker, 20 * SIZE)
            assert is_whole(frame)
            assert place(frame.array)
        new = arenas(daemon)
        assert len(new) == 1, "the old file is gone once no newest frame is in it"
        assert not new & old
        assert mapped_arenas() == old | new, "its memory is still there, for the frame that is kept"
        assert is_whole(kept)
        kept.release()
        wait_for(lambda: mapped_arenas() == new, "the old arena to be let go")
        for _ in range(600):
            publish(publisher)
        assert is_whole(frame := exchange(publisher, worker))
        assert place(frame.array)
        assert len(arenas(daemon)) == 1
        assert not arenas(daemon) & (old | new), "much smaller frames move to a smaller arena"
        assert_adds_up(daemon.snapshot())


def test_a_restarted_publisher_and_a_kept_frame(daemon: Daemon) -> None:
    with Worker("detector", ["cam-1"], daemon.control) as worker:
        with Publisher("cam-1", daemon.inbox) as publisher:
            kept = exchange(publisher, worker)
            first = arenas(daemon)
        assert not arenas(daemon)
        with Publisher("cam-1", daemon.inbox) as publisher:
            frame = exchange(publisher, worker)
            assert frame.epoch > kept.epoch
            assert is_whole(frame)
            assert place(frame.array)
            assert not first & arenas(daemon)
            for _ in range(20):
                exchange(publisher, worker)
        assert is_whole(kept)
    assert_adds_up(daemon.snapshot())


def test_the_arena_of_a_killed_publisher_is_removed_and_its_frames_last(daemon: Daemon, lane: Lane) -> None:
    camera = lane("camera", inbox=daemon.inbox)
    with Worker("detector", ["*"], daemon.control) as worker:
        kept = read(worker)
        dead = arenas(daemon)
        camera.kill()
        assert arenas(daemon) == dead
        successor = lane("camera", inbox=daemon.inbox)
        wait_for(lambda: successor.frames, "the new publisher")
        while (frame := read(worker)).epoch == kept.epoch:
            pass
        assert is_whole(frame)
        assert place(frame.array)
        wait_for(lambda: not arenas(daemon) & dead, "the dead one's arena to be removed")
        assert len(arenas(daemon)) == 1
        assert daemon.logged("arena of a dead publisher removed")
        assert is_whole(kept)
        assert place(kept.array)
    assert_adds_up(daemon.snapshot())


def test_a_daemon_that_is_killed_and_started_again_while_frames_flow(daemon: Daemon, lane: Lane) -> None:
    lane("camera", inbox=daemon.inbox, stream="cam-1")
    doomed = lane("camera", inbox=daemon.inbox, stream="cam-2")
    keeper = lane("watch", control=daemon.control, name="keeper", keep=5)
    keeper.wait_shared()
    wait_for(lambda: len(arenas(daemon)) == 2, "both publishers")
    for round_number in range(2):
        daemon.kill()
        if round_number == 0:
            doomed.kill()
            assert len(arenas(daemon)) == 2
        daemon.start()
        assert [name.rpartition("-")[0] for name in arenas(daemon)] == ["cam-1"], "no dead arena survives a start"
        frame = keeper.wait_shared()
        assert frame["whole"]
        assert keeper.wait_frame(lambda frame: frame["kept"] == 5, "kept frames")
        assert not inline(daemon)
        assert_adds_up(daemon.snapshot())
    keeper.end()
    assert all(frame["whole"] for frame in keeper.frames)


def test_a_stopped_daemon_leaves_the_arenas_of_living_publishers(daemon: Daemon) -> None:
    with Publisher("cam-1", daemon.inbox) as publisher, Worker("detector", ["*"], daemon.control) as worker:
        exchange(publisher, worker)
        living = arenas(daemon)
        dead = ArenaWriter(arena_directory(daemon.runtime_dir), "cam-2")
        dead.write(b"frame")
        assert len(arenas(daemon)) == 2
        dead._unlink.detach()  # as if it had been killed: its file stays, its locks go
        del dead
        daemon.stop()
        assert arenas(daemon) == living
        daemon.start()
        wait_for(lambda: publisher.connected, "the publisher to find the daemon")
        frame = exchange(publisher, worker)
        assert is_whole(frame)
        assert place(frame.array)
        assert arenas(daemon) == living

"""Slots: what a hoarder costs the others, who it is, and that memory follows the frames really held."""

from collections.abc import Callable

from supplierd_client import Publisher, Worker

from supplierd.arena import arena_directory
from tests.e2e.lane import LaneActor, exchange, inline, leases, publish, read
from tests.e2e.lane_parts import SIZE, is_whole, place
from tests.support.daemon import Daemon, assert_adds_up
from tests.support.processes import Outcome
from tests.support.waiting import wait_for

Lane = Callable[..., LaneActor]
MIB = 1 << 20
OVERHEAD = 8
"""Frames beyond those that workers keep: 3 spared, the daemon's newest, one under way to each of two workers, one being
written, and one for luck."""


def test_where_one_worker_hoards_frames_go_inline_and_it_is_named(daemon: Daemon) -> None:
    with (
        Publisher("cam-1", daemon.inbox, arena_slots=6) as publisher,
        Worker("hoarder", ["cam-1"], daemon.control) as hoarder,
        Worker("detector", ["cam-1"], daemon.control) as detector,
    ):
        hoard = []
        while not inline(daemon):
            hoard.append(exchange(publisher, hoarder))
            assert is_whole(read(detector))
            assert len(hoard) < 10, "6 slots never run out"
        for _ in range(5):
            frame = exchange(publisher, detector)
            assert is_whole(frame)
            assert place(frame.array) is None
            assert is_whole(read(hoarder))
        assert all(map(is_whole, hoard))
        held = sum(place(frame.array) is not None for frame in hoard)
        assert held >= 3
        wait_for(lambda: leases(daemon, "hoarder") == held, "the hoard to be told")
        found = daemon.snapshot()
        assert leases(daemon, "detector") == 0
        assert found.streams[0].inline == {"no_slot": found.streams[0].received - held}
        scraped = daemon.scrape()
        assert scraped.value("supplierd_frames_inline_total", stream="cam-1", reason="no_slot") >= 5
        assert scraped.value("supplierd_worker_leases", worker="hoarder", class_="normal") == held
        assert scraped.value("supplierd_arena_slots", stream="cam-1", state="leased") == held
        assert scraped.value("supplierd_arena_slots", stream="cam-1", state="free") == 6 - held
        shown = Outcome("stats", "--runtime-dir", daemon.runtime_dir).out
        assert f"leases held: hoarder {held}" in shown
        assert "(no_slot)" in shown
        hoard.clear()
        assert place(exchange(publisher, detector).array), "and back, as soon as it lets go"
        assert_adds_up(daemon.snapshot())


def test_a_hoarder_that_is_killed_holds_nothing(daemon: Daemon, lane: Lane) -> None:
    with Publisher("cam-1", daemon.inbox, arena_slots=6) as publisher:
        hoarder = lane("watch", control=daemon.control, name="hoarder", keep=100)
        daemon.wait_for_state("hoarder", "waiting", "starved")
        wait_for(lambda: publish(publisher) and inline(daemon), "the slots to run out")
        hoarder.kill()
        before = sum(inline(daemon).values())
        for _ in range(20):
            publish(publisher)
        assert sum(inline(daemon).values()) == before
        assert place(publisher.loan((SIZE,)).array)


def test_memory_follows_the_frames_that_are_held(daemon: Daemon) -> None:
    """80 slots of 1 MiB: some frames' worth of memory is taken, until somebody holds more; then it is returned."""

    def taken() -> int:
        """Whole frames' worth, without the table."""
        (path,) = arena_directory(daemon.runtime_dir).iterdir()
        found = path.stat().st_blocks * 512
        assert daemon.scrape().value("supplierd_arena_bytes", stream="cam-1") == found
        return found // MIB

    with (
        Publisher("cam-1", daemon.inbox) as publisher,
        Worker("fast", ["cam-1"], daemon.control) as fast,
        Worker("hoarder", ["cam-1"], daemon.control) as hoarder,
    ):
        for _ in range(100):
            exchange(publisher, fast, MIB)
        assert taken() <= OVERHEAD
        hoard = [exchange(publisher, hoarder, MIB) for _ in range(30)]
        assert 30 <= taken() <= 30 + OVERHEAD
        assert all(map(is_whole, hoard))
        hoard.clear()
        exchange(publisher, hoarder, MIB)
        for _ in range(1000):
            publish(publisher, MIB)
        assert taken() <= OVERHEAD
        assert is_whole(read(fast))
        assert not inline(daemon)

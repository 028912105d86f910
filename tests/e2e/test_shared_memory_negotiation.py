"""Who cannot read arenas gets the bytes inline, beside those who can, and everybody can see why."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import zmq
from supplierd_client import Publisher, Worker

from supplierd.arena import Descriptor, arena_directory
from supplierd.arena.layout import TABLE_OFFSET, Header, new_name
from supplierd.arena.locks import LockFile
from supplierd.arena.writer import ArenaWriter
from supplierd.wire import control
from supplierd.wire.frame import ArenaRef
from tests.e2e.lane import LaneActor, arenas, exchange, inline, publish, read
from tests.e2e.lane_parts import SIZE, filled, is_whole, place
from tests.support.bells import join_of
from tests.support.daemon import Daemon, assert_adds_up, free_port
from tests.support.peers import Background, frame_message, plain
from tests.support.processes import Outcome
from tests.support.waiting import DEADLINE, wait_for

Lane = Callable[..., LaneActor]
NOBODY = 65534
INLINE = "supplierd_worker_inline"


def stats(daemon: Daemon) -> str:
    """What `supplierd stats` shows."""
    return Outcome("stats", "--runtime-dir", daemon.runtime_dir).out


@contextmanager
def near_and_far(daemons: Callable[..., Daemon], more: str = "") -> Iterator[tuple[Daemon, Publisher, Worker, Worker]]:
    """A daemon, a publisher, and two workers: one sees the arena, one comes over tcp. `more`: of the configuration."""
    remote = f"tcp://127.0.0.1:{free_port()}"
    daemon = daemons(f'control.endpoints = ["ipc", "{remote}"]\n{more}').start()
    with (
        Publisher("cam-1", daemon.inbox) as publisher,
        Worker("near", ["cam-1"], daemon.control) as near,
        Worker("far", ["cam-1"], remote) as far,
    ):
        yield daemon, publisher, near, far


def test_a_worker_over_tcp_gets_bytes_beside_one_that_sees_the_arena(daemons: Callable[..., Daemon]) -> None:
    with near_and_far(daemons) as (daemon, publisher, near, far):
        for _ in range(10):
            seen = exchange(publisher, near)
            sent = read(far)
            assert place(seen.array)
            assert place(sent.array) is None
            assert is_whole(seen)
            assert is_whole(sent)
            assert not sent.array.flags.writeable
        assert "inline: far (remote)" in stats(daemon)
        scraped = daemon.scrape()
        assert scraped.value(INLINE, worker="far", class_="normal", reason="remote") == 1
        assert len(scraped.samples[INLINE]) == 1
        assert not inline(daemon), "the publisher's frames are in shared memory all the same"
        assert_adds_up(daemon.snapshot())


def test_a_worker_of_the_daemons_group_sees_the_arena_and_one_that_may_not_gets_bytes(
    daemon: Daemon, lane: Lane
) -> None:
    if os.geteuid():
        pytest.skip("only root can start a process of another user")
    for path in (daemon.runtime_dir, *daemon.runtime_dir.parents[:2]):
        path.chmod(0o750)
    lane("camera", inbox=daemon.inbox)
    member = lane("watch", control=daemon.control, name="member", uid=NOBODY)
    assert member.wait_shared()["whole"]
    arena_directory(daemon.runtime_dir).chmod(0o700)
    stranger = lane("watch", control=daemon.control, name="stranger", uid=NOBODY)
    assert stranger.wait_inline()["whole"]
    assert member.wait_shared()["whole"], "what is open stays open"
    assert "inline: stranger (no_permission)" in stats(daemon)
    assert daemon.scrape().value(INLINE, worker="stranger", class_="normal", reason="no_permission") == 1


def test_a_worker_that_loses_its_permission_goes_on_inline(daemon: Daemon, lane: Lane) -> None:
    if os.geteuid():
        pytest.skip("only root can start a process of another user")
    for path in (daemon.runtime_dir, *daemon.runtime_dir.parents[:2]):
        path.chmod(0o750)
    camera = lane("camera", inbox=daemon.inbox)
    worker = lane("watch", control=daemon.control, name="detector", uid=NOBODY)
    worker.wait_shared()
    arena_directory(daemon.runtime_dir).chmod(0o700)
    camera.tell(20 * SIZE)  # which needs another arena
    sent = worker.wait_inline()
    assert (sent["whole"], sent["size"]) == (True, 20 * SIZE)
    (warning,) = worker.warnings
    assert "cannot open the arena" in warning
    assert "member of its group" in warning
    found = daemon.worker("detector")
    assert found
    assert (found.inline_reason, found.mailboxes[0].discarded["unreadable"]) == ("no_permission", 1)
    assert_adds_up(daemon.snapshot())


def test_a_daemon_without_an_arena_directory_serves_inline(daemons: Callable[..., Daemon]) -> None:
    daemon = daemons()
    daemon.runtime_dir.mkdir()
    (daemon.runtime_dir / "arena").write_text("in the way")
    daemon.start()
    assert daemon.logged("cannot make arenas in")
    with Publisher("cam-1", daemon.inbox) as publisher, Worker("detector", ["cam-1"], daemon.control) as worker:
        assert is_whole(exchange(publisher, worker))
        assert inline(daemon) == {"not_found": 1}
        found = daemon.worker("detector")
        assert found
        assert found.inline_reason == "not_found"
    daemon.stop()


@pytest.mark.parametrize(("mode", "size", "reason"), [("off", SIZE, "off"), ("auto", 1000, "small"), ("on", 1, "")])
def test_frames_go_inline_as_the_publisher_wants(daemon: Daemon, mode: str, size: int, reason: str) -> None:
    with (
        Publisher("cam-1", daemon.inbox, shared_memory=mode) as publisher,  # type: ignore[arg-type]
        Worker("detector", ["cam-1"], daemon.control) as worker,
    ):
        frame = exchange(publisher, worker, size)
        assert is_whole(frame)
        assert (place(frame.array) is None) == bool(reason)
        assert inline(daemon) == ({reason: 1} if reason else {})
        value = daemon.scrape().value("supplierd_frames_inline_total", stream="cam-1", reason=reason)
        assert value == bool(reason)


# --- what cannot be sent inline ---------------------------------------------------------------------------------------


def test_a_frame_too_large_for_a_message_is_missed_by_those_who_need_one(daemons: Callable[..., Daemon]) -> None:
    with near_and_far(daemons, f"[inbox]\nmax_message_bytes = {2 * SIZE}") as (daemon, publisher, near, far):
        exchange(publisher, near)
        assert is_whole(read(far))
        for _ in range(3):
            assert is_whole(exchange(publisher, near, 4 * SIZE))
            assert far.read(0.05) is None
        exchange(publisher, near)
        assert is_whole(read(far))
        found = daemon.mailbox("far", "cam-1")
        assert found
        assert found.discarded == {"unreadable": 3}
        assert daemon.logged("has more than inbox.max_message_bytes")
        assert_adds_up(daemon.snapshot())


def forged(daemon: Daemon, slot_size: int) -> tuple[Path, ArenaRef]:
    """An arena that takes no memory, whatever the size of its slots, and the name of the frame in its first one."""
    path, header = arena_directory(daemon.runtime_dir) / new_name("cam-1"), Header.plan(4, slot_size)
    with path.open("wb") as file:
        file.truncate(header.file_size)
        file.write(header.pack())
        file.seek(TABLE_OFFSET)
        file.write((2).to_bytes(8, sys.byteorder))
    return path, ArenaRef(path.name, 0, 2, header.offset(0), slot_size)


def test_an_arena_of_slots_beyond_measure_is_none(daemon: Daemon) -> None:
    _, place = forged(daemon, 1 << 40)
    with plain(zmq.PUSH, daemon.inbox) as socket:
        socket.send(frame_message(payload=b"", arena=place))
        daemon.wait_for_rejected("no_arena")
    assert daemon.running


def test_a_frame_cannot_name_another_streams_arena(daemon: Daemon) -> None:
    """Else one stream could have any number of files opened."""
    _, place = forged(daemon, SIZE)
    with plain(zmq.PUSH, daemon.inbox) as socket:
        socket.send(frame_message("cam-2", payload=b"", arena=place))
        daemon.wait_for_rejected("no_arena")


def test_a_stream_that_is_not_taken_opens_no_arena(daemons: Callable[..., Daemon]) -> None:
    daemon = daemons("[daemon]\naccept_unknown_streams = false").start()
    before = len(os.listdir(f"/proc/{daemon.pid}/fd"))
    with plain(zmq.PUSH, daemon.inbox) as socket:
        for count in range(1, 6):
            _, place = forged(daemon, SIZE)
            socket.send(frame_message(payload=b"", arena=place))
            daemon.wait_for_rejected("unknown_stream", count)
    assert len(os.listdir(f"/proc/{daemon.pid}/fd")) <= before + 4


def test_a_frame_whose_arena_was_cut_short_is_discarded_once(daemon: Daemon) -> None:
    path, place = forged(daemon, SIZE)
    with closing(LockFile(os.open(path, os.O_RDWR))) as lock, plain(zmq.PUSH, daemon.inbox) as socket:
        lock.hold_life()
        socket.send(frame_message(payload=b"", arena=place))
        wait_for(lambda: daemon.stream("cam-1"), "the frame to arrive")
        os.truncate(path, TABLE_OFFSET)
        with plain(zmq.DEALER, daemon.control) as peer:
            peer.send(control.encode(join_of("far", arena="unsupported", streams=["cam-1"])))
            welcome = control.decode_from_daemon(peer.recv())
            assert isinstance(welcome, control.Welcome)
            with plain(zmq.PULL, welcome.endpoint):
                peer.send(control.encode(control.Demand(welcome.session, 1)))
                wait_for(lambda: (found := daemon.mailbox("far", "cam-1")) and found.discarded, "its end")
                found = daemon.mailbox("far", "cam-1")
                assert found
                assert (found.discarded, found.pending) == ({"unreadable": 1}, 0)
    assert len(daemon.logged("its shared memory is damaged")) == 1


# --- stale descriptors ------------------------------------------------------------------------------------------------


@pytest.fixture
def stale(daemon: Daemon) -> Iterator[Descriptor]:
    """Names a frame whose slot has been used again."""
    with ArenaWriter(arena_directory(daemon.runtime_dir), "cam-1", slots=4, spare=0) as writer:
        descriptor = writer.write(bytes(SIZE))
        writer.write(bytes(SIZE))
        yield descriptor


def test_a_stale_descriptor_in_the_inbox_is_counted(daemon: Daemon, stale: Descriptor) -> None:
    with plain(zmq.PUSH, daemon.inbox) as socket:
        socket.send(frame_message(payload=b"", arena=ArenaRef(*stale)))
        daemon.wait_for_rejected("stale_descriptor")
    assert daemon.scrape().value("supplierd_messages_rejected_total", reason="stale_descriptor") == 1
    assert not daemon.stream("cam-1")


def test_a_worker_that_comes_too_late_for_an_arena_asks_at_once(daemon: Daemon) -> None:
    with Publisher("cam-1", daemon.inbox) as publisher, Worker("detector", ["cam-1"], daemon.control) as worker:
        publish(publisher)
        wait_for(lambda: daemon.stream("cam-1"), "the frame to arrive")
        (arena,) = arenas(daemon)
        (arena_directory(daemon.runtime_dir) / arena).unlink()  # the daemon has it open, the worker has not
        assert worker.read(0.5) is None
        found = daemon.mailbox("detector", "cam-1")
        assert found
        assert found.discarded == {"stale_descriptor": 1}
        began = time.monotonic()
        frame = exchange(publisher, worker)  # in a new arena, for the publisher sees that the other one is gone
        assert time.monotonic() - began < 0.5, "the open demand is answered, not the one repeated each second"
        assert (frame.seq, is_whole(frame)) == (2, True)
        assert place(frame.array)
        labels = {"worker": "detector", "stream": "cam-1", "class_": "normal", "reason": "stale_descriptor"}
        assert daemon.scrape().value("supplierd_worker_frames_dropped_total", **labels) == 1
        assert_adds_up(daemon.snapshot())


def test_the_newest_frame_is_asked_for_at_once(home: Path) -> None:
    """The daemon is played by the test: it sends a stale descriptor, and, to the demand that follows, a good one."""
    control_endpoint, link_endpoint = (f"ipc://{home}/{name}.sock" for name in ("control", "link"))
    directory = arena_directory(home)
    directory.mkdir()
    with (
        zmq.Context() as context,
        context.socket(zmq.ROUTER) as router,
        context.socket(zmq.PUSH) as link,
        ArenaWriter(directory, "cam-1", slots=4, spare=0) as writer,
    ):
        router.bind(control_endpoint)
        link.bind(link_endpoint)
        stale = writer.write(filled(1))
        good = writer.write(filled(2))
        with Worker("detector", ["cam-1"], control_endpoint) as worker:
            heard: list[control.FromClient] = []

            def play() -> None:
                """Answer one message."""
                peer, data = router.recv_multipart()
                heard.append(message := control.decode_from_client(data))
                if isinstance(message, control.Join):
                    welcome = control.Welcome(7, link_endpoint, message.attempt, "normal", repeat_after=DEADLINE)
                    router.send_multipart([peer, control.encode(welcome)])
                elif isinstance(message, control.Demand):
                    descriptor = stale if message.number == 1 else good
                    ref = ArenaRef(*descriptor)
                    link.send(frame_message(seq=message.number, payload=b"", epoch=1, arena=ref))

            def turn() -> None:
                if router.poll(10):
                    play()

            with Background(turn):
                frame = read(worker)
                assert (frame.seq, is_whole(frame)) == (2, True)
    join, first, second = heard[:3]
    assert isinstance(join, control.Join)
    assert join.arena == ""
    assert isinstance(first, control.Demand)
    assert isinstance(second, control.Demand)
    assert (first.number, first.settled) == (1, None)
    assert second.number == 2
    assert second.settled is not None
    assert second.settled[:4] == ("cam-1", 1, 1, "stale_descriptor")

"""Real publishers with doorbells: what goes by which way and in which order, beside whom.

That frames go by a doorbell shows in what does not go by ZeroMQ, and in the daemon's end of the connection.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest
import zmq
from supplierd_client import Frame, Publisher, Worker
from supplierd_client import doorbell as client

from supplierd.transport.doorbells import MOST
from supplierd.wire.bell import MAX_PACKET
from supplierd.wire.doorbell import doorbell_path
from tests.e2e.lane import exchange, inline, publish, read
from tests.e2e.lane_parts import SIZE, filled, is_whole, place
from tests.support.daemon import Daemon, assert_adds_up, environment
from tests.support.doorbells import Knocker, PushedFrames, places
from tests.support.peers import Background, frame_message, plain
from tests.support.processes import Actor
from tests.support.waiting import DEADLINE, wait_for

Actors = Callable[..., Actor]
Daemons = Callable[..., Daemon]

RETURN = client.RETRY_AFTER + 2.0
"""Seconds within which a publisher that finds a place has it."""


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> PushedFrames:
    return PushedFrames(monkeypatch)


def in_order(seqs: list[int]) -> bool:
    return all(old < new for old, new in pairwise(seqs))


def bell_of(daemon: Daemon) -> Path:
    return Path(doorbell_path(daemon.inbox))


# --- by which way -----------------------------------------------------------------------------------------------------


def test_frames_in_shared_memory_go_by_the_doorbell(daemon: Daemon, pushed: PushedFrames) -> None:
    with Publisher("cam-1", daemon.inbox) as publisher, Worker("w", ["cam-1"], daemon.control) as worker:
        assert places(daemon) == 1
        for _ in range(50):
            publish(publisher)
            frame = read(worker)
            assert frame.seq == publisher.published
            assert is_whole(frame)
            assert place(frame.array)
            del frame
        for _ in range(500):  # as fast as can be
            publish(publisher)
        while (frame := read(worker)).seq < publisher.published:
            assert is_whole(frame)
            del frame
        del frame
        assert pushed.seqs == []
        assert publisher.unsent == 0
    wait_for(lambda: places(daemon) == 0, "the doorbell's end")
    snapshot = daemon.snapshot()
    assert_adds_up(snapshot)
    assert snapshot.streams[0].published == 550
    assert set(snapshot.rejected) <= {"stale_descriptor"}  # of the fast ones, some were gone before they were taken


def test_loans_and_the_last_frame_before_closing_go_by_it(daemon: Daemon, pushed: PushedFrames) -> None:
    with Worker("w", ["*"], daemon.control) as worker:
        got: list[tuple[str, int]] = []

        def step() -> None:
            frame = worker.read(0.1)
            if frame is not None:
                assert is_whole(frame)
                got.append((frame.stream, frame.seq))

        with Background(step) as reader:
            daemon.wait_for_state("w", "waiting", "starved")
            for number in range(1, 4):
                with Publisher(f"cam-{number}", daemon.inbox) as publisher:
                    loan = publisher.loan((SIZE,))
                    loan.array[:] = 1
                    publisher.publish(loan)
                wait_for(lambda number=number: len(got) == number or reader.done, "the frame")  # type: ignore[misc]
    assert got == [("cam-1", 1), ("cam-2", 1), ("cam-3", 1)]
    assert pushed.seqs == []


def test_inline_frames_come_in_order_with_the_others(
    daemon: Daemon, pushed: PushedFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small ones, and those whose head is longer than a packet, go by ZeroMQ; others follow them there for a while."""
    monkeypatch.setattr(client, "NOT_OVERTAKEN", 0.0)  # each frame is read before the next
    kinds: list[tuple[int, dict[str, str] | None]] = [
        (SIZE, None), (100, None), (SIZE, {"a": "b"}), (SIZE, {"a": "x" * 5000}), (100, {"a": "x" * 30_000}),
    ]  # fmt: skip
    by_zeromq = []
    with Publisher("cam-1", daemon.inbox) as publisher, Worker("w", ["cam-1"], daemon.control) as worker:
        for turn in range(12 * len(kinds)):
            size, metadata = kinds[turn * 3 % len(kinds) if turn % 2 else turn % len(kinds)]
            seq = publisher.publish(filled(publisher.published + 1, size), metadata=metadata)
            if size != SIZE or (metadata and len(metadata["a"]) > 4000):
                by_zeromq.append(seq)
            frame = read(worker)
            assert frame.seq == seq
            assert frame.metadata == (metadata or {})
            assert is_whole(frame)
            del frame
        assert pushed.seqs == by_zeromq
    snapshot = daemon.snapshot()
    assert_adds_up(snapshot)
    assert snapshot.streams[0].received == publisher.published
    assert snapshot.rejected == {}


def test_an_inline_frame_is_not_overtaken(daemon: Daemon, actor: Actors, pushed: PushedFrames) -> None:
    """At a pace: what follows an inline frame goes the same way for a while, and then by the doorbell again."""
    worker = actor("work", control=daemon.control, name="w")
    with Publisher("cam-1", daemon.inbox) as publisher:
        exchange_with(publisher, worker)
        pushed.seqs.clear()
        due, begin = time.monotonic(), publisher.published + 10
        while publisher.published < begin + 10 or pushed.seqs[-1] > publisher.published - 10:
            publish(publisher, 100 if begin <= publisher.published < begin + 10 else SIZE)
            due += 0.01
            time.sleep(max(0.0, due - time.monotonic()))
        assert pushed.seqs == list(range(begin + 1, pushed.seqs[-1] + 1))
        assert pushed.seqs[-1] > begin + 10
        daemon.deliver(publisher, bytes(SIZE))
    snapshot = daemon.snapshot()
    assert_adds_up(snapshot)
    assert snapshot.rejected == {}
    (stream,) = snapshot.streams
    assert stream.published == publisher.published
    wait_for(lambda: worker.frames[-1]["seq"] == publisher.published, "the last frame")
    assert in_order([frame["seq"] for frame in worker.frames])


def exchange_with(publisher: Publisher, worker: Actor) -> None:
    """Publish until a worker in another process has a frame."""
    wait_for(lambda: publish(publisher) and worker.frames, "a frame")


def test_without_a_free_slot_it_goes_inline_and_back(daemon: Daemon, pushed: PushedFrames) -> None:
    with (
        Publisher("cam-1", daemon.inbox, arena_slots=4) as publisher,
        Worker("w", ["cam-1"], daemon.control) as worker,
    ):
        kept: list[Frame] = []
        while not pushed.seqs:
            assert len(kept) < 10, "ever more slots"
            publish(publisher)
            kept.append(read(worker))
        assert kept[-1].seq == pushed.seqs[0]
        assert place(kept[-1].array) is None
        assert inline(daemon) == {"no_slot": 1}
        assert all(map(is_whole, kept))
        kept.clear()
        wait_for(lambda: exchange(publisher, worker).seq not in pushed.seqs, "a frame by the doorbell", RETURN)
        assert set(inline(daemon)) == {"no_slot"}
    snapshot = daemon.snapshot()
    assert_adds_up(snapshot)
    assert snapshot.rejected == {}


def test_a_publisher_without_shared_memory_needs_none(daemon: Daemon, pushed: PushedFrames) -> None:
    with (
        Publisher("cam-1", daemon.inbox, shared_memory="off") as publisher,
        Worker("w", ["cam-1"], daemon.control) as worker,
    ):
        assert exchange(publisher, worker).seq in pushed.seqs
        assert places(daemon) == 0


def test_it_can_be_switched_off(daemons: Daemons, pushed: PushedFrames) -> None:
    daemon = daemons("[inbox]\ndoorbell = false").start()
    assert not bell_of(daemon).exists()
    with Publisher("cam-1", daemon.inbox) as publisher, Worker("w", ["cam-1"], daemon.control) as worker:
        for _ in range(20):
            frame = exchange(publisher, worker)
            assert is_whole(frame)
            assert place(frame.array)
            del frame
        assert pushed.seqs == list(range(1, publisher.published + 1))
    assert_adds_up(daemon.snapshot())


def test_one_that_cannot_be_reached_is_done_without(daemon: Daemon, pushed: PushedFrames) -> None:
    """Its file is gone, as where only some sockets were put into a container."""
    bell_of(daemon).unlink()
    with Publisher("cam-1", daemon.inbox) as publisher, Worker("w", ["cam-1"], daemon.control) as worker:
        frame = exchange(publisher, worker)
        assert place(frame.array)
        assert frame.seq in pushed.seqs
        del frame
    assert_adds_up(daemon.snapshot())


def test_what_is_no_socket_is_not_removed(daemons: Daemons) -> None:
    daemon = daemons()
    bell_of(daemon).parent.mkdir()
    bell_of(daemon).write_text("somebody's")
    daemon.launch()
    assert daemon.wait() != 0
    assert f"{bell_of(daemon)} exists and is not a socket" in daemon.log()
    assert bell_of(daemon).read_text() == "somebody's"


def test_a_path_that_is_another_sockets_is_refused(daemons: Daemons, home: Path) -> None:
    daemon = daemons(f'[inbox]\nendpoints = ["ipc", "ipc://{home}/run/inbox.sock.doorbell"]', place=home)
    daemon.launch()
    assert daemon.wait() != 0
    assert f"{bell_of(daemon)} is to be a socket's and a doorbell's: choose another path" in daemon.log()


def test_each_inbox_has_its_own(daemons: Daemons, home: Path, pushed: PushedFrames) -> None:
    """Also one that is not conflated."""
    other = f"ipc://{home}/run/other.sock"
    document = f'[inbox]\nendpoints = ["ipc", {{ endpoint = "{other}", conflate = false }}]'
    daemon = daemons(document, place=home).start()
    with Worker("w", ["*"], daemon.control) as worker, ExitStack() as stack:
        for number, endpoint in enumerate((daemon.inbox, other)):
            publisher = stack.enter_context(Publisher(f"cam-{number}", endpoint))
            for _ in range(3):
                publish(publisher)
                frame = read(worker)
                assert (frame.stream, frame.seq) == (publisher.stream, publisher.published)
                del frame
    assert pushed.seqs == []


# --- beside whom ------------------------------------------------------------------------------------------------------


def test_a_later_publisher_of_a_stream_supersedes_the_earlier(daemon: Daemon, pushed: PushedFrames) -> None:
    with (
        Worker("w", ["cam-1"], daemon.control) as worker,
        Publisher("cam-1", daemon.inbox) as earlier,
        Publisher("cam-1", daemon.inbox) as later,
    ):
        assert exchange(earlier, worker).epoch == earlier.epoch
        assert exchange(later, worker).epoch == later.epoch
        assert places(daemon) == 2
        for turn in range(1, 6):
            publish(earlier)
            daemon.wait_for_rejected("old_epoch", turn)
            publish(later)
            frame = read(worker)
            assert (frame.epoch, frame.seq) == (later.epoch, later.published)
            assert is_whole(frame)
            del frame
    assert pushed.seqs == []
    snapshot = daemon.snapshot()
    assert_adds_up(snapshot)
    assert snapshot.rejected == {"old_epoch": 5}


def test_publishers_that_speak_zeromq_only_go_on_beside_it(daemon: Daemon, pushed: PushedFrames) -> None:
    with (
        plain(zmq.PUSH, daemon.inbox) as peer,
        Publisher("cam-1", daemon.inbox) as publisher,
        Worker("w", ["*"], daemon.control) as worker,
    ):
        for turn in range(1, 21):
            peer.send(frame_message("plain", turn, b"x" * turn, epoch=7))
            frame = read(worker)
            assert (frame.stream, bytes(frame.data)) == ("plain", b"x" * turn)
            publish(publisher)
            frame = read(worker)
            assert (frame.stream, frame.seq) == ("cam-1", turn)
            assert is_whole(frame)
            del frame
    assert pushed.seqs == []
    assert_adds_up(daemon.snapshot())


def test_garbage_is_counted_and_its_neighbours_miss_nothing(daemon: Daemon, pushed: PushedFrames) -> None:
    whole = frame_message("by-hand", 1, b"", epoch=7)
    garbage = {
        "truncated": b"SP",
        "bad_magic": b"x" * 100,
        "bad_header": whole[:32] + b"\xc1" * (len(whole) - 32),
    }
    with (
        Publisher("cam-1", daemon.inbox) as publisher,
        Worker("w", ["cam-1"], daemon.control) as worker,
        Knocker(bell_of(daemon)).enter() as knocker,
    ):
        for reason, message in garbage.items():
            knocker.put(message)
            daemon.wait_for_rejected(reason)
            publish(publisher)
            assert read(worker).seq == publisher.published
        knocker.put(bytes(MAX_PACKET + 1))
        knocker.write(b"torn" * 100)
        for seq in range(2, 5):
            knocker.put(frame_message("by-hand", seq, b"inline", epoch=7))
            daemon.settled(lambda s, seq=seq: any(x.last_seq == seq for x in s.streams), "a frame")  # type: ignore[misc]
    assert pushed.seqs == []
    snapshot = daemon.snapshot()
    assert_adds_up(snapshot)
    assert snapshot.rejected == dict.fromkeys(garbage, 1)
    assert "Traceback" not in daemon.log()


def test_who_finds_no_place_uses_zeromq_until_there_is_one(daemon: Daemon, pushed: PushedFrames) -> None:
    with ExitStack() as stack:
        others = [stack.enter_context(Knocker(bell_of(daemon)).enter()) for _ in range(MOST)]
        publisher = stack.enter_context(Publisher("cam-1", daemon.inbox))
        worker = stack.enter_context(Worker("w", ["cam-1"], daemon.control))
        for _ in range(5):
            assert exchange(publisher, worker).seq in pushed.seqs
        assert places(daemon) == MOST
        others[0].close()
        wait_for(lambda: exchange(publisher, worker).seq not in pushed.seqs, "a frame by the doorbell", RETURN)
        assert places(daemon) == MOST
    assert_adds_up(daemon.snapshot())


FORKING = """
import os, sys, warnings
import numpy as np
from supplierd_client import ForkedError, Publisher, Worker

warnings.simplefilter("ignore", DeprecationWarning)  # about forking beside threads
inbox, control = sys.argv[1:]
picture = np.zeros(100_000, np.uint8)
pushed, push = [], Publisher._push
Publisher._push = lambda publisher, message: pushed.append(1) or push(publisher, message)
publisher = Publisher("cam-1", inbox)
worker = Worker("w", control=control)


def exchange(publisher):
    publisher.publish(picture)
    frame = worker.read(timeout=10)
    assert (frame.stream, frame.seq) == (publisher.stream, publisher.published)


exchange(publisher)
(told, tell), (ended, end) = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    status = 1
    try:
        os.close(end)
        try:
            publisher.publish(picture)
        except ForkedError:
            own = Publisher("cam-2", inbox)  # what the error advises
            own.publish(picture)
            assert not pushed
            os.write(tell, b"x")
            os.read(ended, 1)
            own.close()
            status = 0
    finally:
        os._exit(status)
os.close(tell)
assert os.read(told, 1) == b"x"
assert worker.read(timeout=10).stream == "cam-2"
for _ in range(5):
    exchange(publisher)
publisher.close()
print("closed", flush=True)
sys.stdin.read()
os.close(end)
assert os.waitpid(child, 0)[1] == 0
worker.close()
assert not pushed
"""


def test_a_forked_child_keeps_no_place_of_its_parents(daemon: Daemon) -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", FORKING, daemon.inbox, daemon.control],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    ) as parent:  # fmt: skip
        assert parent.stdout is not None
        assert parent.stdout.readline() == "closed\n"
        wait_for(lambda: places(daemon) == 1, "the end of the parent's place, while its child lives")
        _, errors = parent.communicate("", DEADLINE)
    assert (parent.returncode, errors) == (0, "")
    assert_adds_up(daemon.snapshot())

"""kill -9 of each part, on real video: whoever is left goes on or resumes with nobody touching it."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from supplierd_client import Publisher, Worker

from tests.e2e.clip import STREAM, Capture
from tests.support.daemon import Daemon, assert_adds_up
from tests.support.processes import Actor
from tests.support.waiting import wait_for

Captures = Callable[..., Capture]
Actors = Callable[..., Actor]

RESUME = 3.0
"""Seconds within which frames flow again."""


def in_order(frames: list[dict[str, Any]]) -> bool:
    """Whether no older frame came after a newer one; a later epoch is newer."""
    return all((old["epoch"], old["seq"]) < (new["epoch"], new["seq"]) for old, new in pairwise(frames))


def test_a_killed_daemon(daemon: Daemon, capture: Captures, actor: Actors) -> None:
    capture(daemon)
    workers = [actor("work", control=daemon.control, name=name, streams=[STREAM]) for name in ("one", "two")]
    strict = actor("work", control=daemon.control, name="strict", streams=[STREAM], max_age=1.0)
    for worker in (*workers, strict):
        worker.wait_frames(5)
    epoch = workers[0].frames[-1]["epoch"]
    daemon.kill()
    daemon.start()
    for worker in (*workers, strict):
        worker.wait_frames(5, deadline=RESUME)
        assert worker.error is None
        assert in_order(worker.frames)
        assert worker.frames[-1]["epoch"] == epoch  # the publisher is the same
    snapshot = daemon.snapshot()
    assert_adds_up(snapshot)
    assert all(worker.state != "gone" for worker in snapshot.workers)
    (stream,) = snapshot.streams
    assert stream.received <= stream.published < stream.last_seq  # what the dead daemon had is not this one's


def test_a_killed_publisher(daemon: Daemon, capture: Captures, actor: Actors) -> None:
    first = capture(daemon)
    worker = actor("work", control=daemon.control, name="w", streams=[STREAM])
    old = worker.wait_frames(5)[-1]
    first.kill()
    before = len(worker.frames)
    capture(daemon)
    wait_for(lambda: any(frame["epoch"] > old["epoch"] for frame in worker.frames[before:]), "the new epoch")
    worker.wait_frames(5, deadline=RESUME)
    assert in_order(worker.frames)
    snapshot = daemon.snapshot()
    assert_adds_up(snapshot)
    assert snapshot.streams[0].published >= old["seq"] + 5
    wait_for(lambda: len(daemon.logged("stream has a new publisher")) == 2, "both publishers to be logged")


def test_a_killed_worker(daemon: Daemon, capture: Captures, actor: Actors) -> None:
    capture(daemon)
    untouched = actor("work", control=daemon.control, name="untouched", streams=[STREAM])
    victim = actor("work", control=daemon.control, name="victim", streams=[STREAM])
    untouched.wait_frames(5)
    last = victim.wait_frames(5)[-1]
    seen = len(untouched.frames)
    victim.kill()
    daemon.wait_for_state("victim", "gone")
    successor = actor("work", control=daemon.control, name="victim", streams=[STREAM])
    fresh = successor.wait_frames(1)[0]
    assert (fresh["epoch"], fresh["seq"]) > (last["epoch"], last["seq"])
    successor.wait_frames(5, deadline=RESUME)
    frames = untouched.frames[seen:]
    assert in_order(frames)
    assert max(new["at"] - old["at"] for old, new in pairwise(frames)) < 1.0  # it never waited for the other
    assert successor.error is None
    snapshot = daemon.snapshot()
    assert_adds_up(snapshot)
    lost = daemon.mailbox("victim", STREAM)
    assert lost is not None
    assert lost.discarded.get("disconnected", 0) > 0  # what nobody was there for is counted
    assert not daemon.logged("worker took over")


def test_everything_is_killed_in_turn_and_a_late_daemon_finds_them_all(
    daemon: Daemon, capture: Captures, actor: Actors
) -> None:
    """A daemon that comes last: whoever was started before it waits at the right place."""
    daemon.kill()
    publisher = actor("publish", inbox=daemon.inbox, stream="early", fps=50)
    worker = actor("work", control=daemon.control, name="early", streams=["early"])
    publisher.wait_frames(5)
    daemon.start()
    worker.wait_frames(5, deadline=RESUME)
    stream = daemon.stream("early")
    assert stream is not None
    assert stream.dropped["disconnected"] >= 5  # its frames that found no daemon
    assert_adds_up(daemon.snapshot())


@pytest.mark.parametrize("rounds", [3])
def test_a_daemon_that_dies_again_and_again(daemon: Daemon, rounds: int) -> None:
    with Publisher("cam-1", daemon.inbox) as publisher, Worker("w", control=daemon.control) as worker:
        seqs = [0]
        for _ in range(rounds):

            def fresh() -> bool:
                publisher.publish(b"frame")
                frame = worker.read(timeout=0.05)
                if frame is None:
                    return False
                seqs.append(frame.seq)
                return True

            wait_for(fresh, "a frame", RESUME)
            daemon.kill()
            assert worker.read(timeout=0.05) is None
            daemon.start()
    assert all(old < new for old, new in pairwise(seqs))

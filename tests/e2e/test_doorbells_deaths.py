"""Doorbells where a daemon or a publisher ends, is killed or stands still: publishers never wait, go on within seconds,
and what is taken after a standstill is the newest.
"""

import time
from collections.abc import Callable
from itertools import pairwise

import pytest
from supplierd_client import Publisher, Worker
from supplierd_client.doorbell import NOT_OVERTAKEN, RETRY_AFTER
from supplierd_client.lane import SHARED_FROM

from tests.e2e.lane import publish
from tests.e2e.lane_parts import SIZE, filled, is_whole
from tests.support.daemon import Daemon, assert_adds_up
from tests.support.doorbells import PushedFrames, places
from tests.support.peers import Background
from tests.support.processes import Actor
from tests.support.waiting import wait_for

Actors = Callable[..., Actor]

INTERVAL = 1.0 / 30.0
RESUME = 3.0
"""Seconds within which frames flow again."""
RETURN = RETRY_AFTER + 2.0
"""Seconds within which they go by a doorbell again."""
STANDSTILL = {"by the doorbell": 0.5, "inline": NOT_OVERTAKEN + 0.2}
"""Seconds, by what was published before: an inline frame has others follow it for a while."""
AT_ONCE = 0.2
"""Seconds that a publication takes at most, however busy the machine."""


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> PushedFrames:
    return PushedFrames(monkeypatch)


class Camera:
    """A publisher at a pace; the sizes of its frames may change.

    Attributes:
        longest: seconds that a publication took at most.
    """

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher
        self.size = SIZE
        self.longest = 0.0
        self.running = Background(self._step, INTERVAL)

    def _step(self) -> None:
        pixels = filled(self.publisher.published + 1, self.size)
        began = time.perf_counter()
        self.publisher.publish(pixels)
        self.longest = max(self.longest, time.perf_counter() - began)


def frames_of(worker: Worker, seconds: float) -> list[int]:
    """The numbers of the frames that a worker is given for a while, whole and in order."""
    seqs = []
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0.0:
        frame = worker.read(left)
        if frame is not None:
            assert is_whole(frame)
            seqs.append(frame.seq)
        del frame
    assert all(old < new for old, new in pairwise(seqs)), seqs
    return seqs


def wait_for_doorbell(daemon: Daemon, camera: Camera, pushed: PushedFrames) -> None:
    """Until frames go by the doorbell, and only there."""
    wait_for(lambda: places(daemon) == 1, "the doorbell", RETURN)
    wait_for(lambda: camera.publisher.published > (pushed.seqs or [0])[-1] + 3, "frames by the doorbell", RETURN)


@pytest.mark.parametrize("death", ["killed", "stopped"])
def test_a_daemon_is_followed_by_a_doorbell_of_the_next(
    daemon: Daemon, actor: Actors, pushed: PushedFrames, death: str
) -> None:
    worker = actor("work", control=daemon.control, name="w")
    with Publisher("cam-1", daemon.inbox) as publisher:
        camera = Camera(publisher)
        with camera.running:
            worker.wait_frames(5)
            assert pushed.seqs == []
            if death == "killed":
                daemon.kill()
            else:
                daemon.stop()
            camera.running.wait_turns(3)
            assert pushed.seqs, "what nobody takes is not put"
            assert publisher.unsent
            assert places(daemon) == 0
            daemon.start()
            worker.wait_frames(1, deadline=RESUME)
            wait_for_doorbell(daemon, camera, pushed)
            worker.wait_frames(5)
        assert camera.longest < AT_ONCE
        daemon.deliver(publisher, bytes(SIZE))
    seqs = [frame["seq"] for frame in worker.frames]
    assert all(old < new for old, new in pairwise(seqs))
    assert worker.error is None
    snapshot = daemon.snapshot()
    assert_adds_up(snapshot)
    assert snapshot.rejected == {}
    (stream,) = snapshot.streams
    assert stream.dropped["disconnected"] <= publisher.unsent
    assert stream.last_seq == publisher.published


@pytest.mark.parametrize("before", STANDSTILL)
def test_after_a_standstill_the_first_frame_is_the_newest(daemon: Daemon, pushed: PushedFrames, before: str) -> None:
    """`inline`: the frames before it lie in libzmq's queues and the kernel's, those after them in the doorbell."""
    with (
        Publisher("cam-1", daemon.inbox) as publisher,
        Worker("w", ["cam-1"], daemon.control) as worker,
    ):
        camera = Camera(publisher)
        with camera.running:
            assert frames_of(worker, 0.2)
            daemon.freeze()
            frames_of(worker, 0.1)  # those that were under way
            if before == "inline":
                camera.size = SHARED_FROM // 2
                camera.running.wait_turns(10)
                camera.size = SIZE
            end = time.monotonic() + STANDSTILL[before]
            wait_for(lambda: time.monotonic() > end, "the end of the standstill")
            put = publisher.published - 1  # the one before is surely put
            daemon.thaw()
            frame = worker.read(RESUME)
            assert frame is not None
            assert is_whole(frame)
            assert frame.seq >= put, "a frame from before was handed out"
            print(f"age after the standstill: {frame.age * 1e3:.1f} ms")
            assert frame.age < INTERVAL + AT_ONCE
            first = frame.seq
            del frame
            assert frames_of(worker, 0.3)[0] > first
        assert camera.longest < AT_ONCE
        assert bool(pushed.seqs) is (before == "inline")
        assert not pushed.seqs or pushed.seqs[-1] < put, "none was in the doorbell"
        daemon.deliver(publisher, bytes(SIZE))
    snapshot = daemon.snapshot()
    assert_adds_up(snapshot)
    # The slot of the last one that went by ZeroMQ has a newer frame by now.
    assert snapshot.rejected.keys() <= ({"stale_descriptor"} if before == "inline" else set())
    assert snapshot.streams[0].published == publisher.published


def test_who_publishes_first_while_the_daemon_stands_still_is_not_held_up(daemon: Daemon, pushed: PushedFrames) -> None:
    """The kernel lets it knock; nobody greets it before the daemon goes on."""
    daemon.freeze()
    began = time.monotonic()
    with Publisher("cam-1", daemon.inbox) as publisher:
        for _ in range(20):
            publish(publisher)
        assert time.monotonic() - began < 0.25 + AT_ONCE
        assert len(pushed.seqs) == 20
        daemon.thaw()
        camera = Camera(publisher)
        with camera.running:
            wait_for_doorbell(daemon, camera, pushed)
        daemon.deliver(publisher, bytes(SIZE))
    snapshot = daemon.snapshot()
    assert_adds_up(snapshot)
    assert snapshot.streams[0].published == publisher.published


def test_a_killed_publisher_frees_its_place(daemon: Daemon, actor: Actors) -> None:
    camera = actor("publish", inbox=daemon.inbox, stream="cam-1", size=SIZE)
    camera.wait_frames(3)
    assert places(daemon) == 1
    camera.kill()
    wait_for(lambda: places(daemon) == 0, "its place")


def test_a_publisher_that_stood_still_goes_on_where_it_was(daemon: Daemon, actor: Actors) -> None:
    camera = actor("publish", inbox=daemon.inbox, stream="cam-1", size=SIZE)
    worker = actor("work", control=daemon.control, name="w")
    worker.wait_frames(3)
    camera.freeze()
    assert places(daemon) == 1
    with Publisher("cam-2", daemon.inbox) as publisher:
        assert places(daemon) == 2
        daemon.deliver(publisher, bytes(SIZE))
    camera.thaw()
    worker.wait_frames(5, deadline=RESUME)
    wait_for(lambda: places(daemon) == 1, "the other's end")
    snapshot = daemon.snapshot()
    assert_adds_up(snapshot)
    assert snapshot.rejected == {}

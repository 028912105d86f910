"""Both sides come back by themselves: daemons that are killed or stopped, absent at first, or only out of reach."""

import time
from collections.abc import Callable

import numpy as np
import pytest
from supplierd_client import Publisher, Worker

from tests.client.conftest import WITHOUT_METRICS
from tests.client.playing import Camera, Reader, round_trip, took
from tests.support.daemon import Daemon, assert_adds_up, free_port
from tests.support.processes import Actor
from tests.support.waiting import wait_for

BACK_WITHIN = 4.0
"""Seconds: reconnecting takes half a second at most, and a lost question is repeated after one."""


@pytest.mark.parametrize("end", [Daemon.kill, Daemon.stop], ids=["SIGKILL", "SIGTERM"])
def test_publisher_and_worker_survive_their_daemon(daemon: Daemon, end: Callable[[Daemon], object]) -> None:
    with Camera("cam-1", daemon.inbox) as camera, Worker("worker", ["cam-1"], daemon.control) as worker:
        reader = Reader(worker)
        reader.wait_frames(10)
        end(daemon)
        unsent = camera.publisher.unsent
        wait_for(lambda: camera.publisher.unsent > unsent, "a frame without daemon")
        daemon.start()
        assert took(lambda: reader.wait_frames(1)) < BACK_WITHIN
        reader.wait_frames(10)
        worker.close()
        reader.join()
        daemon.wait_for_state("worker", "gone")
        assert_adds_up(daemon.snapshot())
    assert reader.error is None
    numbers = [frame.seq for frame in reader.frames]
    assert numbers == sorted(set(numbers)), "never back in time, across restarts"
    assert len({frame.epoch for frame in reader.frames}) == 1


def test_shared_memory_and_a_busy_worker_survive_a_restart(daemon: Daemon) -> None:
    with (
        Publisher("cam-1", daemon.inbox, shared_memory="on") as publisher,
        Worker("worker", ["cam-1"], daemon.control) as worker,
    ):
        before = round_trip(publisher, worker, np.full(100_000, 1, np.uint8))
        daemon.stop()
        daemon.start()  # between two reads
        wait_for(lambda: publisher.connected, "the publisher to connect")
        after = round_trip(publisher, worker, np.full(100_000, 2, np.uint8))
        assert (before.array == 1).all()
        assert (after.array == 2).all()
        found = daemon.worker("worker")
        assert found is not None
        assert found.inline_reason == ""


def test_over_tcp(daemons: Callable[..., Daemon]) -> None:
    inbox, control = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    daemon = daemons(
        f'{WITHOUT_METRICS}[inbox]\nendpoints = ["{inbox}"]\n[control]\nendpoints = ["ipc", "{control}"]\n'
    ).start()
    with Camera("cam-1", inbox), Worker("worker", ["cam-1"], control) as worker:
        reader = Reader(worker)
        reader.wait_frames(10)
        daemon.kill()
        daemon.start()
        reader.wait_frames(10)
        found = daemon.worker("worker")
        assert found is not None
        assert found.inline_reason == "remote"
        worker.close()
        reader.join()


def test_a_daemon_that_stood_still_goes_on_with_the_same_session(running: Daemon, name: Callable[[str], str]) -> None:
    stream, worker_name = name("cam"), name("worker")
    with Camera(stream, running.inbox), Worker(worker_name, [stream], running.control) as worker:
        reader = Reader(worker)
        reader.wait_frames(5)
        running.freeze()
        since, count = time.monotonic(), len(reader.frames)
        wait_for(lambda: time.monotonic() - since > 1.2, "a demand to be repeated")
        assert len(reader.frames) <= count + 1
        running.thaw()
        assert took(lambda: reader.wait_frames(5)) < BACK_WITHIN
        worker.close()
        reader.join()
    running.wait_for_state(worker_name, "gone")
    assert len([line for line in running.logged("worker joined") if f"worker={worker_name} " in line]) == 1
    assert reader.frames[-1].age < 0.5


def test_a_stopped_worker_is_given_a_fresh_frame_first(
    running: Daemon, name: Callable[[str], str], actor: Callable[..., Actor]
) -> None:
    stream = name("cam")
    with Camera(stream, running.inbox, 1 / 30):
        worker = actor("work", control=running.control, name=name("worker"), streams=[stream])
        worker.wait_frames(20)
        worker.freeze()
        seen, since = len(worker.frames), time.monotonic()
        wait_for(lambda: time.monotonic() - since > 1.0, "a second to pass")
        worker.thaw()
        worker.wait_frames(3)
        assert worker.frames[seen]["age"] < 0.5


def test_a_killed_worker_is_replaced_at_once(
    running: Daemon, name: Callable[[str], str], actor: Callable[..., Actor]
) -> None:
    stream = name("cam")
    arguments = {"control": running.control, "name": name("worker"), "streams": [stream]}
    with Camera(stream, running.inbox):
        first = actor("work", **arguments)
        first.wait_frames(5)
        first.kill()
        actor("work", **arguments).wait_frames(5)
    assert_adds_up(running.snapshot())


def test_a_publisher_that_is_killed_and_started_again(
    running: Daemon, name: Callable[[str], str], actor: Callable[..., Actor]
) -> None:
    stream = name("cam")
    with Worker(name("worker"), [stream], running.control) as worker:
        reader = Reader(worker)
        for _ in range(2):
            publisher = actor("publish", inbox=running.inbox, stream=stream)
            reader.wait_frames(5)
            publisher.kill()
        worker.close()
        reader.join()
    epochs = [frame.epoch for frame in reader.frames]
    assert len(set(epochs)) == 2
    assert epochs == sorted(epochs)
    assert_adds_up(running.snapshot())

"""Reading and being refused: the blocking worker with real sockets."""

import gc
import os
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from supplierd_client import Publisher, RefusedError, TakenOverError, Worker

from tests.client.conftest import WITHOUT_METRICS
from tests.client.playing import Camera, Reader, joined, round_trip, took
from tests.support.daemon import Daemon
from tests.support.waiting import DEADLINE, wait_for

# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_read_that_is_too_impatient_is_none_and_loses_nothing(running: Daemon, name: Callable[[str], str]) -> None:
    stream, worker_name = name("cam"), name("worker")
    with Worker(worker_name, [stream], running.control) as worker, Publisher(stream, running.inbox) as publisher:
        assert worker.read(0) is None
        assert 0.05 <= took(lambda: worker.read(0.05)) < 1.0
        assert joined(worker, running)
        seq = publisher.publish(b"x")
        frame = worker.read(DEADLINE)
        assert frame is not None
        assert frame.seq == seq
        assert worker.read(-1) is None


def test_a_read_without_waiting_gives_what_is_at_hand(running: Daemon, name: Callable[[str], str]) -> None:
    stream, worker_name = name("cam"), name("worker")
    with Worker(worker_name, [stream], running.control) as worker, Publisher(stream, running.inbox) as publisher:
        assert joined(worker, running)
        publisher.publish(b"x")
        frame = wait_for(lambda: worker.read(0), "the frame")
        assert bytes(frame.data) == b"x"


def test_a_newcomer_begins_with_the_newest_frame(running: Daemon, name: Callable[[str], str]) -> None:
    stream = name("cam")
    with Publisher(stream, running.inbox) as publisher:
        seq = publisher.publish(b"x")
        wait_for(lambda: running.stream(stream), "the frame to arrive")
        with Worker(name("worker"), [stream], running.control) as worker:
            frame = worker.read(DEADLINE)
            assert frame is not None
            assert frame.seq == seq
            assert worker.read(0.05) is None, "once"


def test_frames_come_in_order_and_once(running: Daemon, name: Callable[[str], str]) -> None:
    stream = name("cam")
    with Worker(name("worker"), [stream], running.control) as worker, Camera(stream, running.inbox, 0.001):
        reader = Reader(worker)
        reader.wait_frames(200)
        worker.close()
        reader.join()
    numbers = [frame.seq for frame in reader.frames]
    assert numbers == sorted(set(numbers))
    assert all((frame.array == frame.seq % 256).all() for frame in reader.frames)


def test_what_the_worker_was_given_is_what_the_daemon_counts(running: Daemon, name: Callable[[str], str]) -> None:
    stream, worker_name = name("cam"), name("worker")
    with Worker(worker_name, [stream], running.control) as worker, Camera(stream, running.inbox, 0.002):
        reader = Reader(worker)
        reader.wait_frames(50)
        worker.close()
        reader.join()
    running.wait_for_state(worker_name, "gone")
    mailbox = running.mailbox(worker_name, stream)
    assert mailbox is not None
    assert mailbox.consumed == len(reader.frames)
    assert mailbox.balance == mailbox.in_flight == mailbox.pending == 0
    assert sum(mailbox.age.counts) == mailbox.consumed


def test_streams_are_served_in_turn(running: Daemon, name: Callable[[str], str]) -> None:
    streams = [name("cam") for _ in range(3)]
    with ExitStack() as stack:
        worker = stack.enter_context(Worker(name("worker"), streams, running.control))
        for stream, interval in zip(streams, (0.001, 0.01, 0.01), strict=True):
            stack.enter_context(Camera(stream, running.inbox, interval))
        reader = Reader(worker)
        wait_for(lambda: {frame.stream for frame in reader.frames} == set(streams), "a frame of each")
        reader.wait_frames(60)
        worker.close()
        reader.join()
    counts = [sum(frame.stream == stream for frame in reader.frames[-60:]) for stream in streams]
    assert min(counts) >= 5, "the fast camera leaves room for the slow ones"


def test_a_worker_for_all_streams_gets_those_that_appear_later(running: Daemon, name: Callable[[str], str]) -> None:
    with Worker(name("worker"), control=running.control) as worker:
        worker.read(0)
        for stream in (name("cam"), name("cam")):
            with Publisher(stream, running.inbox) as publisher:
                publisher.publish(b"x")
                wait_for(lambda stream=stream: (f := worker.read(DEADLINE)) and f.stream == stream, stream)  # type: ignore[misc]


def test_a_promised_rate_is_kept(running: Daemon, name: Callable[[str], str]) -> None:
    stream, worker_name = name("cam"), name("worker")
    with (
        Camera(stream, running.inbox, 0.005),
        Worker(worker_name, [stream], running.control, target_fps=50) as worker,
    ):
        reader = Reader(worker)
        reader.wait_frames(3)
        took_20 = took(lambda: reader.wait_frames(20))
        worker.close()
        reader.join()
    assert took_20 >= 0.3
    mailbox = running.mailbox(worker_name, stream)
    assert mailbox is not None
    assert mailbox.decimated > mailbox.consumed


def test_a_frame_that_waited_in_the_socket_gives_way_to_a_newer_one(
    running: Daemon, name: Callable[[str], str]
) -> None:
    """As after a stop of the process: the demand was open, a frame came, and nobody looked for a while."""
    stream, worker_name = name("cam"), name("worker")
    with Worker(worker_name, [stream], running.control) as worker, Publisher(stream, running.inbox) as publisher:
        for _ in range(20):
            round_trip(publisher, worker, b"at its pace")
        assert worker.read(0) is None
        running.wait_for_state(worker_name, "waiting")
        publisher.publish(b"old")
        running.wait_for_state(worker_name, "busy")
        since = time.monotonic()
        wait_for(lambda: time.monotonic() - since > 0.3, "the frame to grow old")
        publisher.publish(b"new")
        wait_for(lambda: (m := running.mailbox(worker_name, stream)) and m.pending, "the newer frame")
        frame = worker.read(DEADLINE)
        assert frame is not None
        assert bytes(frame.data) == b"new"
        publisher.publish(b"next")
        frame = worker.read(DEADLINE)
        mailbox = running.mailbox(worker_name, stream)
        assert mailbox is not None
        assert mailbox.discarded == {"stale": 1}
        assert mailbox.consumed == 21


def test_an_old_frame_without_a_newer_one_is_given_after_all(running: Daemon, name: Callable[[str], str]) -> None:
    stream, worker_name = name("cam"), name("worker")
    with Worker(worker_name, [stream], running.control) as worker, Publisher(stream, running.inbox) as publisher:
        for _ in range(20):
            round_trip(publisher, worker, b"at its pace")
        frame = round_trip(publisher, worker, b"late", captured_at=time.time() - 5)
        assert frame.age >= 5


def test_max_age_refuses_old_frames_and_waits_for_the_next(running: Daemon, name: Callable[[str], str]) -> None:
    stream, worker_name = name("cam"), name("worker")
    with (
        Publisher(stream, running.inbox) as publisher,
        Worker(worker_name, [stream], running.control, max_age=0.5) as worker,
    ):
        running.let_join(worker)  # what was there before it is not counted
        publisher.publish(b"old", captured_at=time.time() - 1)

        def refused() -> bool:
            assert worker.read(0) is None
            mailbox = running.mailbox(worker_name, stream)
            return mailbox is not None and mailbox.discarded == {"expired": 1}

        wait_for(refused, "the old frame to be refused")
        assert bytes(round_trip(publisher, worker, b"fresh").data) == b"fresh"


# --- being refused ----------------------------------------------------------------------------------------------------


def test_a_worker_that_is_not_wanted_learns_why(daemons: Callable[..., Daemon]) -> None:
    daemon = daemons(
        WITHOUT_METRICS + "[daemon]\naccept_unknown_workers = false\n[workers.known]\nstreams = ['cam-1']\n"
    ).start()
    for arguments, reason, words in (
        (("stranger", ["cam-1"]), "unknown_worker", r"\[workers.stranger\]"),
        (("known", ["cam-2"]), "stream_not_allowed", "may have cam-1, not cam-2"),
    ):
        with Worker(*arguments, daemon.control) as worker:
            for _ in range(2):
                with pytest.raises(RefusedError, match=words) as error:
                    worker.read(DEADLINE)
                assert error.value.reason == reason
    with (
        Worker("known", ["cam-1"], daemon.control, target_fps=1001) as worker,
        pytest.raises(RefusedError, match="1000"),
    ):
        next(iter(worker))


def test_a_second_worker_of_a_name_takes_over(running: Daemon, name: Callable[[str], str]) -> None:
    stream, worker_name = name("cam"), name("worker")
    with Camera(stream, running.inbox):
        first = Reader(Worker(worker_name, [stream], running.control))
        first.wait_frames(3)
        with Worker(worker_name, [stream], running.control) as second:
            assert second.read(DEADLINE) is not None
            first.join()
            assert isinstance(first.error, TakenOverError)
            with pytest.raises(TakenOverError, match=worker_name):
                first.worker.read()
            first.worker.close()
            for _ in range(3):
                assert second.read(DEADLINE) is not None, "closing the first does not disturb the second"


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a name with a slash": ({"name": "a/b"}, "use 1 to 64 of A-Z"),
    "no name": ({"name": None}, "use 1 to 64 of A-Z"),
    "a bad stream": ({"streams": ["cam 1"]}, "stream name 'cam 1' is not allowed"),
    "no stream": ({"streams": []}, r'\["\*"\] for all streams'),
    "a name instead of a list": ({"streams": "cam-1"}, r'\["cam-1"\]'),
    "no rate": ({"target_fps": 0}, "target_fps is 0: give a positive number"),
    "a negative rate": ({"target_fps": -1}, "target_fps is -1"),
    "an infinite rate": ({"target_fps": float("inf")}, "target_fps is inf"),
    "a text as rate": ({"target_fps": "10"}, "target_fps is '10': give a positive number"),
    "no age": ({"max_age": 0.0}, "max_age is 0.0: give a positive number"),
    "no number": ({"max_age": float("nan")}, "max_age is nan"),
    "no transport": ({"control": "localhost"}, "tcp://host:port"),
    "a relative directory": ({"runtime_dir": "run"}, "begin it with /"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_arguments_are_refused_with_what_is_allowed(what: str, home: Path) -> None:
    arguments, words = BAD[what]
    before = len(os.listdir("/proc/self/fd"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=words):
            Worker(**{"name": "worker", "runtime_dir": home, **arguments})
        gc.collect()
    wait_for(lambda: len(os.listdir("/proc/self/fd")) <= before, "the descriptors to be closed")

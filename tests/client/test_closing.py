"""Closing a worker, from any thread and at any moment, ends whoever reads; and how threads share one."""

import gc
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zmq
from supplierd_client import Publisher, Worker

from tests.client.playing import Camera, Reader, in_threads, joined, took
from tests.support.daemon import Daemon
from tests.support.waiting import wait_for

PICTURE = np.zeros((200, 200), np.uint8)
AT_ONCE = 0.8
"""Seconds in which a reader must have ended; the repetition of a demand would take a second."""


def test_closing_ends_a_blocked_read_and_the_iteration(running: Daemon, name: Callable[[str], str]) -> None:
    worker_name = name("worker")
    worker = Worker(worker_name, [name("cam")], running.control)
    reader = Reader(worker)
    running.wait_for_state(worker_name, "waiting", "starved")
    assert not worker.closed
    assert took(worker.close) < AT_ONCE
    assert took(reader.join) < AT_ONCE
    assert worker.closed
    assert reader.error is None
    assert worker.read() is None, "a closed worker has no more frames"
    assert list(worker) == []
    running.wait_for_state(worker_name, "gone")


def test_closing_ends_the_reads_of_several_threads(running: Daemon, name: Callable[[str], str]) -> None:
    worker_name = name("worker")
    worker = Worker(worker_name, [name("cam")], running.control)
    readers = [Reader(worker) for _ in range(3)]
    running.wait_for_state(worker_name, "waiting", "starved")
    in_threads(4, worker.close)
    for reader in readers:
        assert took(reader.join) < AT_ONCE


def test_closing_at_any_moment_from_several_threads(home: Path) -> None:
    for _ in range(100):
        worker = Worker("worker", runtime_dir=home)
        reader = Reader(worker)
        in_threads(3, worker.close)
        reader.join()
        assert reader.error is None


def test_closing_without_a_daemon_is_quick(home: Path) -> None:
    worker = Worker("worker", runtime_dir=home)
    assert worker.read(0.05) is None
    reader = Reader(worker)
    assert took(worker.close) < AT_ONCE
    assert took(reader.join) < AT_ONCE


def test_closing_a_daemon_that_hangs_is_quick(running: Daemon, name: Callable[[str], str]) -> None:
    worker = Worker(name("worker"), [name("cam")], running.control)
    assert worker.read(0.1) is None
    running.freeze()
    try:
        assert took(worker.close) < AT_ONCE
    finally:
        running.thaw()


def test_a_worker_that_is_forgotten_takes_its_leave(running: Daemon, name: Callable[[str], str]) -> None:
    worker_name = name("worker")
    worker = Worker(worker_name, [name("cam")], running.control)
    assert joined(worker, running)
    del worker
    gc.collect()
    running.wait_for_state(worker_name, "gone")


@pytest.mark.parametrize("blocked", [True, False])
def test_a_signal_handler_may_close(running: Daemon, name: Callable[[str], str], blocked: bool) -> None:
    """What a service does at SIGTERM: the handler runs in the main thread, in the midst of `read`."""
    worker = Worker(name("worker"), [name("cam")], running.control)
    former = signal.signal(signal.SIGUSR1, lambda *_: worker.close())
    try:
        if blocked:
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            assert list(worker) == []
        else:
            os.kill(os.getpid(), signal.SIGUSR1)
        assert worker.closed
        assert worker.read() is None
    finally:
        signal.signal(signal.SIGUSR1, former)


class Interrupted:
    """A publisher that a signal handler interrupts in the midst of a frame, or of closing."""

    def __init__(self, publisher: Publisher, handler: Callable[[], object]) -> None:
        self.publisher = publisher
        self._handler = handler
        self._store = publisher._lane.store

    def __enter__(self) -> None:
        self._former = signal.signal(signal.SIGUSR1, lambda *_: self._handler())
        self.publisher._lane.store = self._interrupt  # type: ignore[method-assign]

    def _interrupt(self, array: npt.NDArray[Any]) -> tuple[Any, str]:
        signal.raise_signal(signal.SIGUSR1)
        return self._store(array)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGUSR1, self._former)
        del self.publisher._lane.store


def test_a_signal_handler_may_close_a_publisher(running: Daemon, name: Callable[[str], str]) -> None:
    publisher = Publisher(stream := name("cam"), running.inbox)
    with Interrupted(publisher, publisher.close):
        assert publisher.publish(PICTURE) == 1, "the frame is finished first"
    with pytest.raises(ValueError, match="is closed"):
        publisher.publish(PICTURE)
    wait_for(lambda: (found := running.stream(stream)) and found.received == 1, "the frame")


def test_a_signal_handler_may_close_a_publisher_that_looks_for_its_daemon(
    running: Daemon, name: Callable[[str], str]
) -> None:
    publisher = Publisher(name("cam"), running.inbox)
    poll = publisher._socket.poll

    def interrupted(*args: int) -> int:
        publisher.close()
        return poll(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zmq.Socket, "poll", lambda _, *args: interrupted(*args))
        assert publisher.connected, "it is not closed in the midst of it"
    assert not publisher.connected
    with pytest.raises(ValueError, match="is closed"):
        publisher.publish(PICTURE)


def test_a_signal_handler_must_not_publish_in_the_midst_of_a_frame(running: Daemon, name: Callable[[str], str]) -> None:
    with Publisher(name("cam"), running.inbox) as publisher:
        for call in (lambda: publisher.publish(PICTURE), lambda: publisher.loan((8, 8))):
            with Interrupted(publisher, call), pytest.raises(RuntimeError, match="signal handler"):
                publisher.publish(PICTURE)
        assert publisher.publish(PICTURE) == 1


def test_a_publisher_whose_closing_is_interrupted_is_closed(running: Daemon, name: Callable[[str], str]) -> None:
    publisher = Publisher(stream := name("cam"), running.inbox, shared_memory="on")
    publisher.publish(PICTURE)
    arenas = list((running.runtime_dir / "arena").glob(f"{stream}*"))
    assert arenas
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("supplierd_client.publisher.time.sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            publisher.close()
    assert not any(arena.exists() for arena in arenas)
    publisher.close()


def interrupt(_seconds: float) -> None:
    """What Ctrl-C does to a wait."""
    raise KeyboardInterrupt


def test_two_threads_may_read(running: Daemon, name: Callable[[str], str]) -> None:
    stream = name("cam")
    with Worker(name("worker"), [stream], running.control) as worker, Camera(stream, running.inbox, 0.002):
        readers = [Reader(worker), Reader(worker)]
        wait_for(lambda: sum(len(reader.frames) for reader in readers) >= 100, "100 frames")
        worker.close()
        for reader in readers:
            reader.join()
    numbers = sorted(frame.seq for reader in readers for frame in reader.frames)
    assert len(numbers) == len(set(numbers)), "each frame goes to one of them"


def test_a_patient_reader_does_not_hold_up_an_impatient_one(running: Daemon, name: Callable[[str], str]) -> None:
    worker_name = name("worker")
    worker = Worker(worker_name, [name("cam")], running.control)
    patient = Reader(worker)
    running.wait_for_state(worker_name, "waiting", "starved")
    assert took(lambda: worker.read(0.05)) < AT_ONCE
    worker.close()
    patient.join()

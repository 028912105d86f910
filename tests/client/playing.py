"""A camera and a reader to test with: publishing at a pace, reading in a thread."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from supplierd_client import ClientError, Frame, Publisher, Worker

from tests.support.daemon import Daemon
from tests.support.waiting import DEADLINE, wait_for

INTERVAL: Final = 1 / 60
"""Seconds between a test camera's frames."""


class Camera:
    """Publishes small frames at a pace, each filled with its number, until it is left."""

    def __init__(self, stream: str, inbox: str, interval: float = INTERVAL, size: int = 16, **options: Any) -> None:
        self.publisher = Publisher(stream, inbox, **options)
        self._interval, self._size = interval, size
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(self._interval):
            self.publisher.publish(np.full(self._size, (self.publisher.published + 1) % 256, np.uint8))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(DEADLINE)
        self.publisher.close()


class Reader:
    """Reads in a thread until the worker is closed; keeps the frames, and the error that ended it."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.frames: list[Frame] = []
        self.error: ClientError | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.frames.extend(self.worker)
        except ClientError as error:
            self.error = error

    def wait_frames(self, count: int) -> None:
        """Wait for so many more frames."""
        wanted = len(self.frames) + count
        wait_for(lambda: len(self.frames) >= wanted or self.ended, f"{count} more frames")
        assert len(self.frames) >= wanted, self.error

    @property
    def ended(self) -> bool:
        return not self.thread.is_alive()

    def join(self) -> None:
        self.thread.join(DEADLINE)
        assert self.ended, "the reader does not end"


def joined(worker: Worker, running: Daemon) -> bool:
    """Wait until a worker without frames has an open demand."""

    def waiting() -> bool:
        found = running.worker(worker.name)
        return worker.read(0) is None and found is not None and found.state == "waiting"

    return wait_for(waiting, "it to join")


def round_trip(publisher: Publisher, worker: Worker, payload: Any, **options: Any) -> Frame:
    """Publish, and read what arrives; once more where libzmq's conflated inbox loses it, as it does with some of ten
    thousand large messages on a busy machine (docs/wire.md)."""
    for _ in range(3):
        seq = publisher.publish(payload, **options)
        frame = worker.read(DEADLINE / 3)
        if frame is not None:
            assert frame.seq == seq
            return frame
    raise AssertionError(f"nothing arrived within {DEADLINE:g} s")


def in_threads(count: int, do: Callable[[], object]) -> None:
    """Do the same in several threads that begin together; what one raises is raised here."""
    start = threading.Barrier(count)
    errors: list[BaseException] = []

    def run() -> None:
        start.wait(DEADLINE)
        try:
            do()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()
    with suppress(IndexError):
        raise errors[0]


def took(do: Callable[[], object]) -> float:
    """How long it takes, in seconds."""
    began = time.monotonic()
    do()
    return time.monotonic() - began

"""The parts that other processes play in the tests: run as a program with a part's name and its arguments as JSON.

Each says what it does in lines of JSON, and plays until its standard input ends.
"""

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from supplierd_client import ClientError, Publisher, Worker


def say(**words: object) -> None:
    # One write for each line, so that a kill never leaves half a line behind others'.
    os.write(1, json.dumps(words).encode() + b"\n")


def publish(inbox: str, stream: str, fps: float = 30.0, size: int = 10_000, **options: Any) -> None:
    """A camera: frames at a pace; the first 8 bytes of each are its number. At the end, what publishing took: seconds,
    and the part of them in which this thread was ready and had no core."""
    over = ended()
    pixels = np.zeros(size, np.uint8)
    took = []
    with Publisher(stream, inbox, **options) as publisher:
        say(epoch=publisher.epoch)
        due = time.monotonic()
        while not over.wait(max(0.0, due - time.monotonic())):
            due += 1.0 / fps
            pixels[:8] = np.frombuffer((publisher.published + 1).to_bytes(8, "little"), np.uint8)
            waited, began = without_core(), time.perf_counter()
            seq = publisher.publish(pixels)
            took.append((time.perf_counter() - began, without_core() - waited))
            say(seq=seq)
        say(published=publisher.published, unsent=publisher.unsent, took=took)


def work(control: str, name: str, streams: list[str] | None = None, busy: float = 0.0, **options: Any) -> None:
    """A worker: says each frame that it is given, and when. `busy` is how long it works on each, in seconds."""
    over = ended()
    worker = Worker(name, streams or ["*"], control, **options)

    def close_at_the_end() -> None:
        over.wait()
        worker.close()

    closer = threading.Thread(target=close_at_the_end, daemon=True)
    closer.start()
    try:
        for frame in worker:
            number = int.from_bytes(frame.data[:8], "little")
            taken_at = frame.captured_at + frame.age
            say(stream=frame.stream, epoch=frame.epoch, seq=frame.seq, age=frame.age, at=taken_at, number=number)
            del frame
            if busy:
                over.wait(busy)
    except ClientError as error:
        say(error=type(error).__name__, text=str(error))
        worker.close()
    else:
        closer.join()  # the process must not end before the leave is taken


def crowd(control: str, count: int, streams: list[str], prefix: str = "worker") -> None:
    """Many workers in one process, a thread each; at the end, how many frames each was given and how old they were."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    over = ended()
    workers = [Worker(f"{prefix}-{i}", streams, control) for i in range(count)]
    ages: list[list[float]] = [[] for _ in workers]
    threads = [threading.Thread(target=consume, args=pair) for pair in zip(workers, ages, strict=True)]
    for thread in threads:
        thread.start()
    over.wait()
    for worker in workers:
        worker.close()
    for thread in threads:
        thread.join()
    say(ages=ages)


def consume(worker: Worker, ages: list[float]) -> None:
    ages.extend(frame.age for frame in worker)


def without_core() -> float:
    """Seconds for which this thread was ready to run and other threads had the cores."""
    with open("/proc/thread-self/schedstat", encoding="ascii") as file:
        return int(file.read().split()[1]) / 1e9


def ended() -> threading.Event:
    """Set when standard input ends."""
    over = threading.Event()

    def listen() -> None:
        while os.read(0, 4096):
            pass
        over.set()

    threading.Thread(target=listen, daemon=True).start()
    return over


if __name__ == "__main__":
    PARTS: dict[str, Callable[..., None]] = {part.__name__: part for part in (publish, work, crowd)}
    PARTS[sys.argv[1]](**json.loads(sys.argv[2]))

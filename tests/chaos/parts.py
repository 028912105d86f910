"""The parts that processes play under chaos: `python -m tests.chaos.parts PART JSON`.

A frame's pixels all have one value, made of its epoch and number, so that a torn or mixed-up frame shows. Each process
says what it did in lines of JSON, one write each, which survive its death. Orders come as lines on standard input:
`busy SECONDS` and `pause`; its end is the order to end.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from supplierd_client import ClientError, Publisher, Worker

from tests.support.actors import say


def value_of(epoch: int, seq: int) -> int:
    """What a frame's 64-bit words are."""
    return (epoch * 0x9E3779B97F4A7C15 + seq * 0xC2B2AE3D27D4EB4F) % (1 << 64)


class Orders:
    """What standard input says.

    Attributes:
        over: set when it ends.
        busy: seconds that a worker spends on a frame.
        paused: whether a publisher publishes nothing.
    """

    def __init__(self, busy: float = 0.0) -> None:
        self.over = threading.Event()
        self.busy = busy
        self.paused = False
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        rest = b""
        while more := os.read(0, 4096):
            *lines, rest = (rest + more).split(b"\n")
            for line in lines:
                word, _, argument = line.decode().partition(" ")
                if word == "busy":
                    self.busy = float(argument)
                elif word == "pause":
                    self.paused = True
        self.over.set()


def publish(stream: str, inbox: str, fps: float, size: int, lane: Any) -> None:
    """A camera: frames of `size` bytes at a pace."""
    orders = Orders()
    with Publisher(stream, inbox, shared_memory=lane) as publisher:
        say(epoch=publisher.epoch)
        due = time.monotonic()
        while not orders.over.wait(max(0.0, due - time.monotonic())):
            due = max(due + 1.0 / fps, time.monotonic() - 1.0 / fps)
            if orders.paused:
                continue
            pixels = np.full(size // 8, value_of(publisher.epoch, publisher.published + 1), np.uint64)
            metadata = {"at": time.monotonic()} if publisher.published % 3 else None  # else it is known by its age
            say(seq=publisher.publish(pixels, metadata=metadata))


def work(name: str, control: str, streams: list[str], busy: float = 0.0, **options: Any) -> None:
    """A worker: says of each frame what it is and what it saw in it, and looks again before it lets go."""
    orders = Orders(busy)
    worker = Worker(name, streams, control, **options)

    def close_at_the_end() -> None:
        orders.over.wait()
        worker.close()

    closer = threading.Thread(target=close_at_the_end, daemon=True)
    closer.start()
    try:
        for frame in worker:
            pixels = frame.array
            say(
                stream=frame.stream,
                epoch=frame.epoch,
                seq=frame.seq,
                captured=frame.metadata.get("at", time.monotonic() - frame.age),
                at=time.monotonic(),
                age=frame.age,
                value=int(pixels[0]),
                whole=bool((pixels == pixels[0]).all()),
            )
            if orders.busy:
                value = int(pixels[0])
                orders.over.wait(orders.busy)
                if not (pixels == value).all():
                    say(changed=[frame.stream, frame.epoch, frame.seq])
            del frame, pixels
    except ClientError as error:
        say(error=f"{type(error).__name__}: {error}")
        worker.close()
    else:
        closer.join()  # the process must not end before the leave is taken


if __name__ == "__main__":
    PARTS: dict[str, Callable[..., None]] = {"publish": publish, "work": work}
    PARTS[sys.argv[1]](**json.loads(sys.argv[2]))

"""The parts that other processes play in the tests of shared memory, and how to see where a frame lies.

Run as a program, like tests/support/actors.py. Every frame is filled with its number, so that anybody can check it.
"""

import ctypes
import json
import logging
import os
import resource
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from supplierd_client import Frame, Publisher, Worker

SIZE: Final = 100_000
"""Bytes of a frame, unless told otherwise: above the threshold from which frames go through shared memory."""


class Place(NamedTuple):
    """Where in which file some memory lies."""

    inode: int
    offset: int


def place(array: npt.NDArray[Any]) -> Place | None:
    """Where in an arena, the only files that anybody here shares, an array lies; None where it lies elsewhere."""
    address = array.ctypes.data
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, mode, offset, _, inode = line.split()[:5]
        start, end = (int(number, 16) for number in span.split("-"))
        if start <= address < end and mode[3] == "s":
            return Place(int(inode), address - start + int(offset, 16))
    return None


def mapped_arenas() -> set[str]:
    """The arenas that this process has mapped."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {Path(line.split(maxsplit=5)[5].removesuffix(" (deleted)")).name for line in lines if ".arena" in line}


def filled(seq: int, size: int = SIZE) -> npt.NDArray[np.uint8]:
    """What a frame of this number looks like."""
    return np.full(size, seq % 256, np.uint8)


def is_whole(frame: Frame) -> bool:
    """Whether a frame is filled with its number from the first byte to the last."""
    return bool((frame.array == frame.seq % 256).all())


def say(**words: object) -> None:
    os.write(1, json.dumps(words).encode() + b"\n")


def camera(inbox: str, stream: str = "cam-1", fps: float = 100.0, limit: str = "", **options: Any) -> None:
    """A publisher whose frames get the size that it was told last on standard input; says what it is warned of.

    `limit`: a resource limit to suffer from, "RLIMIT_FSIZE" or "RLIMIT_NOFILE".
    """
    say_warnings()
    size = [SIZE]
    over = obey(lambda line: size.append(int(line)))
    with Publisher(stream, inbox, **options) as publisher:
        if limit:
            lower(limit)
        while not over.wait(1.0 / fps):
            seq = publisher.publish(filled(publisher.published + 1, size[-1]))
            if seq == 1:
                say(seq=seq)


def watch(control: str, name: str, keep: int = 0, uid: int = 0, limit: str = "", **options: Any) -> None:
    """A worker that says of each frame whether it is whole and where it lies, and keeps the newest `keep` frames.

    `uid`: whose process this shall be. A line on standard input says: let go of them; or, where `limit` is given as of
    a camera, that this is to be suffered from now on.
    """
    say_warnings()
    if uid:
        os.setuid(uid)
    kept: deque[Frame] = deque()
    with Worker(name, ["*"], control, **options) as worker:
        over = obey(lambda _: lower(limit) if limit else kept.clear())
        while not over.is_set():
            frame = worker.read(0.1)
            if frame is not None:
                where = None if limit else place(frame.array)  # to look takes an open file
                say(seq=frame.seq, whole=is_whole(frame), place=where, size=frame.array.nbytes, kept=len(kept))
                kept.append(frame)
                while len(kept) > keep:
                    assert is_whole(kept.popleft()), "a frame changed while it was kept"
            del frame


def poke(control: str) -> None:
    """Write to a frame as a careless C extension does."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with Worker("careless", ["*"], control) as worker:
        frame = worker.read(15.0)
        assert frame is not None
        say(seq=frame.seq, place=place(frame.array))
        ctypes.memset(frame.array.ctypes.data, 255, 1)
        say(survived=True)


def lower(name: str) -> None:
    """Allow small files only, or no more open files than there are."""
    value = 10_000
    if name == "RLIMIT_NOFILE":
        value = os.dup(0)
        os.close(value)
    kind = getattr(resource, name)
    resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))
    say(limited=value)


def obey(command: Callable[[str], object]) -> threading.Event:
    """Do what each line on standard input says; the event is set when that ends."""
    over = threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            command(line)
        over.set()

    threading.Thread(target=listen, daemon=True).start()
    return over


def say_warnings() -> None:
    """Say what the client's log warns of."""
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: say(warning=record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("supplierd_client").addHandler(handler)


if __name__ == "__main__":
    PARTS: dict[str, Callable[..., None]] = {part.__name__: part for part in (camera, watch, poke)}
    PARTS[sys.argv[1]](**json.loads(sys.argv[2]))

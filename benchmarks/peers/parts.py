"""The parts of a run, the same for every system: one publisher at a given pace, and workers forked from one process.

A frame carries in its first 16 bytes its sequence number and CLOCK_MONOTONIC, taken after the "decoder" has written it
and before `publish`. A worker takes the time when it holds an array, and touches the first and the last byte. What
was published and got goes into files of the run's folder; `counts` there tells the driver meanwhile how far they are.
"""

import gc
import json
import os
import select
import signal
import struct
import sys
import threading
import time
import traceback
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np
from rig import say, wait_for_go

from peers.registry import SYSTEMS
from peers.system import Picture, Place
from peers.works import pause

STAMP: Final = struct.Struct("=qq")
"""Sequence number, monotonic nanoseconds."""
ENDS_WITHIN: Final = 1.0
"""Seconds that a worker gets to come out of its library, before it ends all the same."""


def place_of(words: dict[str, Any]) -> Place:
    """A Place, out of JSON."""
    return Place(**{**words, "folder": Path(words["folder"]), "shape": tuple(words["shape"])})


def counts_of(place: Place) -> Any:
    """Frames so far: of each worker, and last of the publisher; shared memory."""
    return np.memmap(place.folder / "counts", np.int64, "r+", shape=(place.workers + 1,))


def publish(system: str, place: dict[str, Any], fps: float) -> None:
    """A camera; a line on standard input is a new pace, its end is the end."""
    where = place_of(place)
    counts = counts_of(where)
    decoded = np.random.default_rng(1).integers(0, 255, where.shape, np.uint8)
    sender = SYSTEMS[system].sender(where)
    say(ready=True)
    wait_for_go()
    calls: list[tuple[int, int]] = []
    due, seq = time.monotonic(), 0
    while True:
        if select.select([0], [], [], 0)[0]:
            line = os.read(0, 64).decode().split()
            if not line:
                break
            fps, due = float(line[-1]), time.monotonic()
        picture = sender.picture(where)
        np.copyto(picture, decoded)
        seq += 1
        now = time.monotonic_ns()
        STAMP.pack_into(picture.reshape(-1), 0, seq, now)
        sender.publish(picture)
        calls.append((now, time.monotonic_ns() - now))
        del picture
        counts[where.workers] = seq
        due = max(due + 1.0 / fps, time.monotonic() - 1.0 / fps)
        time.sleep(max(0.0, due - time.monotonic()))
    np.save(where.folder / "published.npy", np.array(calls, np.int64).reshape(-1, 2))
    say(drops=sender.drops())
    leave(sender.close)


def work(system: str, place: dict[str, Any], pauses: list[float]) -> None:
    """Fork the workers, say who they are, and wait for them; `pauses` are what each takes for a frame (Work.pauses)."""
    where = place_of(place)
    SYSTEMS[system].warm()
    gc.collect()
    gc.freeze()  # else a collection soon copies what the workers share, in all of them at the same frame
    pids = []
    for index in range(where.workers):
        pid = os.fork()
        if not pid:
            status = 1
            try:
                one_worker(system, where, index, pauses[index])
                status = 0
            except BaseException:  # said here, as nobody above may run: this is a fork
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        pids.append(pid)
    say(pids=pids)
    for index, pid in enumerate(pids):
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status not in (0, -signal.SIGALRM):
            print(f"worker {index} ended with status {status}", file=sys.stderr, flush=True)


def one_worker(system: str, place: Place, index: int, middle: float) -> None:
    """Take frames until standard input ends."""
    counts = counts_of(place)
    got: list[tuple[int, int, int]] = []
    ended = threading.Event()
    writing = threading.Lock()
    chance = Random(index)
    touched = 0

    def take(picture: Picture) -> None:
        nonlocal touched
        now = time.monotonic_ns()
        flat = picture.reshape(-1)
        touched += int(flat[0]) + int(flat[-1])
        seq, at = STAMP.unpack_from(flat)
        got.append((now, seq, now - at))
        counts[index] += 1
        if middle:
            time.sleep(pause(middle, chance))

    def finish() -> None:
        drops = receiver.drops()
        with writing:
            (place.folder / f"drops-{index}.json").write_text(json.dumps(drops))
            np.save(place.folder / f"got-{index}.npy", np.array(got, np.int64).reshape(-1, 3))

    def listen() -> None:
        while os.read(0, 4096):
            pass
        ended.set()
        time.sleep(ENDS_WITHIN)
        finish()
        os._exit(0)

    receiver = SYSTEMS[system].receiver(place, index)
    threading.Thread(target=listen, daemon=True).start()
    receiver.serve(take, ended.is_set)
    if not ended.is_set():
        raise RuntimeError(f"worker {index} of {system} stopped by itself")
    finish()
    leave(receiver.close)


def leave(close: Any) -> None:
    """Close, and end the process even where the library hangs, with Python's lock or without."""
    signal.setitimer(signal.ITIMER_REAL, ENDS_WITHIN)  # nobody handles its signal: it ends the process
    close()
    os._exit(0)

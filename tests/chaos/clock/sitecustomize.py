"""A wall clock that a test can set: on PYTHONPATH, this shifts `time.time` and `time.time_ns` of a process.

The shift is read anew at each call, from the eight bytes of the file that CHAOS_CLOCK names, so a running process jumps
the moment they are written. Everything that reads the wall clock here does it through these two functions; libzmq reads
CLOCK_MONOTONIC only, which no jump touches. libfaketime would intercept that one, too, and every other call of libc.
"""

import mmap
import os
import struct
import time
from collections.abc import Callable
from typing import Final

SHIFT: Final = struct.Struct("=q")  # ns


def shift_by(path: str) -> None:
    """Let the clock follow the file."""
    with open(path, "rb") as file:
        shift = mmap.mmap(file.fileno(), SHIFT.size, prot=mmap.PROT_READ)
    real_ns: Callable[[], int] = time.time_ns

    def time_ns() -> int:
        return real_ns() + int(SHIFT.unpack_from(shift)[0])

    def seconds() -> float:
        return time_ns() / 1e9

    time.time_ns, time.time = time_ns, seconds


if "CHAOS_CLOCK" in os.environ:
    shift_by(os.environ["CHAOS_CLOCK"])

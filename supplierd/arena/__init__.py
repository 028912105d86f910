"""Frames in shared memory: written once by a publisher, read by every worker of the machine without a copy.

A publisher's `ArenaWriter` lends free slots of a sparse tmpfs file and names finished frames by a `Descriptor`;
an `ArenaReader` turns that into a `Lease`: read-only views of a frame, which nothing can change while one is alive.
Leases are OFD locks, which the kernel drops with the process: nothing leaks, whoever dies. A leaf package.

Here is what it takes to read and to look; who writes imports `supplierd.arena.writer`, and NumPy with it, which the
daemon does without where `holding` is compiled: a third of its start, and of its memory.
"""

from .directory import ArenaDirectory, arena_directory, check_directory, discard_directory, prepare_directory
from .errors import ArenaClosedError, ArenaError, ArenaUnavailableError, NoFreeSlotError, Reason, StaleDescriptorError
from .janitor import ArenaInfo, Janitor, inspect
from .layout import MAX_FRAME, MAX_SLOTS, MIN_SLOTS, Descriptor, stream_of
from .reader import ArenaReader, Lease

__all__ = [
    "MAX_FRAME",
    "MAX_SLOTS",
    "MIN_SLOTS",
    "ArenaClosedError",
    "ArenaDirectory",
    "ArenaError",
    "ArenaInfo",
    "ArenaReader",
    "ArenaUnavailableError",
    "Descriptor",
    "Janitor",
    "Lease",
    "NoFreeSlotError",
    "Reason",
    "StaleDescriptorError",
    "arena_directory",
    "check_directory",
    "discard_directory",
    "inspect",
    "prepare_directory",
    "stream_of",
]

"""Frames in shared memory: written once by a publisher, read by every worker of the machine without a copy.

A publisher's `ArenaWriter` lends free slots of a sparse tmpfs file and names finished frames by a `Descriptor`;
an `ArenaReader` turns that into a `Lease`: read-only views of a frame, which nothing can change while one is alive.
Leases are OFD locks, which the kernel drops with the process: nothing leaks, whoever dies. A leaf package.
"""

from .directory import ArenaDirectory, arena_directory, check_directory, discard_directory, prepare_directory
from .errors import ArenaClosedError, ArenaError, ArenaUnavailableError, NoFreeSlotError, Reason, StaleDescriptorError
from .janitor import ArenaInfo, Removed, Sweep, inspect, remove_dead_arenas
from .layout import MAX_FRAME, MAX_SLOTS, MIN_SLOTS, Descriptor
from .reader import ArenaReader, Lease
from .writer import DEFAULT_SLOTS, ArenaWriter, Slot, WriterStats

__all__ = [
    "DEFAULT_SLOTS",
    "MAX_FRAME",
    "MAX_SLOTS",
    "MIN_SLOTS",
    "ArenaClosedError",
    "ArenaDirectory",
    "ArenaError",
    "ArenaInfo",
    "ArenaReader",
    "ArenaUnavailableError",
    "ArenaWriter",
    "Descriptor",
    "Lease",
    "NoFreeSlotError",
    "Reason",
    "Removed",
    "Slot",
    "StaleDescriptorError",
    "Sweep",
    "WriterStats",
    "arena_directory",
    "check_directory",
    "discard_directory",
    "inspect",
    "prepare_directory",
    "remove_dead_arenas",
]

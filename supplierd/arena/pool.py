"""One arena file of a writer's, and which of its slots are free.

Only the kernel knows whether a slot is free, so locks are tried: of slots that have memory first, the most recently
published first, sparing the newest few. Fast readers are then served by a handful of warm slots with one lock and one
unlock a frame, and memory is taken only as slots are really held.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import NoFreeSlotError
from .layout import TABLE_OFFSET, Header, whole_pages
from .locks import LockFile
from .memory import Mapping


class Arena:
    """One arena file of ours, and what its writer knows of each slot: always in exactly one of the pools, or lent."""

    def __init__(self, path: Path, locks: LockFile, header: Header) -> None:
        """Make of the nameless empty file that `locks` has open an arena at `path`. Raises OSError."""
        self.path, self.name, self.locks, self.header = path, path.name, locks, header
        os.fchmod(locks.fd, 0o640)  # the directory decides who gets here, not this process's umask
        os.ftruncate(locks.fd, header.file_size)
        os.posix_fallocate(locks.fd, 0, header.slots_offset)
        os.pwrite(locks.fd, header.pack(), 0)
        self.mapping = Mapping(locks.fd, header.file_size, writable=True)
        self.table = self.mapping.table(TABLE_OFFSET, header.slots)
        self.spared: deque[int] = deque()  # the newest published, the newest last
        self.warm: list[int] = []  # have memory; the most recently published last
        self.cold = list(reversed(range(header.slots)))  # have none
        self.depth = 0  # how far from the end of `warm` the last free slot was found
        self.lent = 0
        self.allocated = [0] * header.slots  # bytes
        self.published_at = [0] * header.slots  # in frames of the writer
        self.last_published = 0
        self.largest = 0  # bytes, since the last review
        self.generation = 0
        self.views: dict[int, npt.NDArray[Any]] = {}  # by slot, arrays of the shape and dtype of the last frame stored
        self.shape: tuple[int, ...] = ()
        self.dtype: np.dtype[Any] | None = None
        locks.hold_life()
        # With a descriptor given, Python calls linkat and follows the link: the file appears complete and locked.
        os.link(f"/proc/self/fd/{locks.fd}", path, src_dir_fd=locks.fd, follow_symlinks=True)

    def take(self, size: int) -> int:
        """Lend a free slot with memory for `size` bytes. Raises NoFreeSlotError, OSError.

        The usual case of this, and `publish`, are in usual.pyx, too.
        """
        pool = self.warm
        if pool and not self.depth and self.locks.try_write(pool[-1]):  # nearly always
            slot = pool[-1]
        elif (found := self._lock_warm()) is not None:
            slot = found
        else:
            slot, pool = self._lock_cold(), self.cold
        try:
            if self.allocated[slot] < size:
                self._allocate(slot, whole_pages(size))
        except OSError:
            self.locks.unlock(slot)
            raise
        pool.remove(slot)
        self.generation += 2
        self.table[slot] = self.generation - 1
        self.lent += 1
        return slot

    def _lock_warm(self) -> int | None:
        """Lock the warmest slot that is free, or nearly: begin one warmer than where one was free the last time.

        With many frames held that saves trying all of them each time (64: 2 instead of 60 tries).
        """
        count = len(self.warm)
        start = min(max(self.depth - 1, 0), count)
        for depth in chain(range(start, count), reversed(range(start))):
            slot = self.warm[count - 1 - depth]
            if self.locks.try_write(slot):
                self.depth = depth
                return slot
        return None

    def _lock_cold(self) -> int:
        for slot in reversed(self.cold):
            if self.locks.try_write(slot):
                return slot
        raise NoFreeSlotError(f"all {self.header.slots} slots of {self.path.name} are held: the frame goes inline")

    def fill(self, slot: int, array: npt.NDArray[Any]) -> None:
        """Copy an array of any layout to the beginning of a slot; the interpreter's lock is free meanwhile."""
        if array.shape != self.shape or array.dtype is not self.dtype:
            if array.dtype.hasobject:
                raise ValueError(f"an array of {array.dtype} holds Python objects: expected numbers")
            self.shape, self.dtype = array.shape, array.dtype
            self.views.clear()
        view = self.views.get(slot)
        if view is None:
            view = np.ndarray(array.shape, array.dtype, self.mapping.buffer, self.header.offset(slot))
            self.views[slot] = view
        view[...] = array

    def publish(self, slot: int, now: int, spare: int) -> int:
        """End a loan with a frame; its generation."""
        self.lent -= 1
        self.published_at[slot] = self.last_published = now
        self.spared.append(slot)
        if len(self.spared) > spare:
            self.warm.append(self.spared.popleft())
        generation = self.table[slot] + 1
        self.table[slot] = generation
        self.locks.unlock(slot)
        return generation

    def take_back(self, slot: int) -> None:
        """End a loan without a frame."""
        self.lent -= 1
        self.warm.append(slot)
        self.locks.unlock(slot)

    def trim(self, before: int) -> None:
        """Give back the memory of one free slot that was last published before frame `before`."""
        for slot in self.warm:
            if self.published_at[slot] < before and self.locks.try_write(slot):
                self.table[slot] = 0
                with suppress(OSError):  # a file system that cannot do so keeps it
                    self.mapping.discard(self.header.offset(slot), self.allocated[slot])
                    self.allocated[slot] = 0
                    self.warm.remove(slot)
                    self.cold.append(slot)
                self.locks.unlock(slot)
                return

    def _allocate(self, slot: int, size: int) -> None:
        os.posix_fallocate(self.locks.fd, self.header.offset(slot), size)
        self.allocated[slot] = size

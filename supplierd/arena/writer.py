"""The writing side of a publisher's arenas: what slot is next, and when memory and files are given back.

A frame too large for its slot moves the writer to a new arena (pool.py). `_lock` guards everything; finalisers of slots
only append to `_returned`.
"""

from __future__ import annotations

import operator
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import usual
from .arrays import UINT8, copy, plain_array
from .errors import ArenaClosedError, ArenaUnavailableError, Reason, unavailable
from .layout import MAX_FRAME, MAX_SLOTS, MIN_SLOTS, Descriptor, Header, new_name
from .locks import LockFile
from .pool import Arena
from .region import Region

DEFAULT_SLOTS = 80  # 64 workers with a frame each, the daemon, the spared, the one being written, some to keep
SPARED = 3  # a frame may be wanted but not leased on its way into the daemon, in its hands, on its way to a worker
HEADROOM = 2  # slot size ÷ size of the first frame: costs address space only, and makes moves logarithmically rare
MIN_SLOT_SIZE = 256 * 1024  # bytes; JPEG frames, however their size changes, then hardly ever move
SHRINK = 8  # to a smaller arena once the largest of KEEP_WARM frames would have fit this many times into its slot
KEEP_WARM = 256  # frames (8 s at 30 a second) after which a slot that was not needed gives its memory back …
LOOK_EVERY = 0.25  # seconds; whether somebody removed the file: until then some miss frames; a look takes 20 µs
TRIM_EVERY = 16  # … one slot in so many frames, for to give back 6 MB takes up to 2 ms


class WriterStats(NamedTuple):
    """The state of a writer's arenas: slots by state (a spared one counts as free), bytes of memory really taken."""

    arenas: int
    slots: int
    free: int
    leased: int
    writing: int
    bytes: int


class Slot:
    """A slot lent for writing one frame; given back when it is committed, abandoned, or simply forgotten.

    Until then nobody else reads or writes it. After `commit` the frame is everybody's: whoever kept an array of
    `memory` must not write through it any more. After `abandon` the slot is lent again when no such array is left.
    """

    __slots__ = ("_arena", "_index", "_region", "_writer", "size")

    def __init__(self, writer: ArenaWriter, arena: Arena, index: int, size: int) -> None:
        self._writer, self._arena, self._index = writer, arena, index
        self.size = size
        where = arena.header.offset(index)
        self._region: Region | None = Region(writer._returned.append, (arena, index), arena.mapping, where, size)

    @property
    def memory(self) -> memoryview:
        """`size` writable bytes, with whatever was there before. Raises ArenaClosedError after commit or abandon."""
        return self.bytes().data

    def bytes(self) -> npt.NDArray[np.uint8]:
        """The same as an array."""
        return self._open().array(UINT8, (self.size,))

    def as_array(self, dtype: npt.DTypeLike, shape: Sequence[int]) -> npt.NDArray[np.generic]:
        """The same as an array of this shape. Raises ValueError or TypeError when that is not `size` bytes of data."""
        return self._open().array(dtype, shape)

    def commit(self, size: int | None = None) -> Descriptor:
        """Make the first `size` bytes (default: all) a frame and name it. Raises ValueError, ArenaClosedError."""
        region = self._open()
        size = self.size if size is None else operator.index(size)
        if not 0 < size <= self.size:
            raise ValueError(f"cannot commit {size} bytes: expected 1 to {self.size}, the size that was acquired")
        writer = self._writer
        arena, slot = self._arena, self._index
        with writer._lock:
            writer._check_open()
            region.disarm()  # first: whatever interrupts this, no slot may be given back that was published
            self._region = None
            return usual.publish(writer, arena, slot, size) or writer._publish(arena, slot, size)

    def abandon(self) -> None:
        """Give the slot back without a frame. May be repeated."""
        self._region = None

    def _open(self) -> Region:
        if self._region is None:
            raise ArenaClosedError("this slot was committed or abandoned: acquire another one")
        return self._region


class ArenaWriter:
    """The arenas of one stream's publisher, at most one of which takes new frames. Safe to use from several threads.

    `slots` (4 to 1024) is how many frames can be held at once, `spare` how many of the newest are never replaced.
    Nothing is created before the first frame. A child forked from the process cannot use it and does not disturb it.
    """

    def __init__(self, directory: Path, stream: str, *, slots: int = DEFAULT_SLOTS, spare: int = SPARED) -> None:
        new_name(stream)
        if not MIN_SLOTS <= slots <= MAX_SLOTS:
            raise ValueError(f"{slots} slots: expected {MIN_SLOTS} to {MAX_SLOTS}")
        if not 0 <= spare < slots:
            raise ValueError(f"{spare} spared slots: expected 0 to {slots - 1}, fewer than there are slots")
        self._directory, self._stream, self._slots, self._spare = directory, stream, slots, spare
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._returned: deque[tuple[Arena, int]] = deque()
        self._arena: Arena | None = None
        self._retired: list[Arena] = []
        self._published = 0
        self._linked: set[Path] = set()
        self._unlink = weakref.finalize(self, _unlink_all, self._linked, self._pid)
        self._closed = False
        self._look_at = 0.0
        self._review_at = TRIM_EVERY

    def acquire(self, size: int) -> Slot:
        """Lend a free slot for a frame of up to `size` bytes. Never waits.

        Raises NoFreeSlotError, ArenaUnavailableError (no room, no permission …), ArenaClosedError, and ValueError for
        an impossible size.
        """
        size = operator.index(size)
        self._check_open()  # before the lock, which a forked child may find taken for good
        with self._lock:
            arena, index = usual.take(self, size) or self._take(size)
            return Slot(self, arena, index, size)

    def store(self, array: npt.NDArray[Any]) -> Descriptor:
        """Copy an array of numbers, of any layout, into a slot, as one frame: `write` for one part, in fewer steps.

        Meanwhile other threads wait. Raises as `acquire` does, and ValueError for an array of objects.
        """
        size = array.nbytes
        self._check_open()
        with self._lock:
            descriptor = usual.store(self, array)
            if descriptor is not None:
                return descriptor
            arena, index = self._take(size)
            try:
                arena.fill(index, array)
            except BaseException:
                arena.take_back(index)
                raise
            return self._publish(arena, index, size)

    def write(self, *parts: object) -> Descriptor:
        """Copy contiguous buffers, or arrays of any layout, one behind the other into a slot, as one frame.

        Raises as `acquire` does, and TypeError or ValueError for parts that are no plain data.
        """
        arrays = [plain_array(part) for part in parts]
        slot = self.acquire(sum(array.nbytes for array in arrays))
        target = slot.bytes()
        for array in arrays:
            copy(array, target[: array.nbytes])
            target = target[array.nbytes :]
        return slot.commit()

    def stats(self) -> WriterStats:
        """Count slots and memory, by asking the kernel: some microseconds for each slot held."""
        with self._lock:
            self._check_open()
            self._settle()
            arenas = [arena for arena in (self._arena, *self._retired) if arena is not None]
            slots = sum(arena.header.slots for arena in arenas)
            leased = sum(arena.locks.count(arena.header.slots)[0] for arena in arenas)
            lent = sum(arena.lent for arena in arenas)
            taken = sum(os.fstat(arena.locks.fd).st_blocks * 512 for arena in arenas)
        return WriterStats(len(arenas), slots, slots - leased - lent, leased, lent, taken)

    def close(self) -> None:
        """Unlink the files; readers keep the frames that they hold. May be repeated."""
        if self._pid == os.getpid():
            with self._lock:
                self._closed = True
                self._unlink()
                self._arena = None
                self._retired.clear()

    def __enter__(self) -> ArenaWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed or self._pid != os.getpid():
            raise ArenaClosedError("this writer was closed, or belongs to a parent process: make a new one")

    def _take(self, size: int) -> tuple[Arena, int]:
        if not 0 < size <= MAX_FRAME:
            raise ValueError(f"a frame of {size} bytes: expected 1 to {MAX_FRAME}")
        self._check_open()
        if self._returned:
            self._settle()
        try:
            arena = self._arena
            if arena is None or size > arena.header.slot_size or time.monotonic() >= self._look_at:
                arena = self._arena_for(size)
            try:
                return arena, arena.take(size)
            except OSError:
                if not self._retired:
                    raise
                self._drop_retired(spare=0)  # they may have the room that is missing
                return arena, arena.take(size)
        except OSError as error:
            raise unavailable(error, f"no {size} bytes of shared memory in {self._directory}") from error

    def _settle(self) -> None:
        while self._returned:
            arena, slot = self._returned.popleft()
            arena.take_back(slot)

    def _arena_for(self, size: int) -> Arena:
        if not self._unlink.alive:  # the interpreter ends: nobody would remove what is made now
            raise ArenaUnavailableError(Reason.NOT_FOUND, "the process ends: no arena is made, frames go inline")
        arena = self._arena
        self._look_at = time.monotonic() + LOOK_EVERY
        if arena and size <= arena.header.slot_size and os.fstat(arena.locks.fd).st_nlink:
            return arena
        # There is none, it is too small, or somebody removed the file, so that no reader could open it any more.
        path = self._directory / new_name(self._stream)
        locks = LockFile(os.open(self._directory, os.O_TMPFILE | os.O_RDWR, 0o640))
        try:
            arena = Arena(path, locks, Header.plan(self._slots, max(MIN_SLOT_SIZE, size * HEADROOM)))
        except BaseException:
            locks.close()
            raise
        self._linked.add(arena.path)
        if self._arena:
            self._retired.append(self._arena)
        self._arena = arena
        return arena

    def _publish(self, arena: Arena, slot: int, size: int) -> Descriptor:
        self._published = now = self._published + 1
        generation = arena.publish(slot, now, self._spare)
        arena.largest = max(arena.largest, size)
        if self._retired:
            self._drop_retired(self._spare)
        if now >= self._review_at:
            self._review_at = now + TRIM_EVERY
            self._review(arena, now)
        # What Descriptor(…) does, in one call less, which takes half as long when nothing is in the caches.
        return tuple.__new__(Descriptor, (arena.name, slot, generation, arena.header.offset(slot), size))

    def _review(self, arena: Arena, now: int) -> None:
        arena.trim(before=now - KEEP_WARM)
        if now % KEEP_WARM == 0:
            fits = max(MIN_SLOT_SIZE, arena.largest * SHRINK)
            if arena is self._arena and fits < arena.header.slot_size:
                self._retired.append(arena)
                self._arena = None
            arena.largest = 0

    def _drop_retired(self, spare: int) -> None:
        """Unlink old arenas with no slot lent and no frame among the newest `spare`; who has one mapped keeps it."""
        for arena in self._retired[:]:
            if not arena.lent and self._published - arena.last_published >= spare:
                self._retired.remove(arena)
                _unlink_all({arena.path}, self._pid)
                self._linked.discard(arena.path)


def _unlink_all(paths: set[Path], owner: int) -> None:
    if os.getpid() == owner:
        for path in paths:
            with suppress(OSError):  # gone already, or no longer ours to remove: the daemon's sweep sees to it
                path.unlink()

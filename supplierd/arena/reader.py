"""Leases: how a process looks at frames in other processes' arenas, read-only and only while they cannot change.

A lease takes the slot's lock for reading, without waiting, and then compares generations: as the writer holds the same
lock from before its first byte to after its last, a torn or replaced frame cannot be handed out. The lock lasts until
the last array or view of the frame dies. `_lock` guards the counts and the cache; finalisers run at any moment, even
inside the guarded lines, so they only queue what has ended, and whoever has the lock settles the queue.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import ArenaClosedError, ArenaUnavailableError, Reason, StaleDescriptorError, unavailable
from .layout import TABLE_OFFSET, Descriptor, Header, bad_descriptor, open_arena, stream_of
from .locks import LockFile
from .memory import Mapping, Region


class _Arena:
    """One open and mapped arena. It is let go by whoever refers to it last, the reader's cache or a frame."""

    def __init__(self, locks: LockFile, header: Header) -> None:
        self.locks = locks
        self.header = header
        self.mapping = Mapping(locks.fd, header.file_size)
        self.mapping.populate(0, header.slots_offset)
        self.table = self.mapping.table(TABLE_OFFSET, header.slots)
        self.leases = [0] * header.slots
        self.populated = [0] * header.slots

    def check(self, descriptor: Descriptor) -> None:
        _, slot, generation, offset, size = descriptor
        header = self.header
        if not 0 <= slot < header.slots:
            raise bad_descriptor(descriptor, f"the arena has {header.slots} slots")
        if offset != header.offset(slot) or not 0 < size <= header.slot_size:
            where = f"{header.slot_size} bytes at {header.offset(slot)}"
            raise bad_descriptor(descriptor, f"the slot has {where}")
        if generation <= 0 or generation % 2:
            raise bad_descriptor(descriptor, "the generation of a frame is even and not 0")

    def take(self, slot: int, generation: int) -> bool:
        """Hold the slot, once more, if it has this generation."""
        if self.table[slot] != generation or not (self.leases[slot] or self.locks.try_read(slot)):
            return False
        if self.table[slot] != generation:  # replaced before the lock was there
            if not self.leases[slot]:
                self.locks.unlock(slot)
            return False
        self.leases[slot] += 1
        return True

    def drop(self, slot: int) -> None:
        self.leases[slot] -= 1
        if not self.leases[slot]:
            self.locks.unlock(slot)

    def populate(self, slot: int, size: int) -> None:
        if self.populated[slot] < size:
            self.mapping.populate(self.header.offset(slot), size)
            self.populated[slot] = size


class Lease:
    """A hold on one frame. While it, or any array, slice or memoryview got from it, is alive, the frame cannot change.

    Of use as a context manager. What it gives is read-only: writing raises, a write by native code ends the process.
    """

    __slots__ = ("_arena", "_region", "descriptor")

    def __init__(self, descriptor: Descriptor, arena: _Arena, region: Region) -> None:
        self.descriptor = descriptor
        self._arena = arena
        self._region: Region | None = region

    @property
    def data(self) -> memoryview:
        """The frame's bytes, read-only. Raises as `bytes` does."""
        return self.bytes().data

    def bytes(self) -> npt.NDArray[np.uint8]:
        """The frame's bytes as a read-only array.

        Raises ArenaClosedError after `release`, ArenaUnavailableError if the memory cannot be had (a damaged file).
        """
        if self._region is None:
            raise ArenaClosedError("this lease was released: read the frame's data before, or keep an array of it")
        try:
            self._arena.populate(self.descriptor.slot, self.descriptor.size)
        except OSError as error:
            text = f"{self.descriptor.arena} lacks the memory of a frame that it names: look at its publisher"
            raise ArenaUnavailableError(Reason.BAD_ARENA, f"{text}; frames go inline") from error
        return self._region.bytes()

    def as_array(self, dtype: npt.DTypeLike, shape: Sequence[int]) -> npt.NDArray[np.generic]:
        """The frame as a read-only array.

        Raises as `bytes` does, and ValueError or TypeError for another size and for Python objects.
        """
        return self.bytes().view(dtype).reshape(tuple(shape))

    def release(self) -> None:
        """End this hold. The slot itself becomes free when no array or view of the frame is left. May be repeated."""
        self._region = None

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class ArenaReader:
    """Leases frames from all arenas in one directory. Safe to use from several threads.

    It keeps the newest arena of each stream open. A child forked from its process has to make a reader of its own;
    frames that the child inherited are protected no longer than its parent holds them.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._arenas: dict[str, _Arena] = {}
        self._ended: deque[tuple[_Arena, int]] = deque()
        self._held = 0
        self._closed = False

    @property
    def leases_held(self) -> int:
        """Frames held by this reader's process: leases not released and frames of which views are alive."""
        return self._held - len(self._ended)

    def lease(self, descriptor: Descriptor) -> Lease:
        """Hold the frame that `descriptor` names. Never waits.

        Raises StaleDescriptorError when the frame has been replaced or its arena is gone, ArenaUnavailableError when
        this process cannot use the arena or the descriptor cannot be right, ArenaClosedError after `close` or a fork.
        """
        name, slot, generation, _, size = descriptor
        with self._guarded():
            arena = self._arenas.get(name) or self._open(name)
            arena.check(descriptor)
            try:
                taken = arena.take(slot, generation)
            except OSError as error:
                raise unavailable(error, f"cannot lock a slot of {name}") from error
            if not taken:
                raise StaleDescriptorError(f"slot {slot} of {name} has a newer frame than {generation}: ask for it")
            self._held += 1
            region = Region(arena.mapping, descriptor.offset, size, partial(self._end, arena, slot))
        return Lease(descriptor, arena, region)

    def prune(self) -> None:
        """Let go of arenas that were unlinked, so that their memory is freed; call it now and then while idle."""
        with self._guarded():
            self._prune()

    def close(self) -> None:
        """Let go of every arena that no frame needs; frames still held stay valid. May be repeated."""
        self._closed = True
        if self._pid == os.getpid():
            with self._lock:
                self._arenas.clear()
            self._settle()

    def __enter__(self) -> ArenaReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        if self._closed or self._pid != os.getpid():
            raise ArenaClosedError("this reader was closed, or belongs to a parent process: make a new one")
        try:
            with self._lock:
                yield
        finally:
            self._settle()

    def _open(self, name: str) -> _Arena:
        stream = stream_of(name)
        if stream is None:
            raise bad_descriptor(name, "expected the file name of an arena, <stream>-<16 hex digits>.arena")
        try:
            fd, header = open_arena(self._directory / name)
        except FileNotFoundError as error:
            if self._directory.is_dir():
                raise StaleDescriptorError(f"the arena {name} is gone: ask for the newest frame") from error
            raise unavailable(error, f"cannot find arenas in {self._directory}") from error
        locks = LockFile(fd)
        try:
            arena = _Arena(locks, header)
        except OSError as error:
            locks.close()
            raise unavailable(error, f"cannot map the arena {name}") from error
        for other in [other for other in self._arenas if stream_of(other) == stream]:
            del self._arenas[other]
        self._prune()
        self._arenas[name] = arena
        return arena

    def _prune(self) -> None:
        for name in [name for name, arena in self._arenas.items() if not os.fstat(arena.locks.fd).st_nlink]:
            del self._arenas[name]

    def _end(self, arena: _Arena, slot: int) -> None:
        """The last view of a frame has died: called by its finaliser, so it must not wait for the lock."""
        self._ended.append((arena, slot))
        self._settle()

    def _settle(self) -> None:
        """Drop the locks of frames that have ended, unless somebody is at it, who then sees to these as well."""
        while self._ended and self._lock.acquire(blocking=False):
            try:
                while self._ended:
                    arena, slot = self._ended.popleft()
                    self._held -= 1
                    arena.drop(slot)
            finally:
                self._lock.release()

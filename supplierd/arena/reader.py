"""Leases: how a process looks at frames in other processes' arenas, read-only and only while they cannot change.

A lease takes the slot's lock for reading, without waiting, and then compares generations: as the writer holds the same
lock from before its first byte to after its last, a torn or replaced frame cannot be handed out. The lock lasts until
the last array or view of the frame dies. Nothing is mapped before somebody wants to see a frame: who only leases, as
the daemon does, reads the file by system calls, and so no damaged file can end it with SIGBUS. `_lock` guards the
counts and the cache; finalisers run at any moment, even inside the guarded lines, so they only queue what has ended,
and whoever has the lock settles the queue.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections import deque
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import ArenaClosedError, StaleDescriptorError, unavailable
from .layout import TABLE_OFFSET, Descriptor, Header, bad_descriptor, open_arena, stream_of
from .locks import LockFile
from .memory import Mapping, Region


class _Arena:
    """One open arena. It is let go by whoever refers to it last, the reader's cache or a frame."""

    def __init__(self, locks: LockFile, header: Header) -> None:
        self.locks = locks
        self.header = header
        self.leases = [0] * header.slots
        self._mapping_lock = threading.Lock()
        self._mapping: Mapping | None = None
        self._generations: memoryview | None = None
        self._populated = [0] * header.slots  # bytes

    def take(self, descriptor: Descriptor) -> bool:
        """Hold the slot, once more, if it has this generation. Raises ArenaUnavailableError, OSError."""
        _, slot, generation, offset, size = descriptor
        slots, slot_size, slots_offset, _ = self.header
        if not 0 <= slot < slots or offset != slots_offset + slot * slot_size or not 0 < size <= slot_size:
            raise bad_descriptor(descriptor, f"the arena has {slots} slots of {slot_size} bytes from {slots_offset} on")
        if generation <= 0 or generation % 2:
            raise bad_descriptor(descriptor, "the generation of a frame is even and not 0")
        if not self.leases[slot] and not self.locks.try_read(slot):
            return False
        self.leases[slot] += 1
        found = -1
        try:
            if self._generations is not None:
                found = self._generations[slot]
            else:
                found = int.from_bytes(os.pread(self.locks.fd, 8, TABLE_OFFSET + 8 * slot), sys.byteorder)
        finally:
            if found != generation:
                self.drop(slot)
        return found == generation

    def drop(self, slot: int) -> None:
        self.leases[slot] -= 1
        if not self.leases[slot]:
            self.locks.unlock(slot)

    def view(self, region: Region, descriptor: Descriptor) -> npt.NDArray[np.uint8]:
        """The bytes of a frame that is held. Raises ArenaUnavailableError."""
        name, slot, _, offset, size = descriptor
        if self._mapping is None or self._populated[slot] < size:
            try:
                self._populate(slot, offset, size)
            except OSError as error:
                raise unavailable(error, f"cannot map a frame of {name}") from error
            assert self._mapping is not None
        return region.view(self._mapping, offset, size)

    def _populate(self, slot: int, offset: int, size: int) -> None:
        with self._mapping_lock:
            if self._mapping is None:
                self._mapping = Mapping(self.locks.fd, self.header.file_size)
                self._generations = self._mapping.table(TABLE_OFFSET, self.header.slots)
            self._mapping.populate(offset, size)
            self._populated[slot] = size


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

        Raises ArenaUnavailableError if they cannot be mapped, ArenaClosedError after `release` or a fork.
        """
        return self._arena.view(self._open(), self.descriptor)

    def read_into(self, target: bytearray | memoryview) -> None:
        """Copy the frame without mapping it, into `size` writable bytes. Raises as `bytes` does, and ValueError."""
        self._open()
        name, _, _, offset, size = self.descriptor
        if (room := memoryview(target).nbytes) != size:
            raise ValueError(f"a frame of {size} bytes cannot be copied into {room}")
        try:
            if os.preadv(self._arena.locks.fd, [target], offset) != size:
                raise OSError(errno.EFAULT, "cut short")
        except OSError as error:
            raise unavailable(error, f"cannot read a frame of {name}") from error

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

    def _open(self) -> Region:
        if self._region is None or self._arena.locks.fd < 0:
            raise ArenaClosedError(
                "this lease was released, or belongs to a parent process: keep an array of its frame"
            )
        return self._region


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
        return Lease(descriptor, *self._hold(descriptor))

    def frame(self, descriptor: Descriptor) -> npt.NDArray[np.uint8]:
        """The same, for as long as the array, read-only, of the frame's bytes or any view of it lives.

        Raises as `lease` does, and ArenaUnavailableError if the frame cannot be mapped.
        """
        arena, region = self._hold(descriptor)
        return arena.view(region, descriptor)

    def prune(self) -> None:
        """Let go of arenas that were unlinked, so that their memory is freed; call it now and then while idle."""
        self._check_open()
        with self._lock:
            self._prune()
        self._settle()

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

    def _hold(self, descriptor: Descriptor) -> tuple[_Arena, Region]:
        self._check_open()
        name = descriptor.arena
        try:
            with self._lock:
                arena = self._arenas.get(name) or self._open(name)
                if not arena.take(descriptor):
                    text = (
                        f"slot {descriptor.slot} of {name} has a newer frame than {descriptor.generation}: ask for it"
                    )
                    raise StaleDescriptorError(text)
                self._held += 1
                return arena, Region(partial(self._end, arena, descriptor.slot))
        except OSError as error:
            raise unavailable(error, f"cannot lock a slot of {name}") from error
        finally:
            if self._ended:
                self._settle()

    def _check_open(self) -> None:
        if self._closed or self._pid != os.getpid():
            raise ArenaClosedError("this reader was closed, or belongs to a parent process: make a new one")

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
        except OSError as error:
            raise unavailable(error, f"cannot open the arena {name}") from error
        for other in [other for other in self._arenas if stream_of(other) == stream]:
            del self._arenas[other]
        self._prune()
        arena = self._arenas[name] = _Arena(LockFile(fd), header)
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

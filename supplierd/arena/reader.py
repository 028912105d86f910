"""Leases: how a process looks at frames in other processes' arenas, read-only and only while they cannot change.

A lease takes the slot's lock for reading, without waiting, and then compares generations: as the writer holds the same
lock from before its first byte to after its last, a torn or replaced frame cannot be handed out. The lock lasts until
the last array or view of the frame dies. Nothing is mapped before somebody wants to see a frame: who only leases, as
the daemon does, reads the file by system calls, and so no damaged file can end it with SIGBUS. `_lock` guards the
counts and the cache; finalisers run at any moment, even inside the guarded lines, so they never wait for it: where it
is taken they queue what has ended, and whoever has the lock settles the queue.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import ArenaClosedError, StaleDescriptorError, unavailable
from .layout import TABLE_OFFSET, Descriptor, Header, Place, bad_descriptor, open_arena, stream_of
from .locks import LockFile
from .memory import UINT8, Mapping, Region, Root

_NDARRAY = np.ndarray


class _Arena:
    """One open arena. It is let go by whoever refers to it last, the reader's cache or a frame."""

    def __init__(self, locks: LockFile, header: Header) -> None:
        self.locks = locks
        self.header = header
        self.slots = header.slots
        self.offsets = [header.offset(slot) for slot in range(header.slots)]
        self.leases = [0] * header.slots
        self._mapping_lock = threading.Lock()
        self.mapping: Mapping | None = None
        self.generations: Sequence[int] = ()  # of the slots, once it is mapped
        self.populated = [0] * header.slots  # bytes that are mapped

    def take(self, place: Place) -> bool:
        """Hold the slot, once more, if it has this generation. Raises ArenaUnavailableError, OSError."""
        _, slot, generation, offset, size = place
        if not 0 <= slot < self.slots or offset != self.offsets[slot] or not 0 < size <= self.header.slot_size:
            header = self.header
            text = f"the arena has {header.slots} slots of {header.slot_size} bytes from {header.slots_offset} on"
            raise bad_descriptor(place, text)
        if generation <= 0 or generation % 2:
            raise bad_descriptor(place, "the generation of a frame is even and not 0")
        leases = self.leases
        if not leases[slot] and not self.locks.try_read(slot):
            return False
        leases[slot] += 1
        found = -1
        try:
            if self.mapping is not None:
                found = self.generations[slot]
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

    def map(self, place: Place) -> Mapping:
        """Have the memory of a frame that is held mapped. Raises ArenaUnavailableError."""
        name, slot, _, offset, size = place
        with self._mapping_lock:
            try:
                if self.mapping is None:
                    self.mapping = Mapping(self.locks.fd, self.header.file_size)
                    self.generations = self.mapping.table(TABLE_OFFSET, self.header.slots)
                if self.populated[slot] < size:
                    self.mapping.populate(offset, size)
                    self.populated[slot] = size
            except OSError as error:
                raise unavailable(error, f"cannot map a frame of {name}") from error
            return self.mapping


class _Held(Root):
    """The root of an array that holds a slot: with it, the hold ends."""

    __slots__ = ("hold",)
    hold: tuple[ArenaReader, _Arena, int]

    def __del__(self) -> None:
        hold = getattr(self, "hold", None)
        if hold is not None:
            reader, arena, slot = hold
            reader._end(arena, slot)


def _held(arena: _Arena, place: Place, dtype: np.dtype[Any], shape: tuple[int, ...]) -> _Held:
    """A frame as an array; nobody may look at it before the slot is held. Raises ValueError, TypeError."""
    assert arena.mapping is not None
    held = _Held(shape, dtype, arena.mapping.buffer, place[3])
    if held.nbytes != place[4]:
        raise ValueError(f"an array of shape {shape} and {dtype} has not the frame's {place[4]} bytes")
    return held


class Lease:
    """A hold on one frame. While it, or any array, slice or memoryview got from it, is alive, the frame cannot change.

    Of use as a context manager. What it gives is read-only: writing raises, a write by native code ends the process.
    """

    __slots__ = ("_arena", "_place", "_region")

    def __init__(self, place: Place, arena: _Arena, region: Region) -> None:
        self._place = place
        self._arena = arena
        self._region: Region | None = region

    @property
    def descriptor(self) -> Descriptor:
        """What names the frame."""
        return Descriptor(*self._place)

    @property
    def data(self) -> memoryview:
        """The frame's bytes, read-only. Raises as `bytes` does."""
        return self.bytes().data

    def bytes(self) -> npt.NDArray[np.uint8]:
        """The frame's bytes as a read-only array.

        Raises ArenaUnavailableError if they cannot be mapped, ArenaClosedError after `release` or a fork.
        """
        _, _, _, offset, size = self._place
        return self._open().view(self._arena.map(self._place), offset, size)

    def read_into(self, target: bytearray | memoryview) -> None:
        """Copy the frame without mapping it, into `size` writable bytes. Raises as `bytes` does, and ValueError."""
        self._open()
        name, _, _, offset, size = self._place
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

    It keeps the newest arena of each stream open. `leases_held` counts the frames that this reader's process holds:
    leases not released and frames of which views are alive. A child forked from its process has to make a reader of its
    own; frames that the child inherited are protected no longer than its parent holds them.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._arenas: dict[str, _Arena] = {}
        self._ended: deque[tuple[_Arena, int]] = deque()
        self.leases_held = 0
        self._closed = False
        _READERS.add(self)

    def lease(self, place: Place) -> Lease:
        """Hold the frame that `place`, a Descriptor or a plain tuple of its items, names. Never waits.

        Raises StaleDescriptorError when the frame has been replaced or its arena is gone, ArenaUnavailableError when
        this process cannot use the arena or the descriptor cannot be right, ArenaClosedError after `close` or a fork.
        """
        arena = self._hold(place)
        return Lease(place, arena, Region(partial(self._end, arena, place[1])))

    def frame(self, descriptor: Descriptor) -> npt.NDArray[np.uint8]:
        """The same, for as long as the array, read-only, of the frame's bytes or any view of it lives.

        Raises as `lease` does, and ArenaUnavailableError if the frame cannot be mapped.
        """
        return self.array(descriptor, UINT8, (descriptor.size,))

    def array(self, place: Place, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """The same, as an array of this type and shape. `place` is a Descriptor, or a plain tuple of its items.

        Raises as `frame` does, and ValueError or TypeError where type and shape do not make the frame's size.
        """
        name, slot, generation, offset, size = place
        arena = self._arenas.get(name)
        if (
            arena is None or self._closed or not 0 <= slot < arena.slots or arena.offsets[slot] != offset
            or not 0 < size <= arena.populated[slot] or generation % 2 or not generation
        ):  # fmt: skip
            return self._first(place, dtype, shape)
        held = _held(arena, place, dtype, shape)
        try:
            with self._lock:
                taken = not arena.leases[slot] and arena.locks.try_read(slot)
                if taken:
                    if arena.generations[slot] == generation:
                        arena.leases[slot] = 1
                        self.leases_held += 1
                        held.hold = self, arena, slot
                    else:
                        arena.locks.unlock(slot)
                        taken = False
        except OSError:
            taken = False  # it is met again, and given its meaning
        if self._ended:
            self._settle()
        return held.view(_NDARRAY) if taken else self._first(place, dtype, shape)

    def _first(self, place: Place, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """`array` with every check and the reason why not, for a place that was not seen before or is not as before."""
        arena = self._hold(place)
        try:
            arena.map(place)
            held = _held(arena, place, dtype, shape)
        except BaseException:
            self._end(arena, place[1])
            raise
        held.hold = self, arena, place[1]
        return held.view(_NDARRAY)

    def prune(self) -> None:
        """Let go of arenas that were unlinked, so that their memory is freed; call it now and then while idle."""
        self._check_open()
        with self._lock:
            self._prune()
        self._settle()

    def close(self) -> None:
        """Let go of every arena that no frame needs; frames still held stay valid. May be repeated."""
        self._closed = True
        if self._pid == os.getpid():  # else they are the parent's, and its lock may have been taken when it forked
            with self._lock:
                self._arenas.clear()
            self._settle()

    def __enter__(self) -> ArenaReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _hold(self, place: Place) -> _Arena:
        self._check_open()
        name = place[0]
        try:
            with self._lock:
                arena = self._arenas.get(name) or self._open(name)
                if not arena.take(place):
                    text = f"slot {place[1]} of {name} has a newer frame than {place[2]}: ask for it"
                    raise StaleDescriptorError(text)
                self.leases_held += 1
                return arena
        except OSError as error:
            raise unavailable(error, f"cannot lock a slot of {name}") from error
        finally:
            if self._ended:
                self._settle()

    def _check_open(self) -> None:
        if self._closed:
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
        if not self._ended and self._lock.acquire(blocking=False):
            try:
                self.leases_held -= 1
                arena.drop(slot)
            finally:
                self._lock.release()
        else:
            self._ended.append((arena, slot))
        if self._ended:
            self._settle()

    def _settle(self) -> None:
        """Drop the locks of frames that have ended, unless somebody is at it, who then sees to these as well."""
        while self._ended and self._lock.acquire(blocking=False):
            try:
                while self._ended:
                    arena, slot = self._ended.popleft()
                    self.leases_held -= 1
                    arena.drop(slot)
            finally:
                self._lock.release()


_READERS: weakref.WeakSet[ArenaReader] = weakref.WeakSet()


def _close_inherited() -> None:
    for reader in list(_READERS):
        reader._closed = True


os.register_at_fork(after_in_child=_close_inherited)

"""Leases: how a process looks at frames in other processes' arenas, read-only and only while they cannot change.

A lease takes the slot's lock for reading, without waiting, and then compares generations: as the writer holds the same
lock from before its first byte to after its last, a torn or replaced frame cannot be handed out. The lock lasts until
the last array or view of the frame dies. Nothing is mapped before somebody wants to see a frame: who only leases, as
the daemon does, reads the file by system calls, and so no damaged file can end it with SIGBUS. `_lock` guards the
cache of open arenas; what is held is counted in `holding`.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ArenaClosedError, StaleDescriptorError, unavailable
from .holding import Hold, Slots, Tally
from .layout import TABLE_OFFSET, Descriptor, Header, Place, bad_descriptor, open_arena, stream_of
from .locks import LockFile
from .memory import Mapping

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_GENERATIONS = 1 << 64


class _Arena(Slots):
    """One open arena. It is let go by whoever refers to it last, the reader's cache or a frame."""

    def __init__(self, tally: Tally, locks: LockFile, header: Header) -> None:
        super().__init__(tally, locks, header)
        self._mapping_lock = threading.Lock()
        locks.heir = weakref.proxy(self)

    def hold(self, place: Place) -> bool:
        """Hold the slot, once more, if it has this generation. Raises ArenaUnavailableError, OSError."""
        _, slot, generation, offset, size = place
        header = self.header
        if not 0 <= slot < header.slots or offset != header.offset(slot) or not 0 < size <= header.slot_size:
            text = f"the arena has {header.slots} slots of {header.slot_size} bytes from {header.slots_offset} on"
            raise bad_descriptor(place, text)
        if not 0 < generation < _GENERATIONS or generation % 2:
            raise bad_descriptor(place, "the generation of a frame is even and not 0")
        return self.take(slot, generation)

    def has_to_hold(self) -> bool:
        """See locks.Heir."""
        return bool(self.held())

    def hold_again(self) -> None:
        """See locks.Heir: what is held, by locks of this process's own. Raises OSError."""
        self._mapping_lock = threading.Lock()  # whoever had it is not in this process
        self.settle_anew()
        lost = sum(not self._lock_again(slot, generation) for slot, generation in self.held())
        if lost:
            raise BlockingIOError(errno.EAGAIN, f"{lost} were replaced before this process ran")

    def _lock_again(self, slot: int, generation: int) -> bool:
        found = os.pread(self.locks.fd, 8, TABLE_OFFSET + 8 * slot) if self.locks.try_read(slot) else b""
        return int.from_bytes(found, sys.byteorder) == generation

    def map(self, place: Place) -> Mapping:
        """Have the memory of a frame that is held mapped. Raises ArenaUnavailableError."""
        name, slot, _, offset, size = place
        with self._mapping_lock:
            try:
                mapping = self.mapping or Mapping(self.locks.fd, self.header.file_size)
                if self.shown(slot) < size:
                    mapping.populate(offset, size)
                    self.show(mapping, slot, size)
            except OSError as error:
                raise unavailable(error, f"cannot map a frame of {name}") from error
            return mapping


class Lease:
    """A hold on one frame. While it, or any array, slice or memoryview got from it, is alive, the frame cannot change.

    Of use as a context manager. What it gives is read-only: writing raises, a write by native code ends the process.
    """

    __slots__ = ("_arena", "_hold", "_place")

    def __init__(self, place: Place, arena: _Arena, hold: Hold) -> None:
        self._place = place
        self._arena = arena
        self._hold: Hold | None = hold

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

        Raises ArenaUnavailableError if they cannot be mapped, ArenaClosedError after `release`.
        """
        from .arrays import rooted  # not before there is to be an array

        _, _, _, offset, size = self._place
        hold = self._open()
        return rooted(hold, self._arena.map(self._place), offset, size)

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
        self._hold = None

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _open(self) -> Hold:
        if self._hold is None or self._arena.locks.fd < 0:
            raise ArenaClosedError("this lease was released: keep an array of its frame")
        return self._hold


class ArenaReader:
    """Leases frames from all arenas in one directory. Safe to use from several threads.

    It keeps the newest arena of each stream open. `leases_held` counts the frames that this reader's process holds:
    leases not released and frames of which views are alive. A child forked from its process has to make a reader of its
    own; frames that it inherits it holds by itself, as long as it has them.

    Attributes:
        arenas: those that are open, by name of their files.
        tally: counts what is held on them.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self.tally = Tally()
        self.arenas: dict[str, _Arena] = {}
        self._closed = False
        _READERS.add(self)

    @property
    def leases_held(self) -> int:
        """How many frames are held."""
        return self.tally.held

    def lease(self, place: Place) -> Lease:
        """Hold the frame that `place`, a Descriptor or a plain tuple of its items, names. Never waits.

        Raises StaleDescriptorError when the frame has been replaced or its arena is gone, ArenaUnavailableError when
        this process cannot use the arena or the descriptor cannot be right, ArenaClosedError after `close` or a fork.
        """
        arena = self._hold(place)
        return Lease(place, arena, Hold(arena, place[1]))

    def frame(self, descriptor: Descriptor) -> npt.NDArray[np.uint8]:
        """The same, for as long as the array, read-only, of the frame's bytes or any view of it lives.

        Raises as `lease` does, and ArenaUnavailableError if the frame cannot be mapped.
        """
        from .arrays import UINT8

        return self.array(descriptor, UINT8, (descriptor.size,))

    def array(self, place: Place, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """The same, as an array of this type and shape. `place` is a Descriptor, or a plain tuple of its items.

        Raises as `frame` does, and ValueError or TypeError where type and shape do not make the frame's size.
        """
        arena = self.arenas.get(place[0])
        if arena is not None and not self._closed:
            array = arena.array(place, dtype, shape)
            if array is not None:
                return array
        arena = self._hold(place)
        try:
            arena.map(place)
        except BaseException:
            arena.drop(place[1])
            raise
        return arena.view(place[1], place[4], dtype, shape)

    def prune(self) -> None:
        """Let go of arenas that were unlinked, so that their memory is freed; call it now and then while idle."""
        self._check_open()
        with self._lock:
            self._prune()

    def close(self) -> None:
        """Let go of every arena that no frame needs; frames still held stay valid. May be repeated."""
        self._closed = True
        if self._pid == os.getpid():  # else they are the parent's, and its lock may have been taken when it forked
            with self._lock:
                self.arenas.clear()

    def __enter__(self) -> ArenaReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _hold(self, place: Place) -> _Arena:
        self._check_open()
        name = place[0]
        try:
            with self._lock:
                arena = self.arenas.get(name) or self._open(name)
            if not arena.hold(place):
                text = f"slot {place[1]} of {name} has a newer frame than {place[2]}: ask for it"
                raise StaleDescriptorError(text)
            return arena
        except OSError as error:
            raise unavailable(error, f"cannot lock a slot of {name}") from error

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
        for other in [other for other in self.arenas if stream_of(other) == stream]:
            del self.arenas[other]
        self._prune()
        arena = self.arenas[name] = _Arena(self.tally, LockFile(fd), header)
        return arena

    def _prune(self) -> None:
        for name in [name for name, arena in self.arenas.items() if not os.fstat(arena.locks.fd).st_nlink]:
            del self.arenas[name]


_READERS: weakref.WeakSet[ArenaReader] = weakref.WeakSet()


def _close_inherited() -> None:
    for reader in list(_READERS):
        reader._closed = True


os.register_at_fork(after_in_child=_close_inherited)

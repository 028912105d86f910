"""Which slots of one arena this process holds: the counts, the locks behind them, and arrays that hold a slot.

A slot is locked with its first hold and unlocked with its last. A hold ends when an array or view dies, which may be in
any thread and in the midst of any line; so finalisers never wait for the lock: where it is taken they queue what has
ended, and whoever has the lock settles the queue.

Each frame comes through here, so there is the same in C, `holding.pyx`, which is imported in place of this file where
it was compiled.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import Root
from .layout import TABLE_OFFSET, Header, Place
from .locks import LockFile
from .memory import Mapping

_NDARRAY = np.ndarray


class Tally:
    """How many frames the process of one reader holds: `held`."""

    __slots__ = ("ended", "held", "lock")

    def __init__(self) -> None:
        self.held = 0
        self.lock = threading.Lock()
        self.ended: deque[tuple[Slots, int]] = deque()  # holds that have ended and are not settled yet


class Slots:
    """The slots of one open arena. Safe to use from several threads.

    Args:
        tally: counts the holds, together with those on other arenas.
        locks: the arena's, open for reading.
        header: of the arena.

    Attributes:
        mapping: the arena in memory; None before something is shown.
    """

    def __init__(self, tally: Tally, locks: LockFile, header: Header) -> None:
        self.locks = locks
        self.header = header
        self.mapping: Mapping | None = None
        self._tally = tally
        self._holds = [0] * header.slots
        self._offsets = [header.offset(slot) for slot in range(header.slots)]
        self._generations: memoryview | None = None  # of the slots, once they are mapped
        self._shown = [0] * header.slots
        self._taken = [0] * header.slots  # the generations of those that are held

    def take(self, slot: int, generation: int) -> bool:
        """Hold a slot, once more, unless it is being written or has another generation. Raises OSError."""
        tally = self._tally
        try:
            with tally.lock:
                return self._take(slot, generation)
        finally:
            if tally.ended:
                self._settle()

    def drop(self, slot: int) -> None:
        """End one hold."""
        tally = self._tally
        if not tally.ended and tally.lock.acquire(blocking=False):
            try:
                self._drop(slot)
            finally:
                tally.lock.release()
        else:
            tally.ended.append((self, slot))
        if tally.ended:
            self._settle()

    def held(self) -> list[tuple[int, int]]:
        """The slots that are held, each with its frame's generation."""
        return [(slot, self._taken[slot]) for slot, holds in enumerate(self._holds) if holds]

    def settle_anew(self) -> None:
        """In a forked child, where whoever had the lock is not: what has ended is counted, and the lock is free."""
        self._tally.lock = threading.Lock()
        self._settle()

    def show(self, mapping: Mapping, slot: int, size: int) -> None:
        """The first bytes of a slot are in memory: they may be handed out."""
        if self.mapping is None:
            self._generations = mapping.table(TABLE_OFFSET, self.header.slots)
            self.mapping = mapping
        self._shown[slot] = size

    def shown(self, slot: int) -> int:
        """How many bytes of a slot are."""
        return self._shown[slot]

    def array(self, place: Place, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any] | None:
        """Hold a slot for as long as the array, or any view of it, lives; None, and nothing has changed, where it is
        not in memory yet, or held already, or cannot be had. Raises ValueError and TypeError as `view` does."""
        _, slot, generation, offset, size = place
        if (
            not 0 <= slot < len(self._holds) or self._holds[slot] or offset != self._offsets[slot]
            or not 0 < size <= self._shown[slot] or generation % 2 or not generation
        ):  # fmt: skip
            return None
        held = self._root(slot, size, dtype, shape)
        tally = self._tally
        try:
            with tally.lock:
                if self._holds[slot] or not self._take(slot, generation):
                    return None
                held.hold = self, slot
        except OSError:
            return None  # it is met again, and given its meaning
        finally:
            if tally.ended:
                self._settle()
        return held.view(_NDARRAY)

    def view(self, slot: int, size: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """An array of a slot that is held and shown: with it, the hold ends.

        Raises:
            ValueError, TypeError: type and shape do not make the size; the hold has ended.
        """
        try:
            held = self._root(slot, size, dtype, shape)
        except (ValueError, TypeError):
            self.drop(slot)
            raise
        held.hold = self, slot
        return held.view(_NDARRAY)

    def _root(self, slot: int, size: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> _Held:
        assert self.mapping is not None
        held = _Held(shape, dtype, self.mapping.buffer, self._offsets[slot])
        if held.nbytes != size:
            raise ValueError(f"an array of shape {shape} and {dtype} is not one of {size} bytes")
        return held

    def _take(self, slot: int, generation: int) -> bool:
        """Take the lock, if need be, and compare; the tally's lock is held."""
        if not self._holds[slot] and not self.locks.try_read(slot):
            return False
        found = -1
        try:
            if self._generations is not None:
                found = self._generations[slot]
            else:  # nothing is mapped before somebody wants to see a frame
                found = int.from_bytes(os.pread(self.locks.fd, 8, TABLE_OFFSET + 8 * slot), sys.byteorder)
        finally:
            if found == generation:
                self._taken[slot] = generation
                self._holds[slot] += 1
                self._tally.held += 1
            elif not self._holds[slot]:
                self.locks.unlock(slot)
        return found == generation

    def _drop(self, slot: int) -> None:
        self._tally.held -= 1
        self._holds[slot] -= 1
        if not self._holds[slot]:
            self.locks.unlock(slot)

    def _settle(self) -> None:
        """End the holds that are queued, unless somebody is at it, who then sees to these as well."""
        tally = self._tally
        while tally.ended and tally.lock.acquire(blocking=False):
            try:
                while tally.ended:
                    slots, slot = tally.ended.popleft()
                    slots._drop(slot)
            finally:
                tally.lock.release()


class Hold:
    """One hold on a slot that was taken: it ends with this object."""

    __slots__ = ("_slot", "_slots")

    def __init__(self, slots: Slots, slot: int) -> None:
        self._slots, self._slot = slots, slot

    def __del__(self) -> None:
        self._slots.drop(self._slot)


class _Held(Root):
    """The root of an array that holds a slot: with it, the hold ends."""

    __slots__ = ("hold",)
    hold: tuple[Slots, int]

    def __del__(self) -> None:
        hold = getattr(self, "hold", None)
        if hold is not None:
            slots, slot = hold
            slots.drop(slot)

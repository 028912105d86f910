"""Mapped memory, and how views of it tell that they are gone.

A `Root` is the base of every array and view of one frame. CPython frees it with the last of them, and at that moment
whatever it keeps calls back: so a lock can last exactly as long as somebody can see the frame, without a sweep or a
weak reference.
"""

from __future__ import annotations

import errno
import mmap
import os
from typing import Any, Final

import numpy as np
import numpy.typing as npt

UINT8: Final = np.dtype(np.uint8)
_MADV_POPULATE_READ = 22  # Linux 5.14; the mmap module has no name for it


class Mapping:
    """A whole arena file in memory, read-only unless `writable`; unmapped when nothing refers to it any more."""

    __slots__ = ("buffer",)

    def __init__(self, fd: int, size: int, *, writable: bool = False) -> None:
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        own = os.open(f"/proc/self/fd/{fd}", os.O_RDWR if writable else os.O_RDONLY)  # see the rule in locks.py
        try:
            self.buffer = mmap.mmap(own, size, access=access)
        finally:
            os.close(own)

    def table(self, offset: int, entries: int) -> memoryview:
        """`entries` native unsigned 64-bit integers at `offset`."""
        return memoryview(self.buffer)[offset : offset + 8 * entries].cast("Q")

    def array(self, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """An array at `offset`, which keeps the mapping alive."""
        return np.ndarray(shape, dtype, self.buffer, offset)

    def populate(self, offset: int, size: int) -> None:
        """Map these bytes (from a page on) for reading, where the kernel can, at the price of the faults it saves.

        Raises OSError if they cannot be had (a hole in a sparse file, no room to fill it), instead of a SIGBUS later.
        """
        try:
            self.buffer.madvise(_MADV_POPULATE_READ, offset, size)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a kernel older than 5.14 does without
                raise

    def discard(self, offset: int, size: int) -> None:
        """Give the memory of these whole pages back to the system; they read as zero. Raises OSError."""
        self.buffer.madvise(mmap.MADV_REMOVE, offset, size)


class Root(np.ndarray[tuple[int, ...], np.dtype[Any]]):
    """What all arrays and views of one frame have as their base: NumPy does not look through it to the memory below, as
    it is of another type than they are. So it lives as long as any of them, and keeps its `owner` alive."""

    __slots__ = ("owner",)
    owner: object


def rooted(owner: object, mapping: Mapping, offset: int, size: int) -> npt.NDArray[np.uint8]:
    """Bytes of a mapping as an array, which keeps the owner alive, as does all that is derived from that."""
    root = Root((size,), UINT8, mapping.buffer, offset)
    root.owner = owner
    return root.view(np.ndarray)


def plain_array(part: object) -> npt.NDArray[np.generic]:
    """An array of any layout as it is, any other contiguous buffer as its bytes, without a copy.

    Raises TypeError or ValueError for what is no plain data.
    """
    array = part if isinstance(part, np.ndarray) else np.frombuffer(memoryview(part), np.uint8)  # type: ignore[arg-type]
    if array.dtype.hasobject:
        raise ValueError(f"an array of {array.dtype} holds Python objects: expected numbers or bytes")
    return array


def copy(source: npt.NDArray[np.generic], target: npt.NDArray[np.uint8]) -> None:
    """Copy an array of any layout into as many bytes; the interpreter's lock is free meanwhile."""
    np.copyto(target.view(source.dtype).reshape(source.shape), source)

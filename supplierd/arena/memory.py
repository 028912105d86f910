"""Mapped memory."""

from __future__ import annotations

import errno
import mmap
import os

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

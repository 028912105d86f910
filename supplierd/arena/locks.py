"""Locks of an arena file: one byte for the owner's life, one for each slot, all of them OFD locks.

An OFD lock belongs to an open file description. The kernel drops it when the last descriptor of that description is
closed, however its process ends, so there is nothing to repair after a crash. Two rules follow and are kept here: the
description that locks is never the one that maps (a mapping keeps its own alive), and a forked child closes its
copies at once, so that it can neither drop nor prolong its parent's locks. What it has to hold, it locks for itself.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import F_OFD_GETLK, F_OFD_SETLK, F_RDLCK, F_UNLCK, F_WRLCK, fcntl
from typing import Protocol

_log = logging.getLogger("supplierd.arena")
_FLOCK = struct.Struct("@hhqqi0q")  # l_type, l_whence, l_start, l_len, l_pid
_LIFE = 0
COUNT_AT_MOST = 0.01
"""Seconds: for each question the kernel goes through all locks of a file, and anybody may have made thousands."""


def _byte(slot: int) -> int:
    """Where a slot's lock lies. No two are neighbours: the kernel merges those, and to split them again may fail."""
    return 2 + 2 * slot


def _request(kind: int, start: int, length: int = 1) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, start, length, 0)


class _Requests(dict[int, bytes]):
    """The requests of one kind, by slot. Each is made once, and then found in one step."""

    def __init__(self, kind: int) -> None:
        self._kind = kind

    def __missing__(self, slot: int) -> bytes:
        made = self[slot] = _request(self._kind, _byte(slot))
        return made


_WRITE, _READ, _UNLOCK = _Requests(F_WRLCK), _Requests(F_RDLCK), _Requests(F_UNLCK)


class Heir(Protocol):
    """What locks are held for."""

    def has_to_hold(self) -> bool:
        """Whether there are locks that a forked child needs, too."""

    def hold_again(self) -> None:
        """Take those, in the child. Raises OSError."""


class LockFile:
    """The file descriptor that holds locks on one arena; it is closed with the object, and with it all locks end.

    A file opened for reading can hold read locks only, so no reader can pass for an owner or a writer.

    Attributes:
        fd: the descriptor; -1 once it is closed.
        heir: in a forked child the file is another one with locks of its own, if this says so, and is then called with
            it; None: it is closed there.
    """

    __slots__ = ("__weakref__", "fd", "heir")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.heir: Heir | None = None
        _OPEN.add(self)

    def try_write(self, slot: int) -> bool:
        """Take the slot for writing, without waiting. False: somebody holds it. Raises OSError."""
        return self._try(_WRITE[slot])

    def try_read(self, slot: int) -> bool:
        """Take the slot for reading, without waiting. False: it is being written. Raises OSError."""
        try:  # as `_try`: this is done for each frame
            fcntl(self.fd, F_OFD_SETLK, _READ[slot])
        except (BlockingIOError, PermissionError):
            return False
        return True

    def unlock(self, slot: int) -> None:
        """Let go of the slot; nothing happens once the file is closed, for then the kernel has done it."""
        if self.fd >= 0:
            fcntl(self.fd, F_OFD_SETLK, _UNLOCK[slot])

    def hold_life(self) -> None:
        """Show that the arena's owner lives, until this file is closed. Raises OSError."""
        if not self._try(_request(F_WRLCK, _LIFE)):
            raise OSError(errno.EBUSY, "another process owns this arena")

    def owner_lives(self) -> bool:
        """Whether another open file holds the life lock. A reader's own lock on that byte does not count."""
        return self._conflict(F_RDLCK, _LIFE, 1)[0] != F_UNLCK

    def count(self, slots: int) -> tuple[int, int]:
        """How many of the first `slots` slots others hold: (for reading, for writing). Some may be left out, where
        there are so many locks that it would take longer than COUNT_AT_MOST."""
        until = time.monotonic() + COUNT_AT_MOST
        found = {F_RDLCK: 0, F_WRLCK: 0}
        ranges = [(_byte(0), _byte(slots))]
        while ranges and time.monotonic() < until:
            start, end = ranges.pop()
            if start >= end:
                continue
            kind, first, length = self._conflict(F_WRLCK, start, end - start)
            if kind == F_UNLCK:
                continue
            last = min(first + length, end) if length else end  # length 0: up to the end of the file
            first = max(first, start)
            found[kind] += (last + 1) // 2 - (first + 1) // 2
            ranges += [(start, first), (last, end)]
        return found[F_RDLCK], found[F_WRLCK]

    def close(self) -> None:
        """Close the file, and so drop every lock. Harmless when repeated."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close

    def inherit(self) -> Heir | None:
        """In a forked child: give up the parent's description; who is to hold again, by a new one. Raises OSError."""
        parents, self.fd = self.fd, -1
        if parents < 0:
            return None
        try:
            if self.heir is None or not self.heir.has_to_hold():
                return None
            self.fd = os.open(f"/proc/self/fd/{parents}", os.O_RDONLY | os.O_CLOEXEC)
            return self.heir
        finally:
            os.close(parents)

    def _try(self, request: bytes) -> bool:
        try:
            fcntl(self.fd, F_OFD_SETLK, request)
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, as POSIX lets the system choose
            return False
        return True

    def _conflict(self, kind: int, start: int, length: int) -> tuple[int, int, int]:
        """(kind, start, length) of a lock of another file in the way of this one; kind F_UNLCK: there is none."""
        answer = _FLOCK.unpack(fcntl(self.fd, F_OFD_GETLK, _request(kind, start, length)))
        return answer[0], answer[2], answer[3]


_OPEN: weakref.WeakSet[LockFile] = weakref.WeakSet()


def _inherit() -> None:
    heirs: list[Heir] = []
    for lock_file in list(_OPEN):
        with _warning():
            if (heir := lock_file.inherit()) is not None:
                heirs.append(heir)
    for heir in heirs:  # not before: the end of a hold on one arena may settle those on others, whose locks it drops
        with _warning():
            heir.hold_again()


@contextmanager
def _warning() -> Iterator[None]:
    try:
        yield
    except (OSError, ReferenceError) as error:
        _log.warning("frames that this forked process has of its parent may change: %s", error)


os.register_at_fork(after_in_child=_inherit)

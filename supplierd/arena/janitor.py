"""What the daemon sees of arenas without using them: their state, for metrics, and the ones whose owner is dead.

An arena appears under its name with its owner's life lock held, and no owner comes back: once the lock is free the
file can be removed, at any time and without a race. Readers that have it mapped keep what they hold.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from .errors import ArenaUnavailableError
from .layout import open_arena, stream_of
from .locks import LockFile


class ArenaInfo(NamedTuple):
    """The state of one arena; `bytes` of memory really taken, slots by state, and the owner's pid (0: unknown)."""

    stream: str
    pid: int
    living: bool
    slots: int
    free: int
    leased: int
    writing: int
    bytes: int


def inspect(path: Path) -> ArenaInfo:
    """Look at one arena. Raises OSError, and ArenaUnavailableError for what is no arena."""
    fd, header = open_arena(path)
    with closing(LockFile(fd)) as locks:
        leased, writing = locks.count(header.slots)
        free = header.slots - leased - writing
        taken = os.fstat(fd).st_blocks * 512
        stream = stream_of(path.name) or ""
        return ArenaInfo(stream, header.pid, locks.owner_lives(), header.slots, free, leased, writing, taken)


class Janitor:
    """Removes the arenas of dead owners from one directory, a few at a time: whoever may write there can make thousands
    of files, and nobody must wait for all of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._names: Iterator[str] | None = None  # those not looked at yet

    @property
    def rests(self) -> bool:
        """Whether the last sweep did not come to the end of the directory."""
        return self._names is not None

    def sweep(self, seconds: float) -> list[str]:
        """Go on for so long, to the end of the directory at most; the names of those removed. Raises OSError if the
        directory cannot be read."""
        removed, until = [], time.monotonic() + seconds
        if self._names is None:
            self._names = iter(os.listdir(self._directory))
        for name in self._names:
            if stream_of(name) and _remove_if_dead(self._directory / name):
                removed.append(name)
            if time.monotonic() >= until:
                return removed
        self._names = None
        return removed


def _remove_if_dead(path: Path) -> bool:
    """Unlink an arena whose owner is dead. What is none, or cannot be opened, is left alone."""
    try:
        fd, _ = open_arena(path)
        with closing(LockFile(fd)) as locks:
            dead = not locks.owner_lives()
            if dead:
                os.unlink(path)
            return dead
    except (ArenaUnavailableError, OSError):
        return False

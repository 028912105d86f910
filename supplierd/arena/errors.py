"""What can go wrong with shared memory, told once for people and once for counters.

Every operating system error is translated here, at the boundary: the message says what failed, why, and what to do;
`reason` is the stable label under which the frames that now go inline are counted. No error here ever stops frames:
whoever gets one sends, or asks for, the bytes inline.
"""

from __future__ import annotations

import errno
import os
from enum import StrEnum


class Reason(StrEnum):
    """Why an arena cannot be used; a closed set, fit for a metric's label."""

    NO_SPACE = "no_space"
    READ_ONLY = "read_only"
    NO_PERMISSION = "no_permission"
    NOT_FOUND = "not_found"
    TOO_MANY_FILES = "too_many_files"
    FILE_LIMIT = "file_limit"
    NO_MEMORY = "no_memory"
    UNSUPPORTED = "unsupported"
    BAD_ARENA = "bad_arena"
    BAD_DESCRIPTOR = "bad_descriptor"
    IO_ERROR = "io_error"


_NO_SPACE = (Reason.NO_SPACE, "free or enlarge it (tmpfs: mount -o remount,size=…), or hold fewer frames")
_NO_PERMISSION = (Reason.NO_PERMISSION, "run as the directory's owner or as a member of its group")
_NOT_FOUND = (Reason.NOT_FOUND, "start the daemon, which makes it, or share it with this container")
_TOO_MANY_FILES = (Reason.TOO_MANY_FILES, "raise the limit of open files (ulimit -n, LimitNOFILE=)")
_NO_MEMORY = (Reason.NO_MEMORY, "raise the limit of address space (ulimit -v, LimitAS=) or use fewer slots")
_UNSUPPORTED = (Reason.UNSUPPORTED, "use a runtime directory on tmpfs and Linux 3.15 or newer")

_CAUSES: dict[int, tuple[Reason, str]] = {
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EROFS: (Reason.READ_ONLY, "mount it writable, or choose another runtime directory"),
    errno.EACCES: _NO_PERMISSION,
    errno.EPERM: _NO_PERMISSION,
    errno.ENOENT: _NOT_FOUND,
    errno.ENOTDIR: _NOT_FOUND,
    errno.EMFILE: _TOO_MANY_FILES,
    errno.ENFILE: _TOO_MANY_FILES,
    errno.EFBIG: (Reason.FILE_LIMIT, "raise the limit of file sizes (ulimit -f, LimitFSIZE=)"),
    errno.ENOMEM: _NO_MEMORY,
    errno.ENOLCK: _NO_MEMORY,
    errno.ELOOP: (Reason.BAD_ARENA, "an arena is a file and never a link: look who put one there"),
    errno.EFAULT: (Reason.BAD_ARENA, "the arena lacks memory that it claims to have: look at its publisher"),
    errno.EOPNOTSUPP: _UNSUPPORTED,
    errno.EISDIR: _UNSUPPORTED,
    errno.EINVAL: _UNSUPPORTED,
    errno.ENOSYS: _UNSUPPORTED,
}


class ArenaError(Exception):
    """Base of everything that goes wrong with arenas, slots and leases."""


class ArenaUnavailableError(ArenaError):
    """This process cannot use the arena: frames go inline. `reason` says why, for counters."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NoFreeSlotError(ArenaError):
    """Every slot is leased, being written, or too new to be used again: this one frame goes inline."""


class StaleDescriptorError(ArenaError):
    """The frame that the descriptor names has been replaced: ask for the newest one."""


class ArenaClosedError(ArenaError):
    """A writer, reader, slot or lease was used after its end, or in a process forked from its owner."""


def unavailable(error: OSError | int, doing: str) -> ArenaUnavailableError:
    """Say what `error` (or its number), met while `doing` something, means for frames and how to mend it."""
    number = error if isinstance(error, int) else error.errno or 0
    reason, advice = _CAUSES.get(number, (Reason.IO_ERROR, "look into the system's log"))
    return ArenaUnavailableError(reason, f"{doing}: {os.strerror(number)}; frames go inline until mended: {advice}")

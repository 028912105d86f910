"""The directory of all arenas: `arena` in the runtime directory, and on tmpfs wherever that can be had.

Where the runtime directory lies on a disk, `arena` is a link to a private directory in /dev/shm, named after the user
and the runtime directory, so that a restart finds it again. Who may enter the runtime directory may enter this one.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from .errors import ArenaUnavailableError, unavailable
from .janitor import Janitor

SHM = Path("/dev/shm")  # where every Linux has a tmpfs for all users
SMALL = 256 << 20  # bytes: 8 workers with 4 raw 1080p frames each; containers often have 64 MiB


class ArenaDirectory(NamedTuple):
    """Where arenas go, and what an operator should know about the place."""

    path: Path
    warning: str | None
    file: os.stat_result


def arena_directory(runtime_dir: Path) -> Path:
    """Where the arenas are for the daemon that serves `runtime_dir`."""
    return runtime_dir / "arena"


def on_tmpfs(path: Path) -> bool:
    """Whether `path` lies on tmpfs. Raises OSError."""
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        fields = line.split()
        if fields[2] == wanted:
            return fields[fields.index("-") + 1] == "tmpfs"
    return False


def check_directory(path: Path, *, write: bool = False) -> ArenaUnavailableError | None:
    """Why this process cannot read arenas in `path` (or, with `write`, make them); None when it can."""
    doing = f"cannot {'make' if write else 'read'} arenas in {path}"
    try:
        if not stat.S_ISDIR(path.stat().st_mode):
            return unavailable(errno.ENOTDIR, doing)
        if write and os.statvfs(path).f_flag & os.ST_RDONLY:
            return unavailable(errno.EROFS, doing)
    except OSError as error:
        return unavailable(error, doing)
    if not os.access(path, os.X_OK | (os.W_OK if write else 0), effective_ids=True):
        return unavailable(errno.EACCES, doing)
    return None


def prepare_directory(runtime_dir: Path, *, shm: Path = SHM) -> ArenaDirectory:
    """Make or find again the arena directory of `runtime_dir`, and remove dead arenas; for the daemon's start.

    Raises ArenaUnavailableError when there can be none; the daemon then serves without shared memory.
    """
    path = arena_directory(runtime_dir)
    try:
        place = _place(path, shm)
        if path.is_symlink():
            if not path.exists() or not _trusted(path.stat()):
                path.unlink()
        elif place != path:
            with suppress(OSError):  # there is none, or it is in use: then it stays
                path.rmdir()
        if not path.exists():
            _make(place, path)
        if (problem := check_directory(path, write=True)) is not None:
            raise problem
        Janitor(path).sweep(math.inf)
        return ArenaDirectory(path, _warning(path), path.lstat())
    except OSError as error:
        raise unavailable(error, f"cannot prepare {path}") from error


def discard_directory(directory: ArenaDirectory) -> None:
    """Remove what `prepare_directory` made outside the runtime directory, if it is empty; for the daemon's end.

    Publishers that outlive the daemon keep their arenas, and so the directory, which the next daemon finds again. Where
    somebody removed ours, what lies there now is another daemon's.
    """
    path = directory.path
    with suppress(OSError):
        if not os.path.samestat(path.lstat(), directory.file):
            return
        Janitor(path).sweep(math.inf)
        if path.is_symlink():
            path.resolve().rmdir()
            path.unlink()


def _place(path: Path, shm: Path) -> Path:
    """Where `path` should really be."""
    if on_tmpfs(path.parent) or check_directory(shm, write=True) or not on_tmpfs(shm):
        return path
    name = hashlib.sha256(os.fsencode(path.parent.resolve())).hexdigest()[:16]
    return shm / f"supplierd-{os.geteuid()}-{name}"


def _make(place: Path, path: Path) -> None:
    """Make `place`, or take it over from an earlier run, open it to whom the runtime directory is, and link it."""
    try:
        place.mkdir(0o700)
    except FileExistsError:
        if not _trusted(place.lstat()):  # somebody else's: never use it
            place = path
            place.mkdir(0o700)
    model = path.parent.stat()
    with suppress(PermissionError):  # not a member of that group: then our own may enter
        os.chown(place, -1, model.st_gid)
    # Files get the directory's group. Its members may connect to the sockets, so they may publish, and make arenas; the
    # sticky bit keeps each from removing the others' files.
    place.chmod(0o3770)
    if place != path:
        path.symlink_to(place)


def _trusted(status: os.stat_result) -> bool:
    """Whether this is a directory of ours, or of root's, into which not everybody can write."""
    return stat.S_ISDIR(status.st_mode) and status.st_uid in (0, os.geteuid()) and not status.st_mode & stat.S_IWOTH


def _warning(path: Path) -> str | None:
    if not on_tmpfs(path):
        return f"{path} is on a disk, which makes shared memory slow: use a runtime directory on tmpfs, as /run is"
    room = os.statvfs(path)
    total = room.f_blocks * room.f_frsize
    if 0 < total < SMALL:
        text = f"{path} has only {total >> 20} MiB for frames, expected at least {SMALL >> 20}"
        return f"{text}: what does not fit goes inline; enlarge its tmpfs (mount -o remount,size=…, --shm-size)"
    return None

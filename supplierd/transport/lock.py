"""One daemon per socket file. libzmq's ipc bind unlinks whatever lies at the path, a live daemon's socket and a regular
file included, so a lock beside it is taken first; the kernel drops it with its holder, however that dies.
"""

import fcntl
import os
import socket
import stat
from pathlib import Path
from typing import Final

IPC: Final = "ipc://"


class HeldError(Exception):
    """Another process holds the socket, or something else lies at its path."""


class SocketLock:
    """The right to bind one ipc socket file.

    Args:
        path: of the socket; the lock file is `path` with ".lock" appended.

    Raises:
        HeldError: another daemon serves there, or a file that is no socket is in the way.
        OSError: the directory cannot be written.

    Attributes:
        path: of the socket.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._file, 200, 0).decode(errors="replace").strip() or "an unknown process"
            os.close(self._file)
            raise HeldError(
                f"{path} is in use by {holder}: stop that daemon, or choose another --runtime-dir"
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"supplierd, pid {os.getpid()}\n".encode(), 0)
        obstacle = _obstacle(path)
        if obstacle:
            os.close(self._file)
            raise HeldError(f"{path} {obstacle}, or choose another --runtime-dir")

    def release(self) -> None:
        """Remove the socket file and give the lock back. The lock file stays: removing it would let two daemons hold
        locks on two files of one name. Where somebody removed ours, what lies there now may be another daemon's."""
        if self._file >= 0:
            if self.holds():
                self.path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = -1

    def holds(self) -> bool:
        """Whether the lock file is still the one that is locked, and not removed."""
        try:
            return os.path.samestat(os.stat(f"{self.path}.lock"), os.fstat(self._file))
        except OSError:
            return False


def _obstacle(path: Path) -> str:
    """What at the path must not be unlinked, and what to do about it; "" for nothing, or a dead daemon's socket."""
    if not os.path.lexists(path):
        return ""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        return "exists and is not a socket: move it away"
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return ""
        except OSError:
            pass  # of another type, or its listener is busy
    return "is another program's socket, which listens there: stop that program"

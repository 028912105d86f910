"""One daemon per socket file. libzmq's ipc bind unlinks whatever lies at the path, a live daemon's socket and a regular
file included, so a lock beside it is taken first; the kernel drops it with its holder, however that dies.
"""

import fcntl
import os
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
    """

    def __init__(self, path: Path) -> None:
        self._path = path
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
        if os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
            os.close(self._file)
            raise HeldError(f"{path} exists and is not a socket: move it away, or choose another --runtime-dir")

    def release(self) -> None:
        """Remove the socket file and give the lock back. The lock file stays: removing it would let two daemons hold
        locks on two files of one name."""
        if self._file >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = -1

"""One daemon per socket file: who holds it, what a dead one leaves, and what is never touched."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from supplierd.transport.lock import HeldError, SocketLock

HOLD = """
import pathlib, sys
from supplierd.transport.lock import SocketLock
lock = SocketLock(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(home: Path) -> Path:
    return home / "inbox.sock"


def test_a_second_holder_is_told_who_has_it(path: Path) -> None:
    lock = SocketLock(path)
    with pytest.raises(HeldError, match=rf"inbox\.sock is in use by supplierd, pid {os.getpid()}: stop that daemon"):
        SocketLock(path)
    lock.release()
    SocketLock(path).release()


def test_a_release_removes_the_socket_and_keeps_the_lock_file(path: Path) -> None:
    lock = SocketLock(path)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
    lock.release()
    assert not path.exists()
    assert Path(f"{path}.lock").exists()
    lock.release()  # once more does no harm


def test_a_release_leaves_what_another_daemon_has_put_there(path: Path) -> None:
    """Somebody removed the runtime directory, and started another daemon in a new one of its name."""
    lock = SocketLock(path)
    Path(f"{path}.lock").unlink()
    other = SocketLock(path)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
    lock.release()
    assert path.exists()
    other.release()
    assert not path.exists()


def test_the_lock_of_a_killed_holder_is_free_at_once(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(HeldError, match=f"pid {holder.pid}:"):
            SocketLock(path)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        SocketLock(path).release()


def test_a_socket_left_behind_is_no_obstacle(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    SocketLock(path).release()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_another_programs_socket_is_not_taken_away(path: Path, kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_UNIX, kind) as live:
        live.bind(str(path))
        if kind is socket.SOCK_STREAM:
            live.listen(0)
        with pytest.raises(HeldError, match="another program's socket, which listens there: stop that program"):
            SocketLock(path)
    assert path.is_socket()


@pytest.mark.parametrize("kind", ["file", "directory", "symlink"])
def test_what_is_no_socket_is_refused_and_left_alone(path: Path, kind: str) -> None:
    match kind:
        case "file":
            path.write_text("precious")
        case "directory":
            path.mkdir()
        case _:
            path.symlink_to("elsewhere")
    with pytest.raises(HeldError, match="exists and is not a socket: move it away"):
        SocketLock(path)
    assert os.path.lexists(path)
    if kind == "file":
        assert path.read_text() == "precious"


def test_a_lock_file_that_is_a_symlink_is_not_followed(path: Path, home: Path) -> None:
    target = home / "target"
    target.write_text("precious")
    Path(f"{path}.lock").symlink_to(target)
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        SocketLock(path)
    assert target.read_text() == "precious"

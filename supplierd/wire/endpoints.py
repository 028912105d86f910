"""Where a daemon and its clients meet when nobody says otherwise: the runtime directory and the names in it.

Both sides resolve it by the same rule, so that a client started before the daemon waits at the right place.
"""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

RUNTIME_DIR_VARIABLE = "SUPPLIERD_RUNTIME_DIR"
SYSTEM_RUNTIME_DIR = Path("/run/supplierd")
INBOX_SOCKET = "inbox.sock"
CONTROL_SOCKET = "control.sock"
BELL_SOCKET = "bell.sock"

MAX_PORT = 65535

_RANDOM_BOOT_ID = os.urandom(16)

MAX_IPC_PATH_BYTES = 107
"""sockaddr_un holds 108 bytes with the final zero."""


def ipc(path: Path) -> str:
    """The ZeroMQ endpoint of a socket file.

    Raises:
        ValueError: the path is longer than a Unix socket's address can be.
    """
    if len(os.fsencode(path)) > MAX_IPC_PATH_BYTES:
        raise ValueError(
            f"the socket path {path} has {len(os.fsencode(path))} bytes; a Unix socket's may have "
            f"{MAX_IPC_PATH_BYTES}: choose a shorter runtime directory"
        )
    return f"ipc://{path}"


def check_endpoint(endpoint: str) -> None:
    """Refuse what is no address of a daemon. Whether ZeroMQ can use it, it says itself.

    Raises:
        ValueError: it is neither a socket's path nor a host and a port.
    """
    transport, _, place = endpoint.partition("://")
    _, colon, port = place.rpartition(":")
    if transport == "ipc" and place:
        return
    if transport != "tcp" or not colon:
        raise ValueError(unusable(endpoint))
    if not re.fullmatch("0{0,9}[1-9][0-9]{0,4}", port) or int(port) > MAX_PORT:
        raise ValueError(unusable(endpoint, f"the port is a number from 1 to {MAX_PORT}"))


def unusable(endpoint: str, why: str = "") -> str:
    """What to tell people of an endpoint that is none."""
    told = f"{why}; " if why else ""
    return f"endpoint {endpoint!r} cannot be used: {told}give one like ipc:///run/supplierd/control.sock or tcp://host:port"


def inbox_endpoint(runtime_dir: Path) -> str:
    """The daemon's inbox in `runtime_dir`."""
    return ipc(runtime_dir / INBOX_SOCKET)


def control_endpoint(runtime_dir: Path) -> str:
    """The daemon's control channel in `runtime_dir`."""
    return ipc(runtime_dir / CONTROL_SOCKET)


def runtime_dir(explicit: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None) -> Path:
    """The runtime directory: `explicit`, else $SUPPLIERD_RUNTIME_DIR, else the system's where it can be used, else
    one of the user's own on tmpfs. It need not exist yet.

    Raises:
        ValueError: the value given is not an absolute path.
    """
    environ = os.environ if environ is None else environ
    chosen = os.fspath(explicit) if explicit else environ.get(RUNTIME_DIR_VARIABLE)
    if chosen:
        if not os.path.isabs(chosen):
            raise ValueError(f"the runtime directory {chosen!r} is not an absolute path: begin it with /")
        return Path(chosen)
    if _usable(SYSTEM_RUNTIME_DIR):
        return SYSTEM_RUNTIME_DIR
    return _private_dir(environ)


def _private_dir(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_RUNTIME_DIR")
    if base and os.path.isabs(base) and os.access(base, os.W_OK):
        return Path(base) / "supplierd"
    return Path(f"/dev/shm/supplierd-{os.getuid()}")


def barred(endpoint: str) -> str | None:
    """Why this user cannot reach a daemon there, and what to do about it; None: nothing bars them.

    Where `endpoint` has no socket and nobody chose its directory, the system's daemon may be the one that is meant:
    `runtime_dir` passes it over when it cannot be entered.
    """
    if not endpoint.startswith("ipc:///"):
        return None
    socket = Path(endpoint.removeprefix("ipc://"))
    meant = [socket]
    if not os.environ.get(RUNTIME_DIR_VARIABLE) and socket.parent == _private_dir(os.environ):
        meant.append(SYSTEM_RUNTIME_DIR / CONTROL_SOCKET)
    for path in meant:
        bar = path
        try:
            path.stat()
            if os.access(path, os.R_OK | os.W_OK):
                return None
        except PermissionError:
            bar = path.parent
        except OSError:
            continue  # there is none
        return f"this user may not open {path}: {_remedy(bar)}"
    return None


def _remedy(bar: Path) -> str:
    """What to do where a file or directory lets this user not in."""
    try:
        status = bar.stat()
    except OSError:  # one above it does not, either
        return "choose a runtime directory that it may enter"
    group_may = status.st_mode & (stat.S_IXGRP if stat.S_ISDIR(status.st_mode) else stat.S_IWGRP)
    if not group_may or not status.st_gid:  # root's group is nobody's to join
        return "run this as the user whose daemon it is, or give that one a runtime directory for both"
    try:
        group = bar.group()
    except (KeyError, NotImplementedError):  # it has no name here, as in a container
        group = str(status.st_gid)
    return f"sudo usermod -aG {group} USER, and log in anew"


def _usable(path: Path) -> bool:
    """Whether a daemon serves there, or this user could run one there."""
    try:
        if stat.S_ISSOCK((path / CONTROL_SOCKET).stat().st_mode):
            return True
    except OSError:
        pass
    return os.access(path if path.exists() else path.parent, os.W_OK)


def machine_boot_id() -> bytes:
    """16 bytes that name this boot of this machine, whose CLOCK_MONOTONIC a time is; random where there are none."""
    try:
        boot = bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))
    except (OSError, ValueError):
        boot = b""
    return boot if len(boot) == 16 else _RANDOM_BOOT_ID

"""A machine for tests: a real systemd as PID 1, on a throw-away overlay of this machine's own root.

Strategy: systemd-nspawn boots a tmpfs overlay (about a second, nothing to download); commands run in it with nsenter.
Rules: every write goes to the tmpfs; the units of this machine are hidden; what was started is ended by its own pid.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.support.waiting import wait_for

SETTLED: Final = ("running", "degraded")
HIDDEN: Final = ("docker", "containerd", "e2scrub_reap", "systemd-udevd", "systemd-networkd")
BOOT_SECONDS: Final = 30.0
CGROUPS: Final = [p for p in map(Path, ("/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")) if p.is_dir()] or [
    Path("/sys/fs/cgroup")
]


class RefusedError(Exception):
    """No machine can be booted here; the text says why."""


def missing() -> str:
    """Why no machine can be booted here; "" where one can."""
    if os.geteuid() != 0:
        return "booting a machine needs root"
    for program in ("systemd-nspawn", "nsenter", "systemctl"):
        if shutil.which(program) is None:
            return f"{program} is missing: apt-get install --no-install-recommends systemd-container util-linux"
    return ""


class Machine:
    """A booted machine.

    Attributes:
        root: its file system, seen from outside.
    """

    def __init__(self, root: Path, leader: int) -> None:
        self.root = root
        self._enter = ["nsenter", "--target", str(leader), "--mount", "--uts", "--ipc", "--net", "--pid", "--"]

    def run(self, *command: str, check: bool = True, timeout: float = 120.0) -> str:
        """Run a command in it; its output, both streams, without the last line's end."""
        done = subprocess.run(
            [*self._enter, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout,
            check=False, env={"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout.rstrip("\n")

    def settled(self) -> bool:
        """Whether it has booted."""
        return self.run("systemctl", "is-system-running", check=False) in SETTLED

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--property", name, "--value", unit)

    def pid(self, unit: str) -> int:
        """A service's main process, 0 for none."""
        return int(self.show(unit, "MainPID"))

    def journal(self, unit: str) -> str:
        """A unit's log."""
        return self.run("journalctl", "--unit", unit, "--no-pager", "--output", "short-monotonic")

    def write(self, path: str, text: str) -> None:
        """Write a file in it."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


@contextlib.contextmanager
def booted(base: Path) -> Iterator[Machine]:
    """Boot a machine; `base` is an empty folder for its files.

    Raises:
        RefusedError: the kernel or the container that this runs in does not allow it.
    """
    with contextlib.ExitStack() as stack:
        root = _overlay(base, stack)
        name = f"supplierd-{os.getpid()}"
        groups = [path / name for path in CGROUPS]
        for group in groups:
            _allowed(group.mkdir)
            stack.callback(_remove_groups, group)
        nspawn_command = ["systemd-nspawn", "--quiet", "--boot", f"--directory={root}", f"--machine={name}"]
        nspawn_command += ["--register=no", "--keep-unit", "--private-network", "--console=pipe", "--link-journal=no"]
        console = base / "console"
        with console.open("wb") as output:
            nspawn = subprocess.Popen(
                # its own groups, so that nothing of it stays behind or meets this machine's: a shell enters them
                ["sh", "-c", 'for file; do echo $$ > "$file"; done; exec $NSPAWN', "sh"]
                + [f"{group}/cgroup.procs" for group in groups],
                env={**os.environ, "NSPAWN": " ".join(nspawn_command)},
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        leader = _leader(nspawn, console)
        stack.callback(_power_off, nspawn, leader)
        machine = Machine(root, leader)
        wait_for(machine.settled, f"the machine to boot; its console is {console}", BOOT_SECONDS)
        yield machine


def _overlay(base: Path, stack: contextlib.ExitStack) -> Path:
    _mount(stack, "tmpfs", base, "tmpfs", "size=1500m")
    upper, work, root = (base / name for name in ("upper", "work", "root"))
    for folder in (upper, work, root):
        folder.mkdir()
    _mount(stack, "overlay", root, "overlay", f"lowerdir=/,upperdir={upper},workdir={work}")
    units = root / "etc/systemd/system"
    for folder in units.glob("*.wants"):
        shutil.rmtree(folder)
    for unit in units.glob("*.service"):
        unit.unlink()
    for name in HIDDEN:
        (units / f"{name}.service").symlink_to("/dev/null")
    (units / "default.target").unlink(missing_ok=True)
    (units / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
    (root / "etc/fstab").write_text("")
    return root


def _mount(stack: contextlib.ExitStack, source: str, target: Path, kind: str, options: str) -> None:
    _allowed(lambda: _checked(_libc.mount(source.encode(), bytes(target), kind.encode(), 0, options.encode())))
    stack.callback(lambda: _checked(_libc.umount2(bytes(target), 2)))  # MNT_DETACH: the machine may be ending still


_libc = ctypes.CDLL(None, use_errno=True)


def _checked(status: int) -> None:
    if status:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _allowed(action: Callable[[], object]) -> None:
    try:
        action()
    except OSError as error:
        raise RefusedError(f"this machine does not allow it: {error}") from error


def _leader(nspawn: subprocess.Popen[bytes], console: Path) -> int:
    """The pid of the machine's own PID 1."""
    children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children")
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline and nspawn.poll() is None:
        with contextlib.suppress(OSError):
            for child in children.read_text().split():
                if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    return int(child)
        time.sleep(0.05)
    if nspawn.poll() is None:
        nspawn.kill()
    raise RefusedError(f"systemd-nspawn does not boot here: {console.read_text(errors='replace')[-500:]}")


def _power_off(nspawn: subprocess.Popen[bytes], leader: int) -> None:
    os.kill(leader, signal.SIGRTMIN + 4)  # poweroff.target, to the machine's PID 1
    try:
        nspawn.wait(20)
    except subprocess.TimeoutExpired:
        os.kill(leader, signal.SIGKILL)
        nspawn.wait(10)


def _remove_groups(group: Path) -> None:
    for folder in sorted(group.rglob("*"), reverse=True):
        if folder.is_dir():
            with contextlib.suppress(OSError):
                folder.rmdir()
    with contextlib.suppress(OSError):
        group.rmdir()

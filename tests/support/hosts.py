"""A world of one's own: mounts, and another host behind a cable that can be slow or fail.

A program starts itself anew by `unshare` with mounts, processes and a network of its own, so that nothing outlives it
however it ends, and the machine's network is not touched. The other host is one more network namespace, held open by a
process.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.waiting import wait_for

TOOLS: Final = ("unshare", "nsenter", "mount", "ip", "tc")
APART: Final = "SUPPLIERD_TEST_APART"
"""Set in the environment of a program that has a world of its own."""
HERE: Final = "10.231.7.1"
THERE: Final = "10.231.7.2"
APARTNESS: Final = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--")
NOBODY: Final = "02:00:00:00:00:01"
"""A hardware address that no interface has: what is sent there is lost in silence."""


def why_not() -> str:
    """What is missing for a world of one's own; "" where there can be one."""
    if os.geteuid() != 0:
        return "network namespaces and mounts need root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: util-linux, mount, iproute2)"
    done = subprocess.run([*APARTNESS, "true"], check=False, capture_output=True, text=True)
    return f"no namespaces here: {done.stderr.strip()}" if done.returncode else ""


def go_apart(arguments: Sequence[str]) -> None:
    """Start this program anew, by Python with these arguments, in a world of its own, unless it is in one."""
    if os.environ.pop(APART, None) is None:
        command = [*APARTNESS, sys.executable, *arguments]
        os.execvpe(command[0], command, {**os.environ, APART: "yes"})
    run("ip", "link", "set", "lo", "up")


def run(*command: object) -> None:
    """Run a command. Raises RuntimeError with what it said, if it fails."""
    done = subprocess.run([*map(str, command)], check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.returncode}")


def mount_tmpfs(place: Path, size: int) -> None:
    """A tmpfs of `size` bytes at a directory."""
    run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0750", "supplierd-test", place)


class Cable:
    """Another host, and the cable to it."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
        pid = self._holder.pid
        ours = os.readlink("/proc/self/ns/net")
        wait_for(lambda: os.readlink(f"/proc/{pid}/ns/net") != ours, "another network")
        self.there = ["nsenter", f"--net=/proc/{pid}/ns/net", "--"]
        self._ends: tuple[tuple[list[str], str, str, str], ...] = (
            ([], "near", HERE, THERE),
            (self.there, "far", THERE, HERE),
        )
        run("ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", pid)
        for at, device, address, _ in self._ends:
            run(*at, "ip", "address", "add", f"{address}/24", "dev", device)
            for each in ("lo", device):
                run(*at, "ip", "link", "set", each, "up")

    def cut(self) -> None:
        """Lose every packet in both directions; neither end is told."""
        for at, device, _, other in self._ends:
            if shutil.which("iptables"):
                run(*at, "iptables", "-A", "INPUT", "-i", device, "-j", "DROP")
            else:
                run(*at, "ip", "neigh", "replace", other, "lladdr", NOBODY, "nud", "permanent", "dev", device)

    def mend(self) -> None:
        """Lose nothing more."""
        for at, device, _, other in self._ends:
            if shutil.which("iptables"):
                run(*at, "iptables", "-D", "INPUT", "-i", device, "-j", "DROP")
            else:
                run(*at, "ip", "neigh", "del", other, "dev", device)

    def narrow(self, rate: str = "1mbit") -> None:
        """Let through no more than this in each direction. `latency` bounds what waits in the interface."""
        for at, device, _, _ in self._ends:
            run(
                *at, "tc", "qdisc", "add", "dev", device, "root", "tbf", "rate", rate, "burst", "8k", "latency", "400ms"
            )

    def widen(self) -> None:
        """Let everything through again."""
        for at, device, _, _ in self._ends:
            run(*at, "tc", "qdisc", "del", "dev", device, "root")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._holder.stdin is not None
        self._holder.stdin.close()
        self._holder.wait()

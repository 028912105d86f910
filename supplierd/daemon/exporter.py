"""The Prometheus endpoint, in a process of its own: the daemon's handle on it.

Rendering a scrape takes tens of milliseconds of Python. In a thread of the daemon it would hold the interpreter's lock
against the loop at every send; here it costs the loop one snapshot. The daemon binds the address and hands the socket
over, so that an address in use is an error at its start; the process (metrics_server.py) asks over the control channel
like any monitor, and ends when its standard input does: with the daemon, however that dies.
"""

import os
import socket
import subprocess
import sys
from typing import Final

from supplierd.daemon.https import OPEN, OPTIONS, Protection

BACKLOG: Final = 16
RESTART_AFTER: Final = 1.0
LOOK_EVERY: Final = 0.25
"""Seconds between two looks whether it runs: the loop turns for every demand, and a look is a system call."""
SERVER: Final = "supplierd.daemon.metrics_server"


class Exporter:
    """The daemon's handle on the exporter process.

    Args:
        address: host and port of /metrics.
        control_endpoint: where the exporter asks for snapshots.
        protection: TLS and passwords.

    Raises:
        OSError: the address cannot be bound.
        ValueError: a file of the protection cannot be used.
    """

    def __init__(self, address: tuple[str, int], control_endpoint: str, protection: Protection = OPEN) -> None:
        protection.users()
        self.scheme = "http" if protection.tls() is None else "https"
        self._protection = protection
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._listener = socket.create_server(address, family=family, backlog=BACKLOG)
        self._control_endpoint = control_endpoint
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = self._looked_at = float("-inf")

    @property
    def port(self) -> int:
        """The port bound."""
        return int(self._listener.getsockname()[1])

    def keep_running(self, now: float) -> int | None:
        """Start the process, or start it again; the exit status of one that has ended since the last call."""
        if now - self._looked_at < LOOK_EVERY:
            return None
        self._looked_at = now
        ended = self._process.poll() if self._process else None
        if self._process is None or ended is not None:
            if now - self._started_at < RESTART_AFTER:
                return None
            self._started_at = now
            descriptor = self._listener.fileno()
            command = [sys.executable, "-m", SERVER]
            command += ["--fd", str(descriptor), "--control", self._control_endpoint, "--daemon-pid", str(os.getpid())]
            for option, path in zip(OPTIONS, self._protection, strict=True):
                command += [option, str(path)] if path is not None else []
            # A group of its own: Ctrl-C on a terminal is for the daemon alone, which then ends this process.
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[descriptor], process_group=0)
        return ended

    def stop(self) -> None:
        """End the process and free the address."""
        self._listener.close()
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.kill()
            self._process.wait()

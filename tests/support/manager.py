"""Systemd's end of the line: what a service tells it, and what it sets in a service's environment."""

import socket
from pathlib import Path


class Manager:
    """Systemd's end of the line."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(str(path))
        self.path = path
        self._heard: list[str] = []

    def heard(self) -> list[str]:
        """Everything said so far."""
        while True:
            try:
                self._heard.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return list(self._heard)

    def environ(self, watchdog: float | None = None, pid: int | None = None) -> dict[str, str]:
        """What systemd sets for a service."""
        environ = {"NOTIFY_SOCKET": str(self.path)}
        if watchdog is not None:
            environ["WATCHDOG_USEC"] = str(round(watchdog * 1e6))
        if pid is not None:
            environ["WATCHDOG_PID"] = str(pid)
        return environ

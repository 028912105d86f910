"""What a service tells systemd: that it is ready, alive, what it does, and that it stops (sd_notify(3), stdlib only).

Strategy: one datagram per message to $NOTIFY_SOCKET, never waiting; what cannot be sent is left unsaid, since nobody
who hands out frames may fail for want of a listener. Rules: nothing is sent without $NOTIFY_SOCKET, or where
$WATCHDOG_PID names another process (a child that inherited the environment); `alive` may be called at any rate.
"""

import math
import os
import socket
from collections.abc import Mapping
from typing import Final

SIGNS_PER_PERIOD: Final = 4
"""Signs of life per WatchdogSec: three may be lost, or late on a busy machine, before a restart."""


class Notifier:
    """One process's line to its service manager. Two threads that call `alive` at once may send a sign too many.

    Args:
        environ: default: the process's environment.

    Attributes:
        interval: seconds between two signs of life, a quarter of WatchdogSec; infinite where nobody watches.
        next_at: when the next one is due: seconds, of the clock that `alive` is called with.
        is_ready: whether `ready` was called.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        watched = environ.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
        self._address = _address(environ.get("NOTIFY_SOCKET", "")) if watched else None
        period = environ.get("WATCHDOG_USEC", "")
        watchdog = self._address is not None and period.isdecimal() and int(period) > 0
        self.interval = int(period) / 1e6 / SIGNS_PER_PERIOD if watchdog else math.inf
        self.next_at = -math.inf if watchdog else math.inf
        self.is_ready = False
        self._status = ""

    def ready(self) -> None:
        """The service does its work from now on. Only the first call says so."""
        if not self.is_ready:
            self.is_ready = True
            self._send("READY=1")

    def alive(self, now: float) -> None:
        """A sign of life, where one is due. `now`: seconds, monotonic."""
        if now >= self.next_at:
            self.next_at = now + self.interval
            self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; sent where it differs from the last one."""
        if text != self._status:
            self._status = text
            self._send("STATUS=" + text.replace("\n", " "))

    def stopping(self) -> None:
        """The service has begun to stop."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as line:
                line.sendto(message.encode(), self._address)
        except OSError:
            pass  # the manager's queue is full, or it is gone


def _address(name: str) -> str | None:
    """The socket's address; None for none, or one that is not a Unix socket's."""
    if name.startswith("@"):
        return "\0" + name[1:]  # the abstract namespace
    return name if name.startswith("/") else None

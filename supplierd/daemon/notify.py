"""The daemon's word to systemd, from its loop's own turn.

A thread that only says "alive" would hide a loop that hangs; so the loop itself says it, and systemd restarts one that
does not.
"""

from collections import Counter
from typing import Final

from supplierd.core.supplier import Supplier
from supplierd.core.worker import State
from supplierd.notify import Notifier

STATUS_INTERVAL: Final = 5.0
"""Seconds between two looks at what `systemctl status` shows."""


class Reporter:
    """Tells systemd how the daemon is.

    Args:
        supplier: whose streams and workers are told.
        notifier: the line; default: this process's.
    """

    def __init__(self, supplier: Supplier, notifier: Notifier | None = None) -> None:
        self._supplier = supplier
        self._notifier = notifier or Notifier()
        self._told_at = float("-inf")

    def ready(self) -> None:
        """All sockets are bound."""
        self._notifier.ready()

    def turned(self, now: float) -> None:
        """The loop has made a turn. `now`: seconds, monotonic."""
        self._notifier.alive(now)
        if now - self._told_at >= STATUS_INTERVAL:
            self._told_at = now
            self._notifier.status(status(self._supplier, now))

    def stopping(self) -> None:
        """The loop has ended."""
        self._notifier.stopping()


def status(supplier: Supplier, now: float) -> str:
    """One line, such as `2 streams, 1 silent; 3 workers: 1 waiting, 1 busy, 1 gone`."""
    timeout = supplier.settings.stream_timeout
    streams = supplier.streams.values()
    silent = sum(stream.last_frame_at is None or now - stream.last_frame_at >= timeout for stream in streams)
    states = Counter(worker.state for worker in supplier.workers.values())
    workers = ", ".join(f"{states[state]} {state.value}" for state in State if states[state])
    return (
        _count(len(streams), "stream")
        + (f", {silent} silent" if silent else "")
        + f"; {_count(states.total(), 'worker')}"
        + (f": {workers}" if workers else "")
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

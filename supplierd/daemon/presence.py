"""Whether the daemon's sockets are still where clients look for them.

What cleans up directories, or the end of a login session, may remove them under a daemon that runs on. Its peers notice
nothing, as their connections stay; whoever comes later finds nobody.
"""

import logging
from collections.abc import Sequence
from typing import Final

from supplierd.logs import event
from supplierd.transport.lock import SocketLock

LOOK_INTERVAL: Final = 5.0
"""Seconds between two looks."""
REMIND_INTERVAL: Final = 600.0
"""Seconds after which a log line is written again: it may have been rotated away."""

log = logging.getLogger("supplierd.daemon")


class Presence:
    """Looks after the files of sockets.

    Args:
        locks: theirs. A lock file stays while its daemon lives, where a socket that is bound anew is away for a moment.
    """

    def __init__(self, locks: Sequence[SocketLock]) -> None:
        self._locks = locks
        self._looked_at = self._told_at = float("-inf")
        self._missing: list[str] = []

    def look(self, now: float) -> None:
        """Log which of them are gone, when that changes and as a reminder. `now`: seconds, monotonic."""
        if now - self._looked_at < LOOK_INTERVAL:
            return
        self._looked_at = now
        missing = [str(lock.path) for lock in self._locks if not lock.holds()]
        if missing and (missing != self._missing or now - self._told_at >= REMIND_INTERVAL):
            self._told_at = now
            text = "files were removed under the daemon: who is connected goes on, others do not find it: restart it"
            event(log, logging.ERROR, text, sockets=",".join(missing))
        self._missing = missing

"""How busy the machine is with what is none of a test's business: figures taken then say nothing about supplierd."""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

QUIET: Final = 0.25
"""Cores that others may use while something is measured."""

_TICK: Final = 1.0 / os.sysconf("SC_CLK_TCK")


class Others:
    """Counts the time that processes other than the given ones and this one have on the cores, from its making on."""

    def __init__(self, own: Iterable[int]) -> None:
        self._own = [os.getpid(), *own]
        self._began = time.monotonic()
        self._before = self._seconds()

    def cores(self) -> float:
        """How many cores the others used on average."""
        return (self._seconds() - self._before) / (time.monotonic() - self._began)

    def _seconds(self) -> float:
        user, nice, system, _, _, interrupt, soft, steal, *_ = Path("/proc/stat").read_text().split()[1:]
        everybody = sum(map(int, (user, nice, system, interrupt, soft, steal)))
        ours = 0
        for pid in self._own:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ours += int(fields[11]) + int(fields[12])
        return (everybody - ours) * _TICK

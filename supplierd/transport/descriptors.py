"""How near the process is to its limit of open files.

Out of descriptors, libzmq's ipc listener aborts the process. So the daemon must act while it still has a reserve.
"""

import os
import resource
from typing import Final

MAX_RESERVE: Final = 4096
"""Descriptors that are kept free where the limit is high. libzmq accepts no more while 2,000 events of a listener lie
unread (measured), and the loop counts descriptors whenever it reads some: so a flood takes at most 2,000 through each
listener before it is noticed, and from a limit of some 8,400 on the reserve outlasts it. Below, a fast one may win."""
_OPEN: Final = "/proc/self/fd"


class Descriptors:
    """The descriptors of this process.

    Attributes:
        limit: of open files, as of the last look: somebody may change it while the process runs.
        short: whether fewer than the reserve, a quarter of the limit, are free.
    """

    def __init__(self) -> None:
        self.limit = _limit()
        self.short = False

    def look(self) -> bool:
        """Count, and say whether they are short: until some have become free beyond the reserve."""
        self.limit = _limit()
        reserve = min(self.limit // 4, MAX_RESERVE)
        most = self.limit - reserve
        self.short = _count() > (most - reserve // 4 if self.short else most)
        return self.short


def _limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _count() -> int:
    """Open descriptors: in Linux 6.2 and newer the size of the directory, elsewhere its entries."""
    return os.stat(_OPEN).st_size or len(os.listdir(_OPEN))

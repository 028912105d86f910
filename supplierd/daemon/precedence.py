"""The loop's place among the threads of its machine: who runs first when somebody wakes it.

Busy workers must not hold the loop up. So it has priority, and the kernel lets it run as soon as it is woken, in the
place of whoever runs there. Where nothing else is to be done, that is dear: a publisher that waits for its core with
the last microseconds of its `publish` left makes that core look busy, and the one worker that the loop then wakes is
put on another core, which has to be woken itself. So the loop gives way while each frame goes to one worker and no core
is wanted by others: as a batch thread (SCHED_BATCH, sched(7)) it runs when its waker sleeps, as publishers do at once.
(docs/adr/0019-giving-way.md)
"""

import math
import os
from contextlib import suppress
from typing import Final

NICENESS: Final = -10
"""Before workers that fill the cores: with 64 of them on 2 cores the median distribution fell from 2.1 to 1.1 ms."""
LATE: Final = 0.3
"""Milliseconds that the loop may have waited for a core since the frame before: beyond it others want the cores."""
OFTEN_LATE: Final = 0.1
"""The same of the last frames on average, some eight of them: beyond it wakers have more to do, and what is gained is
lost again. It is 5 µs where they sleep at once."""
INSISTS: Final = 5.0
"""Seconds for which the loop then gives no way; twice as long each time when it has not gone well for as long since.
To try again costs a frame, on a machine that is still busy, what the kernel lets the others run: at most one of its
ticks (4 ms at 250 Hz)."""
INSISTS_AT_MOST: Final = 80.0
SCHEDSTAT: Final = "/proc/thread-self/schedstat"


class Precedence:
    """That of the thread that calls.

    Args:
        schedstat: the kernel's account of this thread: time on a core, time waited for one (both in ns), and how often
            it ran. Where there is none, the loop never gives way.
    """

    def __init__(self, schedstat: str = SCHEDSTAT) -> None:
        self._schedstat = schedstat
        self._file = -1
        self._gives_way = False
        self._waited = 0
        self._usually_late = 0.0
        self._insists_until = self._insisted_for = self._gives_way_since = 0.0

    @staticmethod
    def go_first() -> None:
        """Raise the priority, where that is permitted: the loop takes little, and its delays are everybody's. libzmq's
        threads, begun after this, inherit it."""
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, min(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))

    def served(self, deliveries: int, now: float) -> None:
        """A frame has gone out to so many workers, at a time (CLOCK_MONOTONIC, seconds): give way to wakers, or not."""
        if now < self._insists_until:
            return
        if deliveries > 1:
            self._insist(now)
        elif self._gives_way:
            waited = self._waited_for_cores()
            late = waited - self._waited
            self._usually_late += (late - self._usually_late) / 8
            if not 0 <= late <= LATE * 1e6 or self._usually_late > OFTEN_LATE * 1e6:
                self._insist(now)
            self._waited = waited
        elif deliveries:
            self._give_way(now)

    def close(self) -> None:
        """Leave the thread as it was found."""
        self._take_precedence()
        self._insists_until = math.inf
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _give_way(self, now: float) -> None:
        try:
            if self._file < 0:
                self._file = os.open(self._schedstat, os.O_RDONLY | os.O_CLOEXEC)
            self._waited = self._waited_for_cores()
            if self._waited >= 0 and os.sched_getscheduler(0) == os.SCHED_OTHER:  # else somebody has chosen otherwise
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
                self._gives_way, self._gives_way_since, self._usually_late = True, now, 0.0
        except OSError:
            pass
        if not self._gives_way:
            self._insist(now)

    def _insist(self, now: float) -> None:
        went_well = now - self._gives_way_since >= self._insisted_for
        self._insisted_for = INSISTS if went_well else min(2 * self._insisted_for, INSISTS_AT_MOST)
        self._insists_until = now + self._insisted_for
        self._take_precedence()

    def _take_precedence(self) -> None:
        if self._gives_way:
            self._gives_way = False
            with suppress(OSError):
                if os.sched_getscheduler(0) == os.SCHED_BATCH:  # as above
                    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))

    def _waited_for_cores(self) -> int:
        """Nanoseconds so far; -1 where the kernel keeps no account."""
        try:
            _, waited, ran = os.pread(self._file, 64, 0).split()
            return int(waited) if int(ran) else -1
        except (OSError, ValueError):
            return -1

"""How often the exporter renders: never for more than a share of a core, whoever scrapes how fast.

Whoever asks meanwhile waits, and all who wait get one answer, which is made after they asked: a scrape may come late,
but never with old numbers.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

Answer = tuple[bytes, str]

SHARE: Final = 0.01
"""Of a core: so few frames meet a rendering that the 99th percentile of their age does not show it. A tenth raised it
by half (`make bench-scraping`)."""
LONGEST_PERIOD: Final = 0.9
"""Seconds from one rendering to the next, whatever it takes (50 ms with 64 workers): the shortest scrape interval in
use is a second, and is kept."""


class Paced:
    """Calls `make` with rests.

    Args:
        make: gives the answer to an Accept header; what it raises, the caller gets, and the next one asks anew.
        clock: seconds, monotonic.
        used: CPU seconds of the calling thread.
        rest: waits for so many seconds.
    """

    def __init__(
        self,
        make: Callable[[str | None], Answer],
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.thread_time,
        rest: Callable[[float], object] = time.sleep,
    ) -> None:
        self._make, self._clock, self._used, self._rest = make, clock, used, rest
        self._lock = threading.Lock()
        self._last: tuple[str | None, float, Answer] | None = None  # for which header, begun when, and what it was
        self._free_at = float("-inf")

    def __call__(self, accept: str | None) -> Answer:
        """An answer that is made after this call. Raises as `make` does."""
        asked = self._clock()
        with self._lock:
            if self._last is not None and self._last[0] == accept and self._last[1] >= asked:
                return self._last[2]
            self._rest(max(0.0, self._free_at - self._clock()))
            began, used = self._clock(), self._used()
            answer = self._make(accept)
            self._free_at = began + min((self._used() - used) / SHARE, LONGEST_PERIOD)
            self._last = accept, began, answer
            return answer

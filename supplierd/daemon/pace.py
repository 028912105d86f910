"""How often the exporter renders: for a share of a core, whoever scrapes how fast.

Whoever asks meanwhile waits, and all who wait for one format get one answer, which is made after they asked: a scrape
may come late, but never with old numbers.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

Answer = tuple[bytes, str]

SHARE: Final = 0.005
"""Of a core, for each format: so few frames meet a rendering that the 99th percentile of their age does not show it. A
tenth raised it by half, a hundredth by up to a third (`make bench-scraping`)."""
LONGEST_PERIOD: Final = 0.9
"""Seconds from one rendering to the next, whatever it takes (50 ms with 64 workers): the shortest scrape interval in
use is a second, and is kept."""
LONGEST_WAIT: Final = 10.0
"""Seconds after which somebody who waits is sent away: Prometheus's own limit, by default."""
FORMATS: Final = 8
"""That are remembered; there are a few, but a client can ask for a version of its own."""


class BusyError(Exception):
    """Others have asked for so long that there is no answer in time."""


class Paced:
    """Calls `make` with rests.

    Args:
        make: gives the answer to an Accept header; what it raises, the caller gets, and the next one asks anew.
        kind: the content type that the answer will have.
        clock: seconds, monotonic.
        used: CPU seconds of the calling thread.
        rest: waits for so many seconds.
    """

    def __init__(
        self,
        make: Callable[[str | None], Answer],
        kind: Callable[[str | None], str],
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.thread_time,
        rest: Callable[[float], object] = time.sleep,
    ) -> None:
        self._make, self._kind = make, kind
        self._clock, self._used, self._rest = clock, used, rest
        self._lock = threading.Lock()
        self._queues: dict[str, _Queue] = {}

    def __call__(self, accept: str | None) -> Answer:
        """An answer that is made after this call.

        Raises:
            BusyError: it would come too late; and whatever `make` does.
        """
        asked, kind = self._clock(), self._kind(accept)
        with self._lock:
            if kind not in self._queues and len(self._queues) >= FORMATS:
                self._queues.clear()
            queue = self._queues.setdefault(kind, _Queue())
        if not queue.lock.acquire(timeout=LONGEST_WAIT):
            raise BusyError(f"too many scrapes at once: no answer within {LONGEST_WAIT:g} s; scrape less often")
        try:
            if queue.answer is None or queue.began < asked:
                self._rest(max(0.0, queue.free_at - self._clock()))
                began, used = self._clock(), self._used()
                queue.answer = self._make(accept)
                queue.began = began
                queue.free_at = began + min((self._used() - used) / SHARE, LONGEST_PERIOD)
            return queue.answer
        finally:
            queue.lock.release()


class _Queue:
    """Those who wait for one format."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.answer: Answer | None = None
        self.began = self.free_at = float("-inf")  # when the answer was begun, and when the next one may be

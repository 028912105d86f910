"""Counts in fixed buckets: one bisection and two additions per observation."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, NamedTuple

AGE_BOUNDS: Final = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
)  # fmt: skip
"""Seconds; from a frame in shared memory (under 1 ms) over a frame interval (33 ms) to a stopped worker."""
PROCESSING_BOUNDS: Final = (0.001, 0.005, 0.01, 0.02, 0.035, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds; from an image filter to a vision-language model."""
DISTRIBUTION_BOUNDS: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.1, 0.5)
"""Seconds; the promise is 1 ms for 64 workers, the interval of a 30 fps stream is 33 ms."""


class HistogramSnapshot(NamedTuple):
    """Observations by bucket: `counts[i]` were at most `bounds[i]` (and above the one before), the last above all."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    def quantile(self, q: float) -> float | None:
        """The `q`-quantile (0 to 1), interpolated within its bucket; None without observations."""
        total, below = sum(self.counts), 0
        if not total:
            return None
        rank = q * total
        for i, n in enumerate(self.counts):
            if n and below + n >= rank:
                if i == len(self.bounds):
                    return self.bounds[-1]
                low = self.bounds[i - 1] if i else 0.0
                return low + (self.bounds[i] - low) * (rank - below) / n
            below += n
        return self.bounds[-1]


class Histogram:
    """A histogram that is being filled."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value; negative ones (a clock behind another) count as 0."""
        value = max(value, 0.0)
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def snapshot(self) -> HistogramSnapshot:
        """What was counted so far."""
        return HistogramSnapshot(self.bounds, tuple(self.counts), self.total)

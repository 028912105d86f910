"""Stand-ins for FFmpeg, the clock and the publisher: what a source decodes is scripted, and waiting moves the clock."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import numpy as np

Connection = Sequence[float | Exception]
"""What one opening of a source gives: presentation times of frames in seconds, and at last an error or the end."""


def picture(pts: float | None = None) -> av.VideoFrame:
    """Return a small decoded frame with presentation time `pts` in seconds."""
    frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24").reformat(format="yuv420p")
    if pts is not None:
        frame.time_base = Fraction(1, 1000)
        frame.pts = round(pts * 1000)
    return frame


class Clock:
    """A monotonic clock that stands still but for `wait`; `stop_after` waits it says that the source was closed."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.now = 1000.0
        self.waits: list[float] = []
        self._stop_after = stop_after

    def read(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        return self._stop_after is not None and len(self.waits) >= self._stop_after


def decoder(
    connections: Sequence[Connection], on_frame: Callable[[], object] = lambda: None
) -> Callable[[str], Generator[av.VideoFrame, None, None]]:
    """Return a stand-in for `decode` that plays `connections` one after another and `on_frame` before each frame, which
    may say when that was there."""
    remaining = iter(connections)

    def decode(_: str) -> Generator[av.VideoFrame, None, None]:
        for step in next(remaining):
            if isinstance(step, Exception):
                raise step
            there = on_frame()
            frame = picture(step)
            frame.opaque = there
            yield frame

    return decode


@dataclass
class FakeLoan:
    """A slot that was lent: counts as abandoned until it is published."""

    array: Any
    released: bool = False

    def release(self) -> None:
        self.released = True


@dataclass
class FakePublisher:
    """Keeps what was published; lends arrays."""

    published: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)
    loans: list[FakeLoan] = field(default_factory=list)

    def loan(self, shape: tuple[int, ...], dtype: Any) -> FakeLoan:
        self.loans.append(FakeLoan(np.zeros(shape, dtype)))
        return self.loans[-1]

    def publish(self, payload: Any, **rest: Any) -> int:
        self.published.append((payload, rest))
        return len(self.published)

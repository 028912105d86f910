"""The work: what is published, at which pace, to whom. The same for every system."""

from dataclasses import dataclass
from random import Random
from typing import Final

JPEG: Final = (100_000,)
"""Bytes like those of a JPEG picture of 1080p."""
FULL_HD: Final = (1080, 1920, 3)
FPS: Final = 30.0
SLOW: Final = 0.2
"""Seconds that the slow worker takes for a frame, give or take half an interval: they are six intervals to the
millisecond, so that the age of all its frames would be the chance of its first."""


@dataclass(frozen=True)
class Work:
    """One column of the comparison.

    Attributes:
        name, title: for the command line; for people.
        shape: of a frame of bytes.
        workers: how many processes.
        fps: frames a second; of `rates`: where to begin.
        slow: whether worker 0 takes SLOW for a frame.
        stopped: whether worker 1 is stopped for 3 s afterwards.
        highest: not a steady pace: look for the highest one that holds, in the first round only.
    """

    name: str
    title: str
    shape: tuple[int, ...]
    workers: int
    fps: float = FPS
    slow: bool = False
    stopped: bool = False
    highest: bool = False

    @property
    def pauses(self) -> list[float]:
        """Seconds that each worker takes for a frame, in the middle."""
        return [SLOW if self.slow and not index else 0.0 for index in range(self.workers)]


def pause(middle: float, chance: Random) -> float:
    """Seconds for one frame."""
    return middle + chance.uniform(-0.5, 0.5) / FPS


def steady(kind: str, shape: tuple[int, ...], workers: int) -> Work:
    """FPS to so many workers."""
    what = {"jpeg": "100 KB", "raw": "1080p raw"}[kind]
    return Work(f"{kind}-{workers}", f"{what} to {workers}", shape, workers)


WORKS: Final[dict[str, Work]] = {
    work.name: work
    for work in (
        *(steady("jpeg", JPEG, workers) for workers in (1, 8, 32, 64)),
        *(steady("raw", FULL_HD, workers) for workers in (1, 8)),
        Work("jpeg-mixed", "100 KB, one slow, one stopped", JPEG, 4, slow=True, stopped=True),
        Work("raw-mixed", "1080p raw, one slow, one stopped", FULL_HD, 4, slow=True, stopped=True),
        Work("jpeg-rate", "100 KB to 4, highest rate", JPEG, 4, fps=125.0, highest=True),
        Work("raw-rate", "1080p raw to 4, highest rate", FULL_HD, 4, fps=20.0, highest=True),
    )
}

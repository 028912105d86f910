"""When a frame is due, and how long to wait before the next try: the arithmetic of the capture client.

Strategy: small pure classes; `now` is a monotonic clock's reading in seconds and always an argument.
Rules: no clock, no thread, no I/O; due times are sums from one anchor, so that rounding never adds up to a drift.
"""

from __future__ import annotations

from collections.abc import Callable

DEFAULT_INTERVAL = 1 / 25  # until a file's second frame has shown its own
RESYNC_SECONDS = 0.5  # later than this is no hiccup: the file's timeline moves instead of skipping for ever
GAP_SECONDS = 10.0  # a longer one between two frames of a file is a fault of its time stamps: nobody waits
EARLY_SECONDS = 0.01  # frames arrive with jitter, and of 25 frames a second 25 shall pass
FIRST_DELAY, LONGEST_DELAY = 0.5, 8.0  # a camera that reboots needs half a minute: 8 s finds it soon after
JITTER = 0.25  # cameras of one switch come back together: spread their clients
HEALTHY_SECONDS = 5.0  # a connection that delivers for so long was a good one: begin again with the first delay


class FilePacer:
    """Places a file's frames on the monotonic clock by their presentation times.

    The first frame is due at once and anchors the file's timeline. A presentation time that is missing, or not later
    than the one before it (a file that begins anew), continues one frame's interval after its predecessor. No frame
    comes later than GAP_SECONDS after its predecessor.
    """

    def __init__(self) -> None:
        self.resyncs = 0
        """How often the timeline was moved because a frame was more than `RESYNC_SECONDS` late."""
        self._interval = DEFAULT_INTERVAL
        self._pts: float | None = None
        self._offset = 0.0  # from presentation time to the clock: due = pts + offset
        self._due: float | None = None

    def due(self, pts: float | None, now: float) -> float | None:
        """Return when this frame is due, or None if it is to be skipped because its successor is due already.

        `pts` is the frame's presentation time in seconds, `now` the current time.
        """
        follows = now if self._due is None else self._due + self._interval
        if pts is None:
            pts = follows - self._offset
        elif self._pts is None or pts <= self._pts:
            self._offset = follows - pts
        else:
            self._interval = min(pts - self._pts, GAP_SECONDS)
            self._offset -= pts - self._pts - self._interval
        self._pts = pts
        self._due = pts + self._offset
        late = now - self._due
        if late > RESYNC_SECONDS:
            self.resyncs += 1
            self._offset += late
            self._due = now
        elif late > self._interval:
            return None
        return self._due


class RateLimit:
    """Thins frames to at most `fps` a second, evenly: `accepts` says whether to take the one of this moment."""

    def __init__(self, fps: float | None) -> None:
        self._interval = 1.0 / fps if fps else 0.0
        self._next = float("-inf")

    def accepts(self, at: float) -> bool:
        """Say whether the frame of time `at` (seconds, never decreasing) is one of the wanted ones."""
        if at < self._next - min(EARLY_SECONDS, self._interval / 4):
            return False
        if at > self._next + self._interval:
            self._next = at
        self._next += self._interval
        return True


class Backoff:
    """The delays between attempts to reach a live source: doubling from 0.5 s to 8 s, each with up to 25 % jitter."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._attempt = 0
        self._since: float | None = None
        self._until = 0.0

    def frame(self, now: float) -> None:
        """Note that the connection delivered a frame."""
        self._since = now if self._since is None else self._since
        self._until = now

    def failure(self) -> float:
        """Note that the connection failed, or was never made; return the seconds to wait before the next attempt."""
        if self._since is not None and self._until - self._since >= HEALTHY_SECONDS:
            self._attempt = 0
        self._since = None
        delay = min(FIRST_DELAY * 2.0**self._attempt, LONGEST_DELAY)
        self._attempt += delay < LONGEST_DELAY
        return delay * (1.0 + JITTER * self._random())


class LogLimit:
    """Counts a repeating event and lets one report of it through in a second."""

    def __init__(self) -> None:
        self._count = 0
        self._next = float("-inf")

    def count(self, now: float) -> int:
        """Note one event; return how many to report now (all since the last report), or 0 to keep silent."""
        self._count += 1
        if now < self._next:
            return 0
        self._next = now + 1.0
        reported, self._count = self._count, 0
        return reported

"""One overwrite slot per (worker, stream): the newest frame that the worker has not taken, and the one under way.

Rules: a newer frame replaces the pending one and never waits behind it; at most one frame is under way; every frame
that enters is in exactly one place or one count of the ledger. With a target rate, a frame that arrives before the
next one is due is not owed: replaced, it counts as decimated; owed and replaced, as overwritten (dropped). Nor is a
frame owed that was there before its worker: refused as too old, it counts as decimated.
"""

from collections import deque
from typing import Final, NamedTuple

from supplierd.core.histogram import AGE_BOUNDS, Histogram
from supplierd.core.ledger import MailboxLedger
from supplierd.core.stream import Frame, Stream

UNSEEN: Final = ("lost", "disconnected", "unreadable")
"""Ends of a frame that leave its worker without it: when that joins anew, it is given the frame if none is newer."""


class Report(NamedTuple):
    """A worker's word on the frame it got last.

    Attributes:
        stream, epoch, seq: which frame.
        outcome: "consumed", or a reason of ledger.REPORTED_REASONS.
        age: seconds from capture to hand-over.
        processing: seconds from hand-over to the worker's next demand.
    """

    stream: str
    epoch: int
    seq: int
    outcome: str
    age: float = 0.0
    processing: float = 0.0


class Mailbox:
    """The mailbox of one worker for one stream. The worker's supplier owns it and calls it in order of time."""

    __slots__ = (
        "_before", "_due", "_greeting", "_period", "_served", "_window", "age", "consecutive_drops", "followed",
        "in_flight", "last_consumed_at", "last_consumed_seq", "last_served_at", "ledger", "owed", "pending",
        "pending_since", "stream",
    )  # fmt: skip

    def __init__(self, stream: Stream, window: int) -> None:
        self.stream = stream
        self.ledger = MailboxLedger()
        self.followed = False  # whether frames are offered
        self.pending: Frame | None = None
        self.pending_since = 0.0
        self.owed = False
        self.in_flight: Frame | None = None
        self.last_served_at = float("-inf")
        self.last_consumed_at: float | None = None
        self.last_consumed_seq = 0
        self.consecutive_drops = 0
        self.age = Histogram(AGE_BOUNDS)
        self._period: float | None = None
        self._due = float("-inf")
        self._served = (0, 0)  # epoch and seq of the frame that the worker saw last
        self._greeting = (0, 0, 0)  # epoch and seq of the frame its session began with; what was promised before it
        self._before = (self._due, self._served, self.last_served_at)  # the last take, should it be taken back
        self._window = deque([(0, 0)], maxlen=window + 1)

    def promise(self, target_fps: float | None) -> None:
        """Set the promised rate in frames a second; None owes every frame."""
        self._period = None if target_fps is None else 1.0 / target_fps
        self._due = float("-inf")

    def offer(self, frame: Frame, now: float) -> None:
        """Put a newer frame in; the pending one gives way."""
        ledger = self.ledger
        ledger.offered += 1
        if self.pending is None:
            ledger.pending = 1
            self.pending_since = now
        elif self.owed:
            ledger.overwritten += 1
            self.consecutive_drops += 1
        else:
            ledger.decimated += 1
        self.pending = frame
        # Half an interval of tolerance picks the frame nearest to the due time, whatever the jitter.
        self.owed = self._period is None or now >= self._due - self._interval() / 2

    def keep(self) -> None:
        """The worker is gone: what is pending waits for its return; missed is what a newer one replaces before that."""
        self.owed = False

    def miss(self, frame: Frame, now: float) -> None:
        """A newer frame came while the worker is gone: it waits for its return."""
        self.clear("disconnected")
        self.ledger.offered += 1
        self.ledger.pending = 1
        self.pending, self.pending_since, self.owed = frame, now, False

    def ready(self, now: float) -> bool:
        """Whether the pending frame may go out: it is owed, or the one that was to be owed did not come."""
        return self.pending is not None and (self.owed or now >= self._due + self._interval())

    def take(self, now: float) -> Frame:
        """Move the pending frame under way."""
        frame = self.pending
        assert frame is not None
        self._before = (self._due, self._served, self.last_served_at)
        if self._period is not None and self.ready(now):  # a frame in place of a stale one may come before its time
            on_time = now - self._due < self._period
            self._due = self._due + self._period if on_time else now + self._period
        self.pending, self.in_flight = None, frame
        self.ledger.pending, self.ledger.in_flight = 0, 1
        self.last_served_at = now
        self._served = (frame.epoch, frame.seq)
        return frame

    def put_back(self) -> None:
        """The frame under way could not be sent: it is pending again, in the turn in which it was taken."""
        assert self.pending is None
        self.pending, self.in_flight = self.in_flight, None
        self.ledger.pending, self.ledger.in_flight = 1, 0
        self._due, self._served, self.last_served_at = self._before

    def holds(self, report: Report) -> bool:
        """Whether the report speaks of the frame under way."""
        frame = self.in_flight
        return frame is not None and frame.seq == report.seq and frame.epoch == report.epoch

    def settle(self, outcome: str) -> None:
        """The frame under way met its end: "consumed", or the reason for which it was discarded."""
        frame = self.in_flight
        assert frame is not None
        self.in_flight = None
        self.ledger.in_flight = 0
        if outcome == "consumed":
            self.ledger.consumed += 1
            self.consecutive_drops = 0
            self.last_consumed_seq = frame.seq
        elif outcome == "expired" and (frame.epoch, frame.seq) == self._greeting[:2]:
            self._spare()
        else:
            self._discard(outcome)
            if outcome in UNSEEN:
                self.forget()

    def start(self, now: float, owed: bool = True) -> None:
        """A session begins: put the stream's newest frame in, unless its worker had it already, or it waits here.

        It goes out at the first demand. Where it is not owed, a newer one may come before that.
        """
        newest = self.stream.newest
        if self.pending is None and newest is not None and (newest.epoch, newest.seq) != self._served:
            self._greeting = (newest.epoch, newest.seq, self.ledger.promised)
            self.offer(newest, now)
        self.owed = owed

    def remember(self, report: Report) -> None:
        """The worker has seen this frame, whatever was thought of its fate."""
        self._served = (report.epoch, report.seq)

    def forget(self) -> None:
        """Whatever was served, the worker that asks next has not seen it."""
        self._served = (0, 0)
        self.last_served_at = float("-inf")

    def clear(self, reason: str) -> None:
        """Discard the pending frame, if there is one."""
        if self.pending is not None:
            self.pending = None
            self.ledger.pending = 0
            self._discard(reason)

    def sample(self) -> None:
        """Remember the counts for the drop ratio; called once a second."""
        self._window.append((self.ledger.promised, self.ledger.dropped))

    def windowed(self) -> tuple[int, int]:
        """Promised and dropped frames over the window."""
        promised, dropped = self._window[0]
        return self.ledger.promised - promised, self.ledger.dropped - dropped

    def _interval(self) -> float:
        """The stream's, but at most the promised one: what a pause made of the average must not void the promise."""
        return self.stream.interval if self._period is None else min(self.stream.interval, self._period)

    def _spare(self) -> None:
        """The frame that was there before its worker was too old: it was never promised, in the window neither."""
        self.ledger.decimated += 1
        before = self._greeting[2]
        counts = ((promised - (promised > before), dropped) for promised, dropped in self._window)
        self._window = deque(counts, maxlen=self._window.maxlen)

    def _discard(self, reason: str) -> None:
        self.ledger.discard(reason)
        if reason != "left":
            self.consecutive_drops += 1

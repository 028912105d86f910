"""A stream's way in: which epoch is current, which sequence numbers came, what is the newest frame.

A publisher's run is an epoch, named by the boot id of its machine and its CLOCK_MONOTONIC at its start. Within one
boot the later start is the later run, however the wall clock jumps; between boots the one that was not seen before is.
Frames of an earlier run, and those that an overtaking frame has made old, are counted and refused.
"""

from collections import Counter
from typing import Any, Final, NamedTuple

from supplierd.core.ledger import StreamLedger

RETIRED_EPOCHS: Final = 16
"""Earlier runs that a stream remembers: enough for a publisher that restarts in a loop while old connections drain."""

INTERVAL_WEIGHT: Final = 0.2
"""Of the newest gap in the moving average of the frame interval: follows a change of rate within about ten frames."""

MAX_INTERVAL_GROWTH: Final = 4.0
"""How far one gap may exceed the average: a camera's pause must not pass for its pace."""

MAX_PUBLISHED: Final = 1 << 53
"""Frames of a stream, over all its epochs, up to which a count is exact as a float, as metrics have it."""

REFUSALS: Final = {
    "old_epoch": "it is from an earlier run of its publisher",
    "old_seq": "it, or a newer one, was here before",
    "implausible_seq": f"no publisher comes to such a number: a stream counts up to {MAX_PUBLISHED}",
}
"""Why a frame is refused, by reason."""


class Frame(NamedTuple):
    """A frame as the supplier sees it: its identity, and the message that carries it.

    Attributes:
        stream: name of the stream.
        boot: boot id of the publisher's machine.
        epoch: the publisher's start, ns of its CLOCK_MONOTONIC.
        seq: number in the epoch, from 1.
        unsent: frames of the epoch so far that found no connection.
        inline: why its publisher did not put it into shared memory; "" where it did.
        message: what the transport will send.
    """

    stream: str
    boot: bytes
    epoch: int
    seq: int
    unsent: int
    inline: str
    message: Any


class _Run:
    """What is known of one epoch."""

    __slots__ = ("boot", "epoch", "seq", "unsent")

    def __init__(self, boot: bytes, epoch: int, seq: int, unsent: int) -> None:
        self.boot, self.epoch, self.seq, self.unsent = boot, epoch, seq, unsent


class Stream:
    """One stream.

    Attributes:
        name: of the stream.
        newest: the newest frame; None before the first.
        last_frame_at: when it arrived, seconds, monotonic.
        interval: moving average of the time between frames, seconds; 0 until it is known.
        inline: frames that came inline, by reason.
    """

    __slots__ = ("_arrived_at", "_retired", "_run", "inline", "interval", "last_frame_at", "ledger", "name", "newest")

    def __init__(self, name: str) -> None:
        self.name = name
        self.ledger = StreamLedger()
        self.newest: Frame | None = None
        self.last_frame_at: float | None = None
        self.interval = 0.0
        self.inline: Counter[str] = Counter()
        self._arrived_at: float | None = None  # last_frame_at, within the current epoch
        self._run: _Run | None = None
        self._retired: list[_Run] = []

    @property
    def epoch(self) -> int:
        """The current epoch; 0 before the first frame."""
        return self._run.epoch if self._run else 0

    @property
    def last_seq(self) -> int:
        """Sequence number of the newest frame."""
        return self._run.seq if self._run else 0

    def accept(self, frame: Frame, now: float, born_here: bool) -> str | None:
        """Count an arriving frame, and make it the newest unless a newer one was here.

        Args:
            frame: what arrived.
            now: seconds, monotonic.
            born_here: the epoch began while this daemon was running, so that it owes an account from frame 1 on.

        Returns:
            None, or why the frame is refused: one of REFUSALS.
        """
        _, boot, epoch, seq, unsent, inline, _ = frame
        if self.ledger.published + seq > MAX_PUBLISHED:
            return "implausible_seq"
        run = self._run
        if run is None or epoch != run.epoch or boot != run.boot:
            retired = self._older(frame)
            if retired is not None:
                self._count_old(retired, frame)
                return "old_epoch"
            run = self._begin(frame, born_here)
        elif seq <= run.seq:
            return "old_seq"
        self._count_gap(run, seq, unsent)
        self.ledger.received += 1
        if inline:
            self.inline[inline] += 1
        self._pace(now, seq - run.seq)
        run.seq, run.unsent = seq, max(run.unsent, unsent)
        self.newest = frame
        self.last_frame_at = self._arrived_at = now
        return None

    def _begin(self, frame: Frame, born_here: bool) -> _Run:
        """Start a new epoch, just before its first known frame."""
        if self._run is not None:
            self._retired = [*self._retired, self._run][-RETIRED_EPOCHS:]
        # An epoch older than this daemon: what an earlier daemon received is not ours to account for, unless the
        # publisher says that nobody received anything yet.
        known_from_start = born_here or frame.unsent >= frame.seq - 1
        self._run = _Run(frame.boot, frame.epoch, *((0, 0) if known_from_start else (frame.seq - 1, frame.unsent)))
        self._arrived_at = None  # the pause between two runs says nothing about the pace
        return self._run

    def _older(self, frame: Frame) -> _Run | None:
        """The earlier run that the frame belongs to, or None where the frame begins a new one."""
        for run in self._retired:
            if run.epoch == frame.epoch and run.boot == frame.boot:
                return run
        known = self._retired if self._run is None else [*self._retired, self._run]
        if any(run.boot == frame.boot and run.epoch > frame.epoch for run in known):
            unseen = _Run(frame.boot, frame.epoch, frame.seq - 1, frame.unsent)
            self._retired = [*self._retired, unseen][-RETIRED_EPOCHS:]
            return unseen
        return None

    def _count_old(self, run: _Run, frame: Frame) -> None:
        if frame.seq > run.seq:
            self._count_gap(run, frame.seq, frame.unsent)
            self.ledger.dropped["old_epoch"] += 1
            run.seq, run.unsent = frame.seq, max(run.unsent, frame.unsent)

    def _count_gap(self, run: _Run, seq: int, unsent: int) -> None:
        """Account for a frame and for those between the last known one and it."""
        ahead = seq - run.seq
        self.ledger.published += ahead
        if ahead > 1:
            disconnected = min(max(unsent - run.unsent, 0), ahead - 1)
            self.ledger.dropped["disconnected"] += disconnected
            self.ledger.dropped["overwritten"] += ahead - 1 - disconnected

    def _pace(self, now: float, ahead: int) -> None:
        if self._arrived_at is not None:
            gap = (now - self._arrived_at) / ahead
            if self.interval:
                gap = min(gap, MAX_INTERVAL_GROWTH * self.interval)
            self.interval += (gap - self.interval) * (INTERVAL_WEIGHT if self.interval else 1.0)

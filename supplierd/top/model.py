"""What the snapshots say over time: rates, ages and drops of the last seconds, and the history behind the sparklines.

Everything is a difference between two snapshots of one life of the daemon: where a count fell, or the daemon was away,
a new account begins, so nothing is ever negative. Pure: `now` is an argument (seconds, monotonic). What others may
have put into a text is made printable here, before anything else sees it.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

from supplierd.core.health import Violation, violations
from supplierd.core.histogram import HistogramSnapshot
from supplierd.core.snapshot import MailboxSnapshot, Snapshot, StreamSnapshot, WorkerSnapshot

RATE_SPAN: Final = 10.0
"""Seconds over which rates and ages are taken: at 1 frame/s still ten of them, and a change shows at once."""
HISTORY: Final = 180
"""Seconds that a sparkline covers."""
MAX_TEXT: Final = 200
"""Characters of a text of others: more than any that the daemon makes."""
_LATE: Final = 0.9
"""Share of the promised rate under which a worker is behind it; the frames missing must also be two or more."""

Key = tuple[str, str]
"""Worker and stream."""


class Sort(StrEnum):
    """The orders of the workers."""

    CLASS = "class"
    NAME = "name"
    AGE = "age"
    DROPS = "drops"


class Row(NamedTuple):
    """One mailbox, or a worker that follows no stream yet.

    Attributes:
        worker, mailbox: the newest counts.
        fps: frames a second that it consumed; None where two snapshots are needed and one is there.
        behind: it consumed clearly less than it was promised and its stream had.
        age: capture to consumption, of the frames consumed.
        reasons: frames dropped, by reason.
        broken: a promise to its worker is broken.
    """

    worker: WorkerSnapshot
    mailbox: MailboxSnapshot | None
    fps: float | None
    behind: bool
    age: HistogramSnapshot | None
    reasons: Mapping[str, int]
    broken: bool

    @property
    def key(self) -> Key:
        """Which mailbox."""
        return self.worker.name, self.mailbox.stream if self.mailbox else ""

    @property
    def drop_ratio(self) -> float | None:
        """Dropped share of the promised frames over the daemon's drop window."""
        if self.mailbox is None or not self.mailbox.window_promised:
            return None
        return self.mailbox.window_dropped / self.mailbox.window_promised

    def quantile(self, q: float) -> float | None:
        """Of the age, seconds; None where nothing was consumed."""
        return None if self.age is None else self.age.quantile(q)


class Sample(NamedTuple):
    """A mailbox between two snapshots.

    Attributes:
        second: when.
        age: p99, seconds; None where nothing was consumed.
        promised, dropped: frames.
    """

    second: int
    age: float | None
    promised: int
    dropped: int


class History:
    """What is remembered of the snapshots.

    Attributes:
        latest: the newest; None before the first.
        rows: the workers' mailboxes in its order: by class, then by name.
        broken: the promises that it shows broken.
    """

    def __init__(self) -> None:
        self.latest: Snapshot | None = None
        self.rows: list[Row] = []
        self.broken: list[Violation] = []
        self._account: deque[_Counts] = deque()  # of the last RATE_SPAN, of one life of the daemon
        self._samples: dict[Key, deque[Sample]] = {}

    def add(self, snapshot: Snapshot, now: float) -> None:
        """The newest snapshot, which came at `now`."""
        counts = _Counts(snapshot, now)
        if self._account and not counts.continues(self._account[-1]):
            self._account.clear()
        if self._account:
            self._sample(self._account[-1], counts)
        self._account.append(counts)
        while self._account[0].at < now - RATE_SPAN - 0.5:  # so that an answer may come a little late
            self._account.popleft()
        self.latest = snapshot
        self.broken = violations(snapshot)
        self.rows = self._compared(snapshot)

    def interrupt(self) -> None:
        """The daemon did not answer: it may have been started anew, so nothing before is compared with what comes."""
        self._account.clear()

    def lost(self, stream: StreamSnapshot) -> dict[str, int]:
        """Frames that a stream lost on the way to the inbox over RATE_SPAN, by reason."""
        old = next((c.streams[stream.name] for c in self._account if stream.name in c.streams), None)
        return _grown(stream.dropped, old.dropped if old else stream.dropped)

    def processing(self, worker: WorkerSnapshot) -> HistogramSnapshot | None:
        """A worker's time from hand-over to its next demand over RATE_SPAN; None where it took nothing."""
        old = next((c.processing[worker.name] for c in self._account if worker.name in c.processing), None)
        return _between(old, worker.processing) if old else None

    def distribution(self) -> HistogramSnapshot | None:
        """The daemon's time from a frame's arrival to its last send over RATE_SPAN; None where nothing was sent."""
        if self.latest is None or not self._account:
            return None
        return _between(self._account[0].distribution, self.latest.distribution)

    def bins(self, key: Key, width: int, now: float) -> list[list[Sample]]:
        """The samples of HISTORY in at most `width` bins, oldest first; a bin keeps its samples until it leaves."""
        size = -(-HISTORY // width)
        number = -(-HISTORY // size)
        first = int(now) // size - number + 1
        found: list[list[Sample]] = [[] for _ in range(number)]
        for sample in self._samples.get(key, ()):
            place = sample.second // size - first
            if 0 <= place < number:
                found[place].append(sample)
        return found

    def _compared(self, snapshot: Snapshot) -> list[Row]:
        broken = {violation.worker for violation in self.broken}
        pace = {stream.name: stream.fps for stream in snapshot.streams}
        return [
            self._row(worker, mailbox, pace, worker.name in broken)
            for worker in snapshot.workers
            for mailbox in worker.mailboxes or (None,)
        ]

    def _row(
        self, worker: WorkerSnapshot, mailbox: MailboxSnapshot | None, pace: Mapping[str, float], broken: bool
    ) -> Row:
        if mailbox is None:
            return Row(worker, None, None, False, None, {}, broken)
        key = worker.name, mailbox.stream
        base = next((counts for counts in self._account if key in counts.mailboxes), None)
        elapsed = self._account[-1].at - base.at if base else 0.0
        if base is None or elapsed <= 0:
            return Row(worker, mailbox, None, False, None, {}, broken)
        old = base.mailboxes[key]
        taken = mailbox.consumed - old.consumed
        due = min(worker.target_fps or 0.0, pace.get(mailbox.stream, 0.0)) * elapsed
        behind = taken < _LATE * due and due - taken >= 2
        reasons = _grown(mailbox.dropped, old.dropped)
        reasons.pop("left", None)  # nobody's fault, and in no drop ratio
        return Row(worker, mailbox, taken / elapsed, behind, _between(old.age, mailbox.age), reasons, broken)

    def _sample(self, old: "_Counts", new: "_Counts") -> None:
        second = int(new.at)
        for key, mailbox in new.mailboxes.items():
            before = old.mailboxes.get(key)
            if before is not None:
                promised, dropped = (a - b for a, b in zip(_promised(mailbox), _promised(before), strict=True))
                age = _between(before.age, mailbox.age)
                sample = Sample(second, age.quantile(0.99) if age else None, promised, dropped)
                self._samples.setdefault(key, deque(maxlen=HISTORY)).append(sample)
        for key in [key for key, samples in self._samples.items() if samples[-1].second < second - HISTORY]:
            del self._samples[key]


class _Counts:
    """One snapshot, its parts by name."""

    def __init__(self, snapshot: Snapshot, at: float) -> None:
        self.at = at
        self.streams = {stream.name: stream for stream in snapshot.streams}
        self.mailboxes = {(w.name, m.stream): m for w in snapshot.workers for m in w.mailboxes}
        self.processing = {worker.name: worker.processing for worker in snapshot.workers}
        self.distribution = snapshot.distribution

    def continues(self, old: "_Counts") -> bool:
        """Whether no count has fallen since `old`: the daemon is the one that it was."""
        return (
            self.at > old.at
            and _rose(old.distribution.counts, self.distribution.counts)
            and all(
                _rose((s.received, sum(s.dropped.values())), (new.received, sum(new.dropped.values())))
                for name, s in old.streams.items()
                if (new := self.streams.get(name))
            )
            and all(
                _rose(_counters(mailbox), _counters(later))
                for key, mailbox in old.mailboxes.items()
                if (later := self.mailboxes.get(key))
            )
        )


def sort(rows: Iterable[Row], order: Sort) -> list[Row]:
    """The rows in an order; the most noteworthy first, and among equals as they came."""
    if order is Sort.NAME:
        return sorted(rows, key=lambda row: row.key)
    if order is Sort.AGE:
        return sorted(rows, key=lambda row: -(row.quantile(0.99) or 0.0))
    if order is Sort.DROPS:
        return sorted(rows, key=lambda row: -(row.drop_ratio or 0.0))
    return list(rows)


def matches(row: Row, words: str) -> bool:
    """Whether each word is part of the row's worker, stream, class or state."""
    text = " ".join((*row.key, row.worker.service_class, row.worker.state)).lower()
    return all(word in text for word in words.lower().split())


def printable(value: Any) -> Any:
    """Decoded msgpack with each text in it cut, and "?" in place of whatever is not printable."""
    if isinstance(value, str):
        value = value[:MAX_TEXT]
        return value if value.isprintable() else "".join(c if c.isprintable() else "?" for c in value)
    if isinstance(value, dict):
        return {printable(key): printable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [printable(item) for item in value]
    return value


def _promised(mailbox: MailboxSnapshot) -> tuple[int, int]:
    """Promised and dropped frames, as the ledger has them."""
    dropped = sum(mailbox.dropped.values()) - mailbox.discarded.get("left", 0)
    return mailbox.offered - mailbox.decimated, dropped


def _counters(mailbox: MailboxSnapshot) -> tuple[int, ...]:
    return (
        mailbox.offered,
        mailbox.consumed,
        mailbox.overwritten,
        mailbox.decimated,
        sum(mailbox.discarded.values()),
        *_promised(mailbox),
        *mailbox.age.counts,
    )


def _rose(old: Iterable[int], new: Iterable[int]) -> bool:
    return all(map(int.__le__, old, new))


def _grown(new: Mapping[str, int], old: Mapping[str, int]) -> dict[str, int]:
    """By how much each count has grown, of those that have."""
    return {name: count - old.get(name, 0) for name, count in new.items() if count > old.get(name, 0)}


def _between(old: HistogramSnapshot, new: HistogramSnapshot) -> HistogramSnapshot | None:
    """What was observed in between; None where nothing was."""
    counts = tuple(map(int.__sub__, new.counts, old.counts))
    return HistogramSnapshot(new.bounds, counts, new.total - old.total) if any(counts) else None

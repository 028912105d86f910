"""What must hold after each fault, as functions of evidence alone: each gives a line for whatever is wrong.

The evidence comes from outside: what worker processes said of each frame before they could be killed, /proc, files, and
the daemon's snapshot. test_invariants.py shows that each of these functions finds what it looks for.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from supplierd.core.snapshot import MailboxSnapshot, Snapshot
from tests.chaos.members import Level, Seen
from tests.chaos.parts import value_of

RESUMED_WITHIN: Final = 3.0
"""Seconds from the end of a fault until everybody has frames again that were captured after it."""
SPARE_DESCRIPTORS: Final = 6
"""More than at the start of a life: an arena that the daemon lets go of at its next look, a connection just dying."""
SPARE_THREADS: Final = 0
OLDEST: Final = 60.0
"""Seconds: an age beyond it, or below 0, was taken with a clock that had jumped."""


def disorder(name: str, seen: Iterable[Seen]) -> Iterator[str]:
    """An older frame after a newer one. A new life may be given the frame that the one before was killed with."""
    newest: dict[str, Seen] = {}
    for frame in seen:
        before = newest.get(frame.stream)
        if before is not None:
            now, then = (frame.epoch, frame.seq), (before.epoch, before.seq)
            if now < then or (now == then and frame.life == before.life):
                yield f"{name} saw {frame.stream} {now} in life {frame.life} after {then} in life {before.life}"
        newest[frame.stream] = frame


def torn(name: str, seen: Iterable[Seen]) -> Iterator[str]:
    """A frame whose pixels are not those that were published under its number."""
    for frame in seen:
        if not frame.whole or frame.value != value_of(frame.epoch, frame.seq):
            yield f"{name} saw {frame.stream} ({frame.epoch}, {frame.seq}) torn"


def wrong_ages(name: str, seen: Iterable[Seen]) -> Iterator[str]:
    """An age that no frame can have."""
    for frame in seen:
        if not 0.0 <= frame.age <= OLDEST:
            yield f"{name} saw {frame.stream} ({frame.epoch}, {frame.seq}) at the age of {frame.age:g} s"


def resumed_after(seen: Iterable[Seen], streams: Iterable[str], end: float) -> float | None:
    """Seconds from the end of a fault until a worker had a frame of each stream that was captured after it; None: not
    yet."""
    first: dict[str, float] = {}
    for frame in seen:
        if frame.captured >= end:
            first.setdefault(frame.stream, frame.at - end)
    wanted = set(streams)
    return max(first[stream] for stream in wanted) if wanted <= first.keys() else None


class Handed(NamedTuple):
    """Frames that a worker was given by one life of the daemon.

    Attributes:
        before, after: counted before and after the snapshot was taken.
        unreported: how many of them the daemon may never have been told of: the one in hand, and one for each life or
            session that ended in the midst of its work.
    """

    before: int
    after: int
    unreported: int


def ledger_errors(snapshot: Snapshot, handed: Mapping[str, Handed]) -> Iterator[str]:
    """What does not add up, in the ledgers or between them and what the workers say."""
    for stream in snapshot.streams:
        if stream.published != stream.received + sum(stream.dropped.values()):
            yield f"stream {stream.name}: published {stream.published}, received {stream.received}, {stream.dropped}"
    for worker in snapshot.workers:
        for mailbox in worker.mailboxes:
            if mailbox.balance or mailbox.pending not in (0, 1) or mailbox.in_flight not in (0, 1):
                yield f"worker {worker.name}: {mailbox}"
        consumed = sum(mailbox.consumed for mailbox in worker.mailboxes)
        count = handed.get(worker.name)
        if count is not None and not count.before - count.unreported <= consumed <= count.after:
            yield f"worker {worker.name}: consumed {consumed}, and it says {count}"


def counters(snapshot: Snapshot) -> dict[str, int]:
    """Every number of a snapshot that may never go down."""
    found: dict[str, int] = {}
    for stream in snapshot.streams:
        found |= {
            f"stream {stream.name} published": stream.published,
            f"stream {stream.name} received": stream.received,
        }
        found |= {f"stream {stream.name} dropped {reason}": count for reason, count in stream.dropped.items()}
    for worker in snapshot.workers:
        for box in worker.mailboxes:
            found |= {f"worker {worker.name} {box.stream} {what}": count for what, count in _counted(box).items()}
    return found


def _counted(box: MailboxSnapshot) -> dict[str, int]:
    kept = {
        "offered": box.offered,
        "consumed": box.consumed,
        "overwritten": box.overwritten,
        "decimated": box.decimated,
    }
    return kept | {f"discarded {reason}": count for reason, count in box.discarded.items()}


def went_down(before: Mapping[str, int], after: Mapping[str, int]) -> Iterator[str]:
    """Counters that are lower than they were, in one life of the daemon."""
    for what, count in before.items():
        if after.get(what, 0) < count:
            yield f"{what} went from {count} to {after.get(what, 0)}"


def leaks(before: Mapping[str, Level], after: Mapping[str, Level]) -> Iterator[str]:
    """Processes that have more open than when they had just begun to work."""
    for name, level in after.items():
        first = before.get(name)
        if first is None:
            continue
        if level.descriptors > first.descriptors + SPARE_DESCRIPTORS:
            yield f"{name} has {level.descriptors} descriptors, and had {first.descriptors}"
        if level.threads > first.threads + SPARE_THREADS:
            yield f"{name} has {level.threads} threads, and had {first.threads}"


def leased_slots(snapshot: Snapshot) -> Iterator[str]:
    """Slots that are held though nobody holds them: more than the newest frame, those waiting and those in use."""
    held: dict[str, int] = defaultdict(lambda: 1)
    for worker in snapshot.workers:
        for mailbox in worker.mailboxes:
            held[mailbox.stream] += mailbox.pending + mailbox.in_flight + worker.leases
    for arena in snapshot.arenas:
        if arena.leased > held[arena.stream]:
            yield f"{arena.leased} slots of {arena.stream} are leased, {held[arena.stream]} in use"

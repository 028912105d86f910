"""One immutable picture of a supplier: the source of the metrics, of `supplierd stats` and of the tests.

It is taken in one go, so that its numbers add up, and travels as nested lists (`to_wire`, `from_wire`). Times are Unix
seconds: the caller says what the wall clock shows at the monotonic `now`.
"""

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from supplierd.core.histogram import HistogramSnapshot
from supplierd.core.mailbox import Mailbox
from supplierd.core.service import PRIORITY
from supplierd.core.stream import Stream
from supplierd.core.supplier import Supplier
from supplierd.core.worker import Worker

LAYOUT = 1
"""Counts the changes of the fields below: a program refuses a snapshot of another layout."""


class StreamSnapshot(NamedTuple):
    """One stream: `published = received + sum(dropped)`.

    Attributes:
        name: of the stream.
        silent: no frame for stream_timeout, or none ever.
        published, received: frames, over all epochs.
        dropped: frames lost on the way to the inbox, by reason.
        last_frame_at: arrival of the newest frame; None before the first.
        last_seq: its number.
        epoch: its publisher's run.
        fps: frames a second, from the moving average of the interval; 0 where silent.
        inline: frames that came inline instead of through shared memory, by reason.
    """

    name: str
    silent: bool
    published: int
    received: int
    dropped: dict[str, int]
    last_frame_at: float | None
    last_seq: int
    epoch: int
    fps: float
    inline: dict[str, int]


class ArenaSnapshot(NamedTuple):
    """The shared memory of one stream.

    Attributes:
        stream: its name.
        bytes: memory really taken.
        free, leased: slots by state; one that is being written is neither.
    """

    stream: str
    bytes: int
    free: int
    leased: int


class MailboxSnapshot(NamedTuple):
    """One (worker, stream): `offered = consumed + overwritten + decimated + sum(discarded) + pending + in_flight`.

    Attributes:
        stream: its name.
        offered, consumed, overwritten, decimated, discarded, pending, in_flight: the ledger.
        consecutive_drops: since the last consumed frame.
        last_consumed_at, last_consumed_seq: the last consumed frame.
        window_promised, window_dropped: frames of the drop window, for drop ratios.
        age: capture to consumption, seconds.
    """

    stream: str
    offered: int
    consumed: int
    overwritten: int
    decimated: int
    discarded: dict[str, int]
    pending: int
    in_flight: int
    consecutive_drops: int
    last_consumed_at: float | None
    last_consumed_seq: int
    window_promised: int
    window_dropped: int
    age: HistogramSnapshot

    @property
    def balance(self) -> int:
        """0 where the ledger adds up."""
        counted = self.consumed + self.overwritten + self.decimated + sum(self.discarded.values())
        return self.offered - counted - self.pending - self.in_flight

    @property
    def dropped(self) -> dict[str, int]:
        """Frames not consumed and not decimated, by reason."""
        return {"overwritten": self.overwritten, **self.discarded}


class WorkerSnapshot(NamedTuple):
    """One worker.

    Attributes:
        name, service_class: who, and how critical.
        state: waiting, busy, idle, starved or gone.
        configured: the configuration names it.
        expected: it should be there: configured, or gone without a leave.
        push: delivery "push".
        target_fps: promised rate; None where none was declared.
        drop_budget: tolerated share of drops.
        idle_after: seconds.
        pid, client: of its process.
        inline_reason: why it gets payloads inline; "" where it reads arenas.
        leases: arena slots that it holds.
        processing: hand-over to next demand, seconds.
        mailboxes: one per stream that it ever followed.
    """

    name: str
    service_class: str
    state: str
    configured: bool
    expected: bool
    push: bool
    target_fps: float | None
    drop_budget: float
    idle_after: float
    pid: int
    client: str
    inline_reason: str
    leases: int
    processing: HistogramSnapshot
    mailboxes: tuple[MailboxSnapshot, ...]

    @property
    def drop_ratio(self) -> float | None:
        """Dropped share of the promised frames over the drop window; None where none was promised."""
        promised = sum(m.window_promised for m in self.mailboxes)
        return sum(m.window_dropped for m in self.mailboxes) / promised if promised else None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that a supplier counts, at one moment.

    Attributes:
        at: Unix seconds.
        drop_window: seconds over which the drop ratios are taken.
        streams, workers: sorted by name; workers by class first.
        arenas: shared memory, by stream.
        rejected: messages that were refused, by reason.
        distribution: arrival of a frame to its last send, seconds.
    """

    at: float
    drop_window: float
    streams: tuple[StreamSnapshot, ...]
    workers: tuple[WorkerSnapshot, ...]
    arenas: tuple[ArenaSnapshot, ...]
    rejected: dict[str, int]
    distribution: HistogramSnapshot

    def to_wire(self) -> dict[str, Any]:
        """Plain maps, lists and numbers, for msgpack."""
        return {
            "layout": LAYOUT,
            "at": self.at,
            "drop_window": self.drop_window,
            "streams": self.streams,
            "workers": self.workers,
            "arenas": self.arenas,
            "rejected": self.rejected,
            "distribution": self.distribution,
        }

    @classmethod
    def from_wire(cls, data: dict[str, Any]) -> "Snapshot":
        """The snapshot that `to_wire` packed.

        Raises:
            ValueError: it comes from a daemon of another version, or is none.
        """
        if data.get("layout") != LAYOUT:
            raise ValueError(
                f"the daemon's statistics have layout {data.get('layout')!r}, this program reads {LAYOUT}: "
                "use the programs of one version"
            )
        try:
            return cls(**{name: read(data[name]) for name, read in _READERS.items()})
        except (KeyError, TypeError, OverflowError, ValueError) as error:
            raise ValueError(
                f"the daemon's statistics cannot be read ({error!r:.200}): use the programs of one version"
            ) from None


def take(supplier: Supplier, now: float, wall: float, arenas: tuple[ArenaSnapshot, ...] = ()) -> Snapshot:
    """The picture of `supplier` at `now` (seconds, monotonic), when the wall clock shows `wall` (Unix seconds)."""
    offset = wall - now
    timeout = supplier.settings.stream_timeout
    workers = sorted(supplier.workers.values(), key=lambda w: (PRIORITY[w.policy.service_class], w.name))
    return Snapshot(
        at=wall,
        drop_window=supplier.settings.drop_window,
        streams=tuple(_stream(s, now, offset, timeout) for _, s in sorted(supplier.streams.items())),
        workers=tuple(_worker(w, offset) for w in workers),
        arenas=arenas,
        rejected=dict(supplier.rejected),
        distribution=supplier.distribution.snapshot(),
    )


def _stream(stream: Stream, now: float, offset: float, timeout: float) -> StreamSnapshot:
    seen = stream.last_frame_at
    silent = seen is None or now - seen >= timeout
    return StreamSnapshot(
        stream.name,
        silent,
        stream.ledger.published,
        stream.ledger.received,
        dict(stream.ledger.dropped),
        None if seen is None else seen + offset,
        stream.last_seq,
        stream.epoch,
        0.0 if silent or not stream.interval else 1.0 / stream.interval,
        dict(stream.inline),
    )


def _worker(worker: Worker, offset: float) -> WorkerSnapshot:
    policy = worker.policy
    return WorkerSnapshot(
        worker.name,
        policy.service_class.value,
        worker.state.value,
        policy.configured,
        policy.configured or worker.following,
        policy.push,
        worker.target_fps,
        policy.drop_budget,
        policy.idle_after,
        worker.pid,
        worker.client,
        worker.inline_reason,
        worker.leases,
        worker.processing.snapshot(),
        tuple(_mailbox(m, offset) for _, m in sorted(worker.mailboxes.items())),
    )


def _mailbox(mailbox: Mailbox, offset: float) -> MailboxSnapshot:
    ledger, consumed_at = mailbox.ledger, mailbox.last_consumed_at
    return MailboxSnapshot(
        mailbox.stream.name,
        ledger.offered,
        ledger.consumed,
        ledger.overwritten,
        ledger.decimated,
        dict(ledger.discarded),
        ledger.pending,
        ledger.in_flight,
        mailbox.consecutive_drops,
        None if consumed_at is None else consumed_at + offset,
        mailbox.last_consumed_seq,
        *mailbox.windowed(),
        mailbox.age.snapshot(),
    )


# --- one reading function per field, built once from the annotations ---


def _reader(annotation: Any) -> Callable[[Any], Any]:
    """What makes a value of this type out of what msgpack gives; raises TypeError or ValueError for another."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is types.UnionType:  # X | None
        read = _reader(arguments[0])
        return lambda value: None if value is None else read(value)
    if origin is tuple:
        item = _reader(arguments[0])
        return lambda value: tuple(map(item, _instance(value, (list, tuple))))
    if origin is dict:
        key, item = map(_reader, arguments)
        return lambda value: {key(name): item(one) for name, one in _instance(value, (dict,)).items()}
    if hasattr(annotation, "_fields"):
        return _record(annotation)
    if annotation is float:
        return lambda value: float(_instance(value, (float, int)))
    return lambda value: _instance(value, (annotation,))


def _record(kind: Any) -> Callable[[Any], Any]:
    readers = tuple(map(_reader, typing.get_type_hints(kind).values()))

    def read(value: Any) -> Any:
        items = zip(readers, _instance(value, (list, tuple)), strict=True)
        record = kind._make([reader(item) for reader, item in items])
        if kind is HistogramSnapshot and len(record.counts) != len(record.bounds) + 1:
            raise ValueError(f"{len(record.counts)} counts for {len(record.bounds)} bounds")
        return record

    return read


def _instance(value: Any, kinds: tuple[type, ...]) -> Any:
    if type(value) not in kinds:
        raise TypeError(f"expected {kinds[0].__name__}, found {type(value).__name__}")
    return value


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    name: _reader(hint) for name, hint in typing.get_type_hints(Snapshot).items()
}

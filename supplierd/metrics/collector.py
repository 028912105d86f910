"""From a snapshot to metric families.

The names are an interface: dashboards, alerts and other programs rely on them (docs and DESIGN list them). All families
of one scrape come from one snapshot, so the ledger of a mailbox adds up in every scrape:
offered = consumed + dropped(all reasons) + decimated + pending + in_flight.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from supplierd.core.histogram import HistogramSnapshot
from supplierd.core.ledger import DISCARD_REASONS
from supplierd.core.snapshot import MailboxSnapshot, Snapshot, WorkerSnapshot
from supplierd.core.worker import State

MAILBOX: Final = ("worker", "stream", "class")
WORKER: Final = ("worker", "class")


class SnapshotCollector(Collector):
    """A collector for a private registry.

    Args:
        fetch: gives the current snapshot.
        build: labels of supplierd_build_info.
    """

    def __init__(self, fetch: Callable[[], Snapshot], build: dict[str, str]) -> None:
        self._fetch = fetch
        self._build = build

    def describe(self) -> Iterable[Metric]:
        """Nothing: a registry then does not ask for a snapshot before there is one."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The families of one snapshot."""
        info = InfoMetricFamily("supplierd_build", "Versions of the daemon, its wire format and libzmq.")
        info.add_metric((), self._build)
        yield info
        yield from families(self._fetch())


def families(snapshot: Snapshot) -> Iterator[Metric]:
    """All metric families but build_info."""
    yield from _streams(snapshot)
    yield from _arenas(snapshot)
    yield from _mailboxes(snapshot)
    yield from _workers(snapshot)
    rejected = CounterMetricFamily(
        "supplierd_messages_rejected", "Messages, frames and connections refused.", labels=("reason",)
    )
    for reason, count in sorted(snapshot.rejected.items()):
        rejected.add_metric((reason,), count)
    yield rejected
    distribution = HistogramMetricFamily(
        "supplierd_distribution_seconds", "From a frame's arrival in the inbox to its last send.", labels=()
    )
    _add_histogram(distribution, (), snapshot.distribution)
    yield distribution


def _streams(snapshot: Snapshot) -> Iterator[Metric]:
    received = CounterMetricFamily(
        "supplierd_stream_frames_received", "Frames that arrived in the inbox.", labels=("stream",)
    )
    dropped = CounterMetricFamily(
        "supplierd_stream_frames_dropped",
        "Frames published that did not arrive, found by gaps in their sequence numbers.",
        labels=("stream", "reason"),
    )
    last = GaugeMetricFamily(
        "supplierd_stream_last_frame_timestamp_seconds", "Arrival of the newest frame, Unix time.", labels=("stream",)
    )
    silent = GaugeMetricFamily(
        "supplierd_stream_silent", "1 without a frame for daemon.stream_timeout, or ever.", labels=("stream",)
    )
    for stream in snapshot.streams:
        received.add_metric((stream.name,), stream.received)
        for reason, count in stream.dropped.items():
            dropped.add_metric((stream.name, reason), count)
        if stream.last_frame_at is not None:
            last.add_metric((stream.name,), stream.last_frame_at)
        silent.add_metric((stream.name,), stream.silent)
    yield from (received, dropped, last, silent)
    inline = CounterMetricFamily(
        "supplierd_frames_inline",
        "Frames that came inline instead of through shared memory.",
        labels=("stream", "reason"),
    )
    for stream in snapshot.streams:
        for reason, count in sorted(stream.inline.items()):
            inline.add_metric((stream.name, reason), count)
    yield inline


def _arenas(snapshot: Snapshot) -> Iterator[Metric]:
    taken = GaugeMetricFamily("supplierd_arena_bytes", "Shared memory really taken.", labels=("stream",))
    slots = GaugeMetricFamily("supplierd_arena_slots", "Slots of shared memory by state.", labels=("stream", "state"))
    for arena in snapshot.arenas:
        taken.add_metric((arena.stream,), arena.bytes)
        slots.add_metric((arena.stream, "free"), arena.free)
        slots.add_metric((arena.stream, "leased"), arena.leased)
    yield from (taken, slots)


def _mailboxes(snapshot: Snapshot) -> Iterator[Metric]:
    def counter(name: str, text: str, read: Callable[[MailboxSnapshot], float]) -> Metric:
        family = CounterMetricFamily(f"supplierd_worker_frames_{name}", text, labels=MAILBOX)
        for labels, mailbox in boxes:
            family.add_metric(labels, read(mailbox))
        return family

    def gauge(name: str, text: str, read: Callable[[MailboxSnapshot], float | None]) -> Metric:
        family = GaugeMetricFamily(f"supplierd_worker_{name}", text, labels=MAILBOX)
        for labels, mailbox in boxes:
            value = read(mailbox)
            if value is not None:
                family.add_metric(labels, value)
        return family

    boxes = [((w.name, m.stream, w.service_class), m) for w in snapshot.workers for m in w.mailboxes]
    yield counter("offered", "Frames that entered the worker's mailbox.", lambda m: m.offered)
    yield counter("consumed", "Frames that the worker took.", lambda m: m.consumed)
    dropped = CounterMetricFamily(
        "supplierd_worker_frames_dropped", "Frames that the worker missed, by reason.", labels=(*MAILBOX, "reason")
    )
    for labels, mailbox in boxes:
        # Every reason from the start: a counter that begins with its first drop hides that drop from rate().
        for reason, count in sorted({**dict.fromkeys(DISCARD_REASONS, 0), **mailbox.dropped}.items()):
            dropped.add_metric((*labels, reason), count)
    yield dropped
    yield counter("decimated", "Frames left out because the worker's promised rate needs fewer.", lambda m: m.decimated)
    yield gauge("frames_pending", "Frames waiting in the mailbox: 0 or 1.", lambda m: m.pending)
    yield gauge("frames_in_flight", "Frames sent, their fate not yet reported: 0 or 1.", lambda m: m.in_flight)
    yield gauge("consecutive_drops", "Frames missed since the last consumed one.", lambda m: m.consecutive_drops)
    yield gauge(
        "last_consumed_timestamp_seconds", "When the worker last took a frame, Unix time.", lambda m: m.last_consumed_at
    )
    yield gauge("last_consumed_seq", "Sequence number of the frame last taken.", lambda m: m.last_consumed_seq)
    age = HistogramMetricFamily(
        "supplierd_worker_frame_age_seconds", "Age of frames when taken, since capture.", labels=MAILBOX
    )
    for labels, mailbox in boxes:
        _add_histogram(age, labels, mailbox.age)
    yield age


def _workers(snapshot: Snapshot) -> Iterator[Metric]:
    def gauge(name: str, text: str, read: Callable[[WorkerSnapshot], float]) -> Metric:
        family = GaugeMetricFamily(f"supplierd_worker_{name}", text, labels=WORKER)
        for worker in snapshot.workers:
            family.add_metric((worker.name, worker.service_class), read(worker))
        return family

    yield gauge("idle", "1 where frames wait and the worker takes none.", lambda w: w.state == State.IDLE)
    yield gauge("connected", "1 where the worker has a session.", lambda w: w.state != State.GONE)
    yield gauge("expected", "1 where it should: configured, or gone without taking its leave.", lambda w: w.expected)
    state = GaugeMetricFamily(
        "supplierd_worker_state", "1 for the state that the worker is in.", labels=(*WORKER, "state")
    )
    processing = HistogramMetricFamily(
        "supplierd_worker_processing_seconds", "From taking a frame to the next demand.", labels=WORKER
    )
    for worker in snapshot.workers:
        for name in State:
            state.add_metric((worker.name, worker.service_class, name.value), worker.state == name)
        _add_histogram(processing, (worker.name, worker.service_class), worker.processing)
    yield state
    yield gauge("leases", "Slots of shared memory that the worker held at its last demand.", lambda w: w.leases)
    inline = GaugeMetricFamily(
        "supplierd_worker_inline",
        "1 where the worker gets payloads inline, with the reason.",
        labels=(*WORKER, "reason"),
    )
    for worker in snapshot.workers:
        if worker.inline_reason:
            inline.add_metric((worker.name, worker.service_class, worker.inline_reason), 1)
    yield inline
    yield gauge("drop_budget_ratio", "Tolerated share of dropped frames.", lambda w: w.drop_budget)
    target = GaugeMetricFamily(
        "supplierd_worker_target_fps", "Frames a second of each stream that the worker is promised.", labels=WORKER
    )
    for worker in snapshot.workers:
        if worker.target_fps is not None:
            target.add_metric((worker.name, worker.service_class), worker.target_fps)
    yield target
    yield processing


def _add_histogram(family: HistogramMetricFamily, labels: tuple[str, ...], histogram: HistogramSnapshot) -> None:
    total = 0
    buckets = []
    for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
        total += count
        buckets.append((bound, total))
    family.add_metric(labels, buckets, histogram.total)

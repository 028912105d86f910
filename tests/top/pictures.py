"""Snapshots as the tests of the view want them, by the few figures that matter there."""

from collections.abc import Mapping

from supplierd.core.histogram import AGE_BOUNDS, DISTRIBUTION_BOUNDS, PROCESSING_BOUNDS, HistogramSnapshot
from supplierd.core.snapshot import MailboxSnapshot, Snapshot, StreamSnapshot, WorkerSnapshot


def histogram(bounds: tuple[float, ...] = AGE_BOUNDS, at: int = 4, count: int = 0) -> HistogramSnapshot:
    """`count` observations in bucket `at`; of the ages, the fourth is up to 10 ms."""
    counts = [0] * (len(bounds) + 1)
    counts[at] = count
    return HistogramSnapshot(bounds, tuple(counts), 0.0)


def stream(name: str = "cam-1", received: int = 100, *, silent: bool = False, lost: int = 0) -> StreamSnapshot:
    """A stream at 25 fps."""
    fps = 0.0 if silent else 25.0
    return StreamSnapshot(name, silent, received + lost, received, {"overwritten": lost}, 900.0, 7, 1, fps, {})


def mailbox(
    name: str = "cam-1", consumed: int = 0, overwritten: int = 0, *, slot: int = 4, window: tuple[int, int] = (0, 0)
) -> MailboxSnapshot:
    """A mailbox whose ledger adds up; `window` is of promised and dropped frames."""
    ages = histogram(at=slot, count=consumed)
    return MailboxSnapshot(
        name, consumed + overwritten + 2, consumed, overwritten, 0, {}, 1, 1, 0, 999.0, consumed, *window, ages
    )


def worker(
    name: str,
    *mailboxes: MailboxSnapshot,
    service_class: str = "normal",
    state: str = "busy",
    budget: float = 0.5,
    **others: object,
) -> WorkerSnapshot:
    """A worker of the configuration."""
    made = WorkerSnapshot(
        name, service_class, state, True, True, False, None, budget, 30.0, 4711, "python 1.0", "", 0,
        histogram(PROCESSING_BOUNDS), mailboxes,
    )  # fmt: skip
    return made._replace(**others)  # type: ignore[arg-type]


def snapshot(
    *workers: WorkerSnapshot,
    streams: tuple[StreamSnapshot, ...] = (),
    at: float = 1000.0,
    rejected: Mapping[str, int] | None = None,
) -> Snapshot:
    """What a daemon answers."""
    shown = streams or (stream(),)
    return Snapshot(at, 30.0, shown, workers, (), dict(rejected or {}), histogram(DISTRIBUTION_BOUNDS))

"""Everything in a snapshot that may only grow."""

from typing import Any

from supplierd.core.histogram import HistogramSnapshot
from supplierd.core.snapshot import Snapshot


def counters(snapshot: Snapshot) -> dict[tuple[object, ...], float]:
    """Everything in a snapshot that may only grow, by a name; of workers the second part is theirs."""
    found: dict[tuple[object, ...], float] = {("rejected", "", r): n for r, n in snapshot.rejected.items()}

    def add(kind: str, name: str, values: Any, *names: str) -> None:
        for field in names:
            value = getattr(values, field)
            if isinstance(value, dict):
                found.update({(kind, name, values[0], field, reason): n for reason, n in value.items()})
            elif isinstance(value, HistogramSnapshot):
                found.update({(kind, name, values[0], field, i): n for i, n in enumerate(value.counts)})
                found[kind, name, values[0], field, "total"] = value.total
            else:
                found[kind, name, values[0], field] = value

    for stream in snapshot.streams:
        add("stream", "", stream, "published", "received", "dropped")
    for worker in snapshot.workers:
        add("worker", worker.name, worker, "processing")
        for mailbox in worker.mailboxes:
            names = ("offered", "consumed", "overwritten", "decimated", "discarded", "age")
            add("mailbox", worker.name, mailbox, *names)
    return found

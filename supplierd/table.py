"""A snapshot as text: a table for people at a terminal, and a document for programs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from supplierd.core.snapshot import MailboxSnapshot, Snapshot, StreamSnapshot, WorkerSnapshot

_STREAM_HEAD = ("STREAM", "STATE", "FPS", "PUBLISHED", "RECEIVED", "DROPPED", "LAST SEQ")
_WORKER_HEAD = (
    "WORKER", "CLASS", "STATE", "STREAM", "FPS", "OFFERED", "CONSUMED", "DROPPED", "DECIMATED", "AGE p50", "AGE p99",
    "DROPS", "BUDGET",
)  # fmt: skip


def render(snapshot: Snapshot, before: Snapshot | None = None) -> str:
    """The tables of streams and workers; with an earlier snapshot also the rates at which workers take frames."""
    seconds = snapshot.at - before.at if before else 0.0
    taken = {(w.name, m.stream): m.consumed for w in before.workers for m in w.mailboxes} if before else {}
    streams = [_stream_row(stream) for stream in snapshot.streams]
    workers = [row for worker in snapshot.workers for row in _worker_rows(worker, seconds, taken)]
    lines = [*_aligned(_STREAM_HEAD, streams, 2), "", *_aligned(_WORKER_HEAD, workers, 4)]
    lines += [line for line in (_leases(snapshot), _inline(snapshot)) if line]
    if snapshot.rejected:
        lines += [
            "",
            "refused: " + ", ".join(f"{count} {reason}" for reason, count in sorted(snapshot.rejected.items())),
        ]
    return "\n".join(lines)


def ledger_line(mailbox: MailboxSnapshot) -> str:
    """Both sides of a mailbox's identity, such as "100 offered = 98 consumed + 1 overwritten + … + 1 in flight"."""
    parts = [f"{mailbox.consumed} consumed", f"{mailbox.overwritten} overwritten", f"{mailbox.decimated} decimated"]
    parts += [f"{count} {reason}" for reason, count in sorted(mailbox.discarded.items())]
    parts += [f"{mailbox.pending} pending", f"{mailbox.in_flight} in flight"]
    return f"{mailbox.offered} offered = {' + '.join(parts)}"


def as_document(snapshot: Snapshot) -> dict[str, Any]:
    """The snapshot as maps and lists with names, for JSON; what is derived from the counts is included."""
    return {
        "at": snapshot.at,
        "drop_window": snapshot.drop_window,
        "streams": [stream._asdict() for stream in snapshot.streams],
        "workers": [
            {
                **worker._asdict(),
                "drop_ratio": worker.drop_ratio,
                "processing": worker.processing._asdict(),
                "mailboxes": [
                    {**m._asdict(), "dropped": m.dropped, "balance": m.balance, "age": m.age._asdict()}
                    for m in worker.mailboxes
                ],
            }
            for worker in snapshot.workers
        ],
        "arenas": [arena._asdict() for arena in snapshot.arenas],
        "rejected": snapshot.rejected,
        "distribution": snapshot.distribution._asdict(),
    }


def _leases(snapshot: Snapshot) -> str:
    """Who holds slots of shared memory."""
    holders = [f"{w.name} {w.leases}" for w in sorted(snapshot.workers, key=lambda w: -w.leases) if w.leases]
    arenas = [f"{a.stream} {a.bytes / 1e6:.1f} MB, {a.leased} leased, {a.free} free" for a in snapshot.arenas]
    if not arenas:
        return ""
    return f"\nshared memory: {'; '.join(arenas)}" + (f"\nleases held: {', '.join(holders)}" if holders else "")


def _inline(snapshot: Snapshot) -> str:
    """Who gets payloads inline, and which streams send them so, with the reasons."""
    parts = [f"{w.name} ({w.inline_reason})" for w in snapshot.workers if w.inline_reason and w.state != "gone"]
    parts += [f"{count} of {s.name} ({reason})" for s in snapshot.streams for reason, count in sorted(s.inline.items())]
    return "inline: " + ", ".join(parts) if parts else ""


def _stream_row(stream: StreamSnapshot) -> Sequence[str]:
    return (
        stream.name,
        "silent" if stream.silent else "live",
        f"{stream.fps:.1f}",
        str(stream.published),
        str(stream.received),
        str(sum(stream.dropped.values())),
        str(stream.last_seq),
    )


def _worker_rows(
    worker: WorkerSnapshot, seconds: float, taken: Mapping[tuple[str, str], int]
) -> Iterable[Sequence[str]]:
    ratio = worker.drop_ratio
    tail = ("-" if ratio is None else f"{ratio:.1%}", f"{worker.drop_budget:.0%}")
    head = (worker.name, worker.service_class, worker.state)
    if not worker.mailboxes:
        yield (*head, "-", "-", "0", "0", "0", "0", "-", "-", *tail)
    for mailbox in worker.mailboxes:
        yield (
            *head,
            mailbox.stream,
            f"{(mailbox.consumed - taken.get((worker.name, mailbox.stream), 0)) / seconds:.1f}" if seconds > 0 else "-",
            str(mailbox.offered),
            str(mailbox.consumed),
            str(sum(mailbox.dropped.values())),
            str(mailbox.decimated),
            _milliseconds(mailbox.age.quantile(0.5)),
            _milliseconds(mailbox.age.quantile(0.99)),
            *tail,
        )


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.1f} ms"


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Columns of equal width; the first `left` of them aligned to the left."""
    table = [head, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    return [
        "  ".join(
            c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]

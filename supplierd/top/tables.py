"""The tables of streams and workers: which columns a width has room for, and what stands in them.

With room, names and sparklines grow and reasons appear; without, names lose their middle first. Pure.
"""

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from supplierd.core.snapshot import Snapshot, StreamSnapshot
from supplierd.top.layout import BAD, DIM, GOOD, WARNING, Column, View, ago, counts, line, rate, seconds, share, shorten
from supplierd.top.model import HISTORY, RATE_SPAN, History, Row

WIDE: Final = 100
"""Columns from which words are written out."""
MARKS: Final = 2
"""Characters before a name: the selected row, and trouble."""
SPARK: Final = 6
"""Least width of a sparkline."""
REASONS: Final = 22
"""Least width of the reasons: two of them."""
STATES: Final = {"idle": "bold red reverse", "gone": BAD, "starved": "bold yellow", "busy": GOOD, "waiting": GOOD}
"""What a worker may be doing, trouble first, and how it looks."""
_SHORT: Final = {"critical": "crit", "high": "high", "normal": "norm", "best_effort": "best"}


def stream_columns(streams: Sequence[StreamSnapshot], width: int) -> list[Column]:
    """The columns of the streams."""
    longest = max((len(stream.name) for stream in streams), default=0)
    name = max(min(longest, width // 3), len("STREAM"))
    columns = [
        Column("name", "  STREAM", MARKS + name),
        Column("state", "STATE", 6),
        Column("fps", "FPS", 5, right=True),
        Column("received", "RECEIVED", 9, right=True),
        Column("dropped", "DROPPED", 8, right=True),
    ]
    return [*columns, Column("notes", "", max(width - _taken(columns), 0))]


def stream_line(history: History, stream: StreamSnapshot, columns: Sequence[Column]) -> Text:
    """A stream: the totals, and what it lost of late."""
    lost = history.lost(stream)
    cells = {
        "name": Text.assemble(
            ("! " if stream.silent else "  ", WARNING), (shorten(stream.name, columns[0].width - MARKS), "")
        ),
        "state": Text("silent", "bold yellow") if stream.silent else Text("live", GOOD),
        "fps": Text(f"{stream.fps:.1f}"),
        "received": Text(str(stream.received)),
        "dropped": Text(str(sum(stream.dropped.values())), WARNING if lost else ""),
        "notes": _notes(history, stream),
    }
    return line(columns, cells)


def _notes(history: History, stream: StreamSnapshot) -> Text:
    snapshot, lost = history.latest, history.lost(stream)
    assert snapshot is not None
    notes: list[tuple[str, str]] = []
    if stream.silent:
        seen = stream.last_frame_at
        notes.append(("no frame yet" if seen is None else f"last frame {ago(snapshot.at - seen)}", WARNING))
    if lost:
        notes.append((f"{counts(lost)} in {RATE_SPAN:g} s", WARNING))
    for arena in snapshot.arenas:
        if arena.stream == stream.name:
            taken = f"{arena.bytes / 1e6:.0f} MB, {arena.leased} leased, {arena.free} free"
            notes.append((taken, DIM if arena.free else WARNING))
    if stream.inline:
        notes.append((f"inline: {counts(stream.inline)}", DIM))
    return Text("; ").join(Text(*note) for note in notes)


def worker_columns(rows: Sequence[Row], width: int, several_streams: bool, sparks: bool = True) -> list[Column]:
    """The columns of the workers: what is fixed, then names as wide as they are, then sparklines and reasons."""
    wide = width >= WIDE
    about = [Column("class", "CLASS", 11) if wide else Column("class", "CLS", 4), Column("state", "STATE", 7)]
    figures = [
        Column("fps", "FPS", 8 if wide else 7, right=True),
        Column("p50", "p50", 5, right=True),
        Column("p99", "p99", 5, right=True),
        Column("ratio", "DROPS/MAX" if wide else "DROP/MAX", 9 if wide else 8, right=True),
    ]
    worker = max((len(row.worker.name) for row in rows), default=0)
    stream = max((len(row.key[1]) for row in rows), default=0) if several_streams else 0
    worker, stream = max(worker, len("WORKER")), max(stream, len("STREAM")) if stream else 0
    room = width - _taken(about) - _taken(figures) - MARKS - 1 - (stream > 0) - (2 * SPARK + 1 if sparks else 0)
    if worker + stream > room:
        stream = min(stream, max(room // 3, room - worker))
        worker = max(room - stream, len("WORKER"))
    names = [Column("name", "  WORKER", MARKS + worker), *about]
    if stream:
        names.append(Column("stream", "STREAM", stream))
    rest = max(width - _taken(names) - _taken(figures), 0)
    reasons = min(rest - 4 * SPARK, max(REASONS, rest // 3)) if wide else 0
    tail = [Column("reasons", f"DROPPED IN {RATE_SPAN:g} s", reasons)] if reasons > 0 else []
    return [*names, *figures, *(_sparks(rest - _taken(tail)) if sparks else []), *tail]


def _sparks(room: int) -> list[Column]:
    """Two sparklines that share the room; beyond a second each they get no wider."""
    age = min((room - 1) // 2, HISTORY)
    drop = min(room - 1 - age, HISTORY)
    if age < 1:
        return []
    span = f" {HISTORY // 60} min"
    titles = {"ages": "AGE", "drops": "DROPS"}
    widths = {"ages": age, "drops": drop}
    return [Column(k, t + span if widths[k] > len(t + span) else t, widths[k]) for k, t in titles.items()]


def worker_line(view: View, row: Row, columns: Sequence[Column], selected: bool) -> Text:
    """A mailbox of a worker."""
    worker, width = row.worker, {column.key: column.width for column in columns}
    left = worker.state == "gone" and not worker.expected
    over = row.drop_ratio is not None and row.drop_ratio > worker.drop_budget
    short = _SHORT.get(worker.service_class, worker.service_class)
    cells = {
        "name": Text.assemble(
            (">" if selected else " ", "bold"),
            ("!" if row.broken else " ", BAD),
            (shorten(worker.name, width["name"] - MARKS), BAD if row.broken else DIM if left else "bold"),
        ),
        "class": Text(worker.service_class if width["class"] > len(short) else short),
        "state": Text(worker.state, DIM if left else STATES.get(worker.state, "")),
        "stream": Text(shorten(row.key[1] or "-", width.get("stream", 1))),
        "fps": Text(rate(row), WARNING if row.behind else ""),
        "p50": Text(seconds(row.quantile(0.5))),
        "p99": Text(seconds(row.quantile(0.99))),
        "ratio": Text(f"{share(row.drop_ratio)}/{share(worker.drop_budget)}%", BAD if over else ""),
        "reasons": Text(counts(row.reasons), BAD if over else ""),
    }
    if "ages" in width:
        cells |= {"ages": view.ages(row, width["ages"]), "drops": view.drops(row, width["drops"])}
    text = line(columns, cells)
    if selected:
        text.stylize_before("bold on grey23")
    return text


def spark_line(view: View, row: Row, width: int) -> Text:
    """The sparklines of a mailbox on a line of their own."""
    if row.mailbox is None:
        return Text()
    size = max(min((width - len("    age   drops ")) // 2, HISTORY), 1)
    return Text.assemble(("    age ", DIM), view.ages(row, size), ("  drops ", DIM), view.drops(row, size))


def summary(snapshot: Snapshot, rows: Sequence[Row], narrow: bool) -> list[Text]:
    """Who dropped what (where the table has no room for it), who holds shared memory, who gets payloads inline and why,
    and what was refused: a line each, where there is any."""
    droppers = sorted((row for row in rows if row.reasons), key=lambda row: -sum(row.reasons.values()))
    holders = sorted((w for w in snapshot.workers if w.leases), key=lambda w: -w.leases)
    inline = [w for w in snapshot.workers if w.inline_reason and w.state != "gone"]
    found = {
        f"dropped in {RATE_SPAN:g} s": "; ".join(
            f"{row.worker.name} {counts(row.reasons)}" for row in droppers if narrow
        ),
        "slots leased": ", ".join(f"{w.name} {w.leases}" for w in holders),
        "inline": ", ".join(f"{w.name} ({w.inline_reason})" for w in inline),
        "refused": counts(snapshot.rejected),
    }
    return [Text.assemble((f"{name}: ", DIM), (text, "")) for name, text in found.items() if text]


def _taken(columns: Sequence[Column]) -> int:
    return sum(column.width + 1 for column in columns)

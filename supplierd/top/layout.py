"""Lines of a given width: columns, figures, sparklines, and the few styles that there are.

Colours say what matters and never say it alone: without them the words, "!", bold and reverse remain. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from math import ceil
from typing import Final, NamedTuple

from rich.cells import cell_len
from rich.text import Text

from supplierd.top.model import History, Row

BLOCKS: Final = "▁▂▃▄▅▆▇█"
ASCII: Final = "_.:-=+*#"
"""Eight levels of a sparkline; the second for terminals that have no blocks."""
AGE_LEVELS: Final = (0.002, 0.01, 0.035, 0.1, 0.2, 0.5, 1.0)
"""Seconds above which an age is of the next level: the same for every worker, so that lines can be compared."""

HEADING: Final = "bold underline"
BAD: Final = "bold red"
WARNING: Final = "yellow"
GOOD: Final = "green"
DIM: Final = "dim"


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        key: what its cells show.
        title: over them.
        width: in characters of the terminal.
        right: aligned to the right.
    """

    key: str
    title: str
    width: int
    right: bool = False


def shorten(text: str, width: int) -> str:
    """`text`, without its middle where it is too wide: names differ at either end."""
    if cell_len(text) <= width:
        return text
    tail = max(width - 1, 0) // 2
    return text[: max(width - 1 - tail, 0)] + "…" + text[len(text) - tail :]


def line(columns: Sequence[Column], cells: Mapping[str, Text]) -> Text:
    """One line of a table, a space between the columns; what is too wide is cut."""
    found = []
    for column in columns:
        cell = cells[column.key].copy()
        cell.truncate(column.width, overflow="ellipsis")
        padding = " " * (column.width - cell.cell_len)
        found.append(Text.assemble(*((padding, cell) if column.right else (cell, padding))))
    return Text(" ").join(found)


def heading(columns: Sequence[Column], width: int) -> Text:
    """The columns' titles, over the whole width."""
    text = line(columns, {column.key: Text(column.title) for column in columns})
    text.truncate(width, pad=True)
    text.stylize(HEADING)
    return text


def counts(found: Mapping[str, int]) -> str:
    """Such as "3 overwritten, 1 stale"."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(found.items(), key=lambda item: -item[1]))


def seconds(value: float | None) -> str:
    """A time in at most five characters."""
    if value is None:
        return "-"
    if value < 0.00995:
        return f"{value * 1e3:.1f}ms"
    if value < 0.9995:
        return f"{value * 1e3:.0f}ms"
    return f"{value:.1f}s" if value < 99.95 else f"{value:.0f}s"


def ago(passed: float) -> str:
    """A time that has passed, as people say it."""
    if passed < 1:
        return "now"
    if passed < 100:
        return f"{passed:.0f} s ago"
    return f"{passed / 60:.0f} min ago" if passed < 6000 else f"{passed / 3600:.0f} h ago"


def share(value: float | None) -> str:
    """A ratio in per cent, without the sign."""
    if value is None:
        return "-"
    return f"{value:.1%}"[:-1] if 0 < value < 0.0995 else f"{value:.0%}"[:-1]


def rate(row: Row) -> str:
    """Frames a second, and how many of them were promised."""
    fps = "-" if row.fps is None else f"{row.fps:.1f}"
    return f"{fps}/{row.worker.target_fps:.3g}" if row.worker.target_fps else fps


class View(NamedTuple):
    """The sparklines at one moment.

    Attributes:
        history: what they show.
        now: the moment, seconds, monotonic.
        ramp: their eight levels.
    """

    history: History
    now: float
    ramp: str

    def ages(self, row: Row, width: int) -> Text:
        """The greatest p99 of each bin, on the scale of AGE_LEVELS."""
        cells = []
        for found in self.history.bins(row.key, width, self.now):
            age = max((sample.age for sample in found if sample.age is not None), default=None)
            level = 0 if age is None else sum(age > bound for bound in AGE_LEVELS)
            cells.append((" " if age is None else self.ramp[level], BAD if level == len(AGE_LEVELS) else "cyan"))
        return _joined(cells)

    def drops(self, row: Row, width: int) -> Text:
        """The dropped share of each bin, at full height everything, red above the budget."""
        cells = []
        for found in self.history.bins(row.key, width, self.now):
            promised, dropped = sum(s.promised for s in found), sum(s.dropped for s in found)
            ratio = min(dropped / promised, 1.0) if promised else float(dropped > 0)
            style = BAD if ratio > row.worker.drop_budget else DIM
            cells.append((self.ramp[ceil(ratio * (len(self.ramp) - 1))] if found else " ", style))
        return _joined(cells)


def _joined(cells: Iterable[tuple[str, str]]) -> Text:
    """Characters as one text, neighbours of one style together: a style costs more to send than a character."""
    return Text.assemble(
        *(("".join(c for c, _ in run), style) for style, run in groupby(cells, key=lambda cell: cell[1]))
    )

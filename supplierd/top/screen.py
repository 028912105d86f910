"""The whole screen: what is shown of the history, and what each key does.

Trouble comes first: no answer, then broken promises, then the streams, then the workers. A pure state machine: answers
and keys go in, lines of a given size come out; `now` is an argument (seconds, monotonic).
"""

import textwrap
import time
from collections import Counter
from typing import Final

from rich.text import Text

from supplierd.core.snapshot import Snapshot
from supplierd.top import tables
from supplierd.top.detail import detail, guide
from supplierd.top.layout import BAD, BLOCKS, DIM, GOOD, WARNING, View, heading, seconds
from supplierd.top.model import History, Key, Row, Sort, matches, sort

MAX_FILTER: Final = 64
MAX_WHY: Final = 3
"""Lines for why there is no answer."""
MIN_ROWS: Final = 8
"""Rows of the workers' table beside which a detail is shown; with fewer it takes their place."""
DETAIL_LINES: Final = 18
"""Lines of the usual detail: so much room must be left for it to be shown unasked, for whichever worker."""
SPACIOUS: Final = 30
"""Lines from which the tables are set apart."""
_ORDERS: Final = {"c": Sort.CLASS, "n": Sort.NAME, "a": Sort.AGE, "d": Sort.DROPS}
_PAGE: Final = 10
_STEPS: Final = {
    "up": -1, "k": -1, "down": 1, "j": 1, "pageup": -_PAGE, "pagedown": _PAGE, "home": -1_000_000, "end": 1_000_000,
}  # fmt: skip


class Screen:
    """The state of the view.

    Args:
        endpoint: of the daemon's control channel, for people.
        ramp: the eight levels of a sparkline.
    """

    def __init__(self, endpoint: str, ramp: str = BLOCKS) -> None:
        self.history = History()
        self._endpoint = endpoint
        self._ramp = ramp
        self._away: tuple[float, str] | None = None  # since when, and why
        self._order = Sort.CLASS
        self._filter = ""
        self._typing = False
        self._detail: bool | None = None  # None: where there is room for it
        self._detailed = False  # whether it was shown
        self._help = False
        self._selected: Key | None = None
        self._top = 0  # the first row of the workers' table that is shown
        self._shown = ""  # which of the rows are

    def answer(self, snapshot: Snapshot, now: float) -> None:
        """The daemon answered."""
        self.history.add(snapshot, now)
        self._away = None

    def miss(self, why: str, now: float) -> None:
        """It did not."""
        self.history.interrupt()
        self._away = (self._away[0] if self._away else now, why)

    def press(self, key: str) -> None:
        """A key: a character, or a name such as "up", "enter" or "escape"."""
        if self._typing:
            self._type(key)
        elif self._help:
            self._help = False
        elif key == "?":
            self._help = True
        elif key == "/":
            self._typing, self._detail = True, None
        elif key == "s":
            orders = list(Sort)
            self._order = orders[(orders.index(self._order) + 1) % len(orders)]
        elif key in _ORDERS:
            self._order = _ORDERS[key]
        elif key in _STEPS:
            self._move(_STEPS[key])
        elif key == "enter":
            self._detail = not self._detailed
        elif key == "escape":
            self._filter = self._filter if self._detail else ""
            self._detail = False if self._detail else None

    @property
    def quits(self) -> bool:
        """Whether q means quit, not a letter of the filter."""
        return not self._typing

    def lines(self, width: int, height: int, now: float) -> list[Text]:
        """At most `height` lines of at most `width` characters."""
        snapshot = self.history.latest
        head = self._head(width, height, now)
        room = max(height - len(head) - 1, 0)
        rows, self._shown = self._rows(), ""
        if self._help:
            body = guide(width)
        elif snapshot is None:
            body = [Text.assemble(("waiting for the daemon on ", DIM), (self._endpoint, ""))] if not self._away else []
        else:
            body = self._body(snapshot, rows, width, room, now)
            if self._away:
                for text in body:
                    text.stylize(DIM)
        body = body[:room] + [Text()] * (room - len(body))
        found = [*head, *body, self._foot(width)][:height]
        for text in found:
            text.truncate(width, overflow="ellipsis")
        return found

    # --- keys ---------------------------------------------------------------------------------------------------------

    def _type(self, key: str) -> None:
        """A key while the filter is being typed."""
        if key in ("enter", "escape"):
            self._typing = False
            self._filter = self._filter if key == "enter" else ""
        elif key == "backspace":
            self._filter = self._filter[:-1]
        elif len(key) == 1 and len(self._filter) < MAX_FILTER:
            self._filter += key

    def _move(self, step: int) -> None:
        rows = self._rows()
        if rows:
            keys = [row.key for row in rows]
            at = keys.index(self._selected) if self._selected in keys else 0
            self._selected = keys[max(0, min(at + step, len(keys) - 1))]

    def _rows(self) -> list[Row]:
        return sort((row for row in self.history.rows if matches(row, self._filter)), self._order)

    # --- parts --------------------------------------------------------------------------------------------------------

    def _head(self, width: int, height: int, now: float) -> list[Text]:
        """No answer, how the daemon is, and the broken promises."""
        lines = []
        if self._away:
            since, why = self._away
            lines.append(Text(f" NO ANSWER for {now - since:.0f} s ", "bold red reverse"))
            lines += [Text(part, BAD) for part in textwrap.wrap(why, max(width, 20))[:MAX_WHY]]
        snapshot, broken = self.history.latest, self.history.broken
        if snapshot is None:
            return lines
        lines.append(self._overview(snapshot))
        most = max(height // 6, 1)
        shown = broken if len(broken) <= most else broken[: most - 1]
        lines += [Text.assemble(("!", BAD), (f" {violation.text}", BAD)) for violation in shown]
        if len(shown) < len(broken):
            lines.append(Text.assemble((f"! {len(broken) - len(shown)} broken promises more", BAD)))
        return lines

    def _overview(self, snapshot: Snapshot) -> Text:
        states = Counter(worker.state for worker in snapshot.workers)
        silent = sum(stream.silent for stream in snapshot.streams)
        text = Text.assemble(("supplierd", "bold"), time.strftime("  %H:%M:%S", time.localtime(snapshot.at)))
        text.append(f"  {_number(len(snapshot.streams), 'stream')}")
        text.append(f", {silent} silent" if silent else "", WARNING)
        text.append(f"  {_number(len(snapshot.workers), 'worker')}")
        for state, style in tables.STATES.items():
            if states[state]:
                text.append(", ").append(f"{states[state]} {state}", style)
        if not self.history.broken and not self._away:
            text.append("  every promise kept", GOOD)
        sending = self.history.distribution()
        return text.append(f"  sending p99 {seconds(sending.quantile(0.99))}" if sending else "", DIM)

    def _body(self, snapshot: Snapshot, rows: list[Row], width: int, room: int, now: float) -> list[Text]:
        """Streams and workers, with the detail below them or, without room, in their place."""
        view = View(self.history, now, self._ramp)
        chosen = next((row for row in rows if row.key == self._selected), rows[0] if rows else None)
        streams = self._streams(snapshot, rows, width, room // 4)
        streams += [Text()] if room >= SPACIOUS else []
        narrow = width < tables.WIDE
        notes = tables.summary(snapshot, rows, narrow)
        below = [Text(), *detail(view, chosen, width)] if chosen else []
        spare = room - len(streams) - 1 - len(rows) * (1 + narrow) - len(notes) - max(len(below), DETAIL_LINES)
        self._detailed = spare >= 0 if self._detail is None else self._detail
        if not self._detailed:
            below = []
        elif len(streams) + 1 + MIN_ROWS + len(below) > room:
            return below[1:]
        notes = notes[: max(room - len(streams) - 1 - MIN_ROWS - len(below), 0)]
        size = max(room - len(streams) - 1 - len(notes) - len(below), 1)
        tall = narrow and 2 * len(rows) <= size
        columns = tables.worker_columns(rows, width, len(snapshot.streams) > 1, sparks=not tall)
        table = [heading(columns, width)]
        for row in self._window(rows, chosen, size // 2 if tall else size):
            table.append(tables.worker_line(view, row, columns, row is chosen))
            table += [tables.spark_line(view, row, width)] if tall else []
        if not rows:
            why = f"nothing matches {self._filter}" if self._filter else "no worker has joined, none is configured"
            table.append(Text(f"  {why}", DIM))
        return [*streams, *table, *notes, *below]

    def _streams(self, snapshot: Snapshot, rows: list[Row], width: int, most: int) -> list[Text]:
        """The streams, all in order where there is room, else those in trouble first."""
        streams = list(snapshot.streams)
        if self._filter:
            followed = {row.key[1] for row in rows}
            streams = [s for s in streams if s.name in followed or self._filter.lower() in s.name.lower()]
        columns = tables.stream_columns(streams, width)
        most = max(most, 2)
        shown = streams
        if len(streams) > most:
            shown = sorted(streams, key=lambda s: (not s.silent, not self.history.lost(s)))[: most - 1]
        lines = [heading(columns, width), *(tables.stream_line(self.history, s, columns) for s in shown)]
        if len(shown) < len(streams):
            lines.append(Text.assemble((f"  {len(streams) - len(shown)} streams more: / finds them", DIM)))
        return lines

    def _window(self, rows: list[Row], chosen: Row | None, size: int) -> list[Row]:
        """The rows that fit, the chosen one among them."""
        at = next((i for i, row in enumerate(rows) if row is chosen), 0)
        self._top = max(min(self._top, at, len(rows) - size), at - size + 1, 0)
        shown = rows[self._top : self._top + size]
        self._shown = f"{self._top + 1} to {self._top + len(shown)} of {len(rows)}" if len(shown) < len(rows) else ""
        return shown

    def _foot(self, width: int) -> Text:
        if self._typing:
            return Text.assemble(
                ("/", "bold"), (self._filter, ""), (" ", "reverse"), ("  Enter keeps it, Esc ends it", DIM)
            )
        keys = {"q": "quit", "?": "help", "/": "filter", "Enter": "detail", "s": f"order: {self._order}"}
        parts = [part for key, what in keys.items() for part in ((key, "bold"), (f" {what}  ", DIM))]
        if self._filter:
            parts += [("filter: ", DIM), (self._filter, "bold"), ("  Esc", "bold"), (" ends it  ", DIM)]
        text = Text.assemble(*parts)
        text.append(" " * (width - text.cell_len - len(self._shown)) + self._shown, DIM)
        return text


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"

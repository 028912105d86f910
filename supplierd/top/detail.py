"""One worker whole: its terms, its process, and each mailbox with both sides of its ledger; and the help. Pure."""

import textwrap
from typing import Final

from rich.text import Text

from supplierd.core.snapshot import MailboxSnapshot, Snapshot, WorkerSnapshot
from supplierd.table import ledger_line
from supplierd.top.layout import BAD, DIM, GOOD, WARNING, View, ago, counts, rate, seconds, share
from supplierd.top.model import HISTORY, RATE_SPAN, History, Row
from supplierd.top.tables import STATES

_LABEL: Final = 10
"""Width of the labels before the lines."""

KEYS: Final = (
    ("↑ ↓ j k", "select a worker; PgUp, PgDn, Home and End too"),
    ("Enter", "its terms, process and ledger; Enter or Esc goes back"),
    ("s", "next order: class, name, age, drops"),
    ("c n a d", "order by class, name, age (greatest p99 first) or drops (greatest share)"),
    ("/", "filter by words in worker, stream, class, state; Esc ends it"),
    ("q", "quit"),
)
LEGEND: Final = (
    ("FPS", f"frames consumed a second / promised, over {RATE_SPAN:g} s, as are p50 and p99"),
    ("p50 p99", "age: from the frame's capture to its consumption"),
    ("DROP/MAX", "dropped share of the promised frames over the drop window / the budget"),
    ("AGE", f"greatest over {HISTORY // 60} min; a level above each of 2 10 35 100 200 500 ms, 1 s"),
    ("DROPS", "dropped share, full height is everything; red above the budget"),
    ("waiting", "for a frame; busy: has one; idle: takes none though some wait"),
    ("starved", "it waits, and its streams are silent; gone: not connected"),
    ("sending", "from a frame's arrival at the daemon to its last send"),
    ("!", "a broken promise, or a silent stream"),
)


def detail(view: View, chosen: Row, width: int) -> list[Text]:
    """The worker of the chosen row; that row's mailbox first, then its others."""
    history = view.history
    snapshot = history.latest
    assert snapshot is not None
    lines = _worker(history, chosen.worker, snapshot, width)
    own = [row for row in history.rows if row.worker.name == chosen.worker.name]
    for row in sorted(own, key=lambda row: row.key != chosen.key):
        if row.mailbox:
            lines += [Text(), *_mailbox(row, row.mailbox, snapshot, width)]
            size = max(width - _LABEL, 1)
            for label, spark in (("AGE", view.ages(row, size)), ("DROPS", view.drops(row, size))):
                lines.append(Text.assemble((label.ljust(_LABEL), DIM), spark))
    return lines


def guide(width: int) -> list[Text]:
    """What the keys do, and what the columns say."""
    found = [line for key, text in KEYS for line in _entry(key, text, width)]
    return [*found, Text(), *(line for key, text in LEGEND for line in _entry(key, text, width))]


def _worker(history: History, worker: WorkerSnapshot, snapshot: Snapshot, width: int) -> list[Text]:
    ratio, promised = worker.drop_ratio, sum(m.window_promised for m in worker.mailboxes)
    over = ratio is not None and ratio > worker.drop_budget
    fps = f"{worker.target_fps:g} fps promised" if worker.target_fps else "no rate promised"
    dropped = f"{share(ratio)}% of {promised} promised frames" if promised else "no frame was promised"
    budget = f"{dropped} over {snapshot.drop_window:g} s, at most {share(worker.drop_budget)}%"
    known = "in the configuration" if worker.configured else "not in the configuration"
    lines = [
        Text.assemble(
            (worker.name, "bold"), f"  {worker.service_class}  ", (worker.state, STATES.get(worker.state, ""))
        ),
        *_entry("terms", f"{fps}; idle after {worker.idle_after:g} s; {known}", width),
        *_entry("drops", budget, width, BAD if over else ""),
    ]
    if not worker.mailboxes and not worker.client:
        return [*lines, *_entry("process", "none has joined", width)]
    process = f"pid {worker.pid}, {worker.client}; {'push' if worker.push else 'on demand'}"
    inline = f"inline ({worker.inline_reason})" if worker.inline_reason else "in shared memory"
    taken = history.processing(worker)
    pace = "took no frame of late"
    if taken:
        pace = f"p50 {seconds(taken.quantile(0.5))}, p99 {seconds(taken.quantile(0.99))} from frame to next demand"
    return [
        *lines,
        *_entry("process", process, width),
        *_entry("payloads", f"{inline}; slots leased: {worker.leases}", width, WARNING if worker.inline_reason else ""),
        *_entry("computes", pace, width),
    ]


def _mailbox(row: Row, mailbox: MailboxSnapshot, snapshot: Snapshot, width: int) -> list[Text]:
    quantiles = ", ".join(f"p{q} {seconds(row.quantile(q / 100))}" for q in (50, 95, 99))
    last = "none consumed yet"
    if mailbox.last_consumed_at is not None:
        last = f"frame {mailbox.last_consumed_seq} {ago(snapshot.at - mailbox.last_consumed_at)}"
    right = mailbox.offered - mailbox.balance
    verdict = f"{mailbox.offered} = {right}: it adds up"
    if mailbox.balance:
        verdict = f"{mailbox.offered} ≠ {right}: it does NOT add up, tell the authors"
    pace = f"{rate(row)}{', behind its promise' if row.behind else ''}"
    reasons = counts(row.reasons)
    return [
        Text.assemble(("stream".ljust(_LABEL), DIM), (mailbox.stream, "bold")),
        *_entry("fps", pace, width, WARNING if row.behind else ""),
        *_entry("age", f"{quantiles}, over {RATE_SPAN:g} s", width),
        *_entry("last", f"{last}; {mailbox.consecutive_drops} dropped since", width),
        *_entry("missed", f"{reasons or 'none'} in {RATE_SPAN:g} s", width, WARNING if reasons else ""),
        *_entry("ledger", ledger_line(mailbox), width),
        *_entry("", verdict, width, BAD if mailbox.balance else GOOD),
    ]


def _entry(label: str, text: str, width: int, style: str = "") -> list[Text]:
    """A labelled text, wrapped."""
    parts = textwrap.wrap(text, max(width - _LABEL, 20)) or [""]
    labels = [label, *[""] * (len(parts) - 1)]
    return [Text.assemble((name.ljust(_LABEL), DIM), (part, style)) for name, part in zip(labels, parts, strict=True)]

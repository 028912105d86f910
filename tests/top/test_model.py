"""What snapshots say over time: rates and ages of an interval, never negative, whatever the daemon lives through."""

from itertools import pairwise
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from supplierd.core.service import WorkerPolicy
from supplierd.core.snapshot import Snapshot
from supplierd.core.stream import Frame
from supplierd.core.supplier import Supplier
from supplierd.top.model import HISTORY, MAX_TEXT, RATE_SPAN, History, Row, Sort, matches, printable, sort
from tests.core.builders import Camera, Process, picture, report, supplier
from tests.top.pictures import mailbox, snapshot, stream, worker


def fed(*snapshots: Snapshot) -> History:
    """A history of a snapshot a second, from 100 s on."""
    history = History()
    for i, each in enumerate(snapshots):
        history.add(each, 100.0 + i)
    return history


def row(history: History, name: str = "w") -> Row:
    return next(row for row in history.rows if row.worker.name == name)


def test_rates_ages_and_reasons_are_of_the_last_seconds_not_since_the_start() -> None:
    slow = [snapshot(worker("w", mailbox(consumed=i, overwritten=3 * i, slot=12))) for i in range(30)]
    fast = [snapshot(worker("w", mailbox(consumed=30 + 5 * i, overwritten=90, slot=2))) for i in range(30)]
    found = row(fed(*slow))
    assert found.fps == 1.0
    assert found.quantile(0.5) == 1.5  # s: half-way through the bucket of 1 to 2 s
    assert found.reasons == {"overwritten": 3 * RATE_SPAN}
    found = row(fed(*slow, *fast))
    assert found.fps == 5.0
    assert found.quantile(0.99) is not None
    assert found.reasons == {}


def test_one_snapshot_is_not_enough_for_a_rate() -> None:
    found = row(fed(snapshot(worker("w", mailbox(consumed=9)))))
    assert (found.fps, found.age, found.reasons, found.behind) == (None, None, {}, False)


def test_a_worker_that_comes_later_has_its_rate_from_then_on() -> None:
    before = [snapshot()] * 5
    after = [snapshot(worker("w", mailbox(consumed=5 * i))) for i in range(3)]
    assert row(fed(*before, *after)).fps == 5.0


def test_a_worker_without_a_stream_has_a_row() -> None:
    found = row(fed(snapshot(worker("w", state="gone")), snapshot(worker("w", state="gone"))))
    assert found.key == ("w", "")
    assert found.fps is found.drop_ratio is found.quantile(0.5) is None


def test_behind_is_who_takes_less_than_was_promised_and_there() -> None:
    def behind(taken: int, target: float, silent: bool = False) -> bool:
        pictures = [
            snapshot(worker("w", mailbox(consumed=taken * i), target_fps=target), streams=(stream(silent=silent),))
            for i in range(12)
        ]
        return row(fed(*pictures)).behind

    assert behind(4, 5)
    assert not behind(5, 5)
    assert not behind(25, 30)  # the stream has no more
    assert behind(20, 30)
    assert not behind(0, 5, silent=True)
    assert not behind(0, 0.1)  # one frame in ten seconds may be about to come


def test_a_restarted_daemon_begins_a_new_account() -> None:
    history = fed(*[snapshot(worker("w", mailbox(consumed=100 + 5 * i))) for i in range(5)])
    history.add(snapshot(worker("w", mailbox(consumed=3))), 105.0)
    assert row(history).fps is None
    history.add(snapshot(worker("w", mailbox(consumed=8))), 106.0)
    assert row(history).fps == 5.0


def test_after_a_silence_nothing_is_compared_with_what_was_before() -> None:
    history = fed(*[snapshot(worker("w", mailbox(consumed=5 * i))) for i in range(5)])
    history.interrupt()
    history.add(snapshot(worker("w", mailbox(consumed=4000))), 160.0)
    assert row(history).fps is None


def test_a_stream_tells_what_it_lost_of_late() -> None:
    history = fed(*[snapshot(streams=(stream(lost=max(i - 5, 0)),)) for i in range(10)])
    assert history.latest
    assert history.lost(history.latest.streams[0]) == {"overwritten": 4}


def test_orders() -> None:
    workers = [
        worker("b", mailbox(consumed=9, slot=9, window=(10, 1)), service_class="critical"),
        worker("d", mailbox(window=(0, 0)), service_class="high"),
        worker("a", mailbox(consumed=9, slot=2, window=(10, 9))),
        worker("c", mailbox(consumed=9, slot=11, window=(10, 3))),
    ]
    begin = [w._replace(mailboxes=tuple(mailbox() for _ in w.mailboxes)) for w in workers]
    rows = fed(snapshot(*begin), snapshot(*workers)).rows
    assert ["".join(row.worker.name for row in sort(rows, order)) for order in Sort] == ["bdac", "abcd", "cbad", "acbd"]


def test_a_filter_is_words_that_all_match_somewhere() -> None:
    (found,) = fed(snapshot(worker("Fall-Detector", mailbox("hall"), service_class="critical", state="idle"))).rows
    assert all(matches(found, words) for words in ("", "fall", "FALL hall", "crit idle", "  detector  "))
    assert not any(matches(found, words) for words in ("fall gone", "kitchen"))


# --- over random histories of the real core ---------------------------------------------------------------------------

_EVENTS = st.lists(
    st.sampled_from(
        ["frame", "frame", "frame", "skip", "demand", "demand", "crash", "join", "restart", "away", "poll", "poll"]
    ),
    max_size=120,
)


class _Life:
    """A daemon that is polled a moment after each event, with a worker and a camera that outlive it."""

    def __init__(self) -> None:
        self.history, self.now = History(), 0.0
        self.polls: list[Snapshot | None] = []
        self.camera = Camera()
        self.begin()

    def begin(self) -> None:
        self.core: Supplier = supplier({"w": WorkerPolicy(target_fps=5.0, configured=True)})
        self.process = Process(self.core)
        self.process.join(self.now)
        self.held: Any = None

    def do(self, event: str) -> None:
        self.now += 0.07
        if event in ("frame", "skip"):
            self.core.frame(self.camera.shoot(skipped=event == "skip"), self.now)
        elif event == "demand":
            found = self.process.demand(self.now, report(self.held, age=self.now % 1) if self.held else None)
            self.held = found if isinstance(found, Frame) else None
        elif event == "crash" and self.process.worker.connected:
            self.process.crash(self.now)
            self.held = None
        elif event == "join":
            self.process.join(self.now)
            self.held = None
        elif event == "restart":
            self.begin()
        elif event == "away":
            self.history.interrupt()
            self.polls.append(None)
        elif event == "poll":
            self.core.tick(self.now)
            self.polls.append(picture(self.core, self.now))
            self.history.add(self.polls[-1], self.now)  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(_EVENTS)
@example(["frame", "demand", "frame", "poll", "restart", "frame", "frame"])  # promises alone fall
def test_nothing_is_ever_negative(events: list[str]) -> None:
    life = _Life()
    for event in [*events, "poll", "frame", "poll"]:
        life.do(event)
        for row in life.history.rows:
            assert row.fps is None or row.fps >= 0
            assert all(count > 0 for count in row.reasons.values())
            assert row.age is None or min(row.age.counts) >= 0
        for sample in (s for found in life.history.bins(("w", "cam-1"), 60, life.now) for s in found):
            assert sample.dropped >= 0
            assert sample.promised >= 0
    assert life.history.rows


@settings(max_examples=150, deadline=None)
@given(_EVENTS)
def test_the_samples_add_up_to_what_the_ledgers_grew_by(events: list[str]) -> None:
    """Between two polls of one life each drop is in one sample: nothing is shown twice, nothing is left out."""
    life = _Life()
    for event in [*(e for e in events if e != "restart"), "poll"]:
        life.do(event)
    dropped = 0
    for old, new in pairwise(life.polls):
        before = {m.stream: m for w in old.workers for m in w.mailboxes} if old else {}
        for found in [m for w in new.workers for m in w.mailboxes] if new else []:
            if found.stream in before:
                dropped += sum(found.dropped.values()) - sum(before[found.stream].dropped.values())
    shown = [s for found in life.history.bins(("w", "cam-1"), HISTORY, life.now) for s in found]
    assert sum(sample.dropped for sample in shown) == dropped


@given(st.integers(1, 400), st.integers(0, 400))
def test_each_sample_is_in_one_bin_and_stays_there(width: int, later: int) -> None:
    history = fed(*[snapshot(worker("w", mailbox(consumed=i))) for i in range(50)])
    key = ("w", "cam-1")
    now = history.bins(key, width, 149.0)
    assert len(now) <= width
    assert len(now) * -(-HISTORY // width) >= HISTORY
    assert sum(map(len, now)) == 49
    then = history.bins(key, width, 149.0 + later)
    kept = [found for found in then if found]
    assert kept == [found for found in now if found][len([f for f in now if f]) - len(kept) :]


def test_who_is_gone_for_long_is_forgotten() -> None:
    history = fed(*[snapshot(worker("w", mailbox(consumed=i))) for i in range(5)])
    for i in range(HISTORY + 5):
        history.add(snapshot(), 105.0 + i)
    assert not any(history.bins(("w", "cam-1"), 400, 105.0))


# --- texts of others --------------------------------------------------------------------------------------------------

_DATA = st.recursive(
    st.none() | st.integers() | st.text() | st.text("\x1b\x9b\x07\u202e\u200b[31m]8;;", min_size=1, max_size=400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


def _texts(data: Any) -> list[str]:
    if isinstance(data, str):
        return [data]
    if isinstance(data, dict):
        return [text for pair in data.items() for part in pair for text in _texts(part)]
    return [text for part in data for text in _texts(part)] if isinstance(data, list) else []


@given(_DATA)
def test_every_text_becomes_printable_and_short(data: Any) -> None:
    assert all(text.isprintable() and len(text) <= MAX_TEXT for text in _texts(printable(data)))


@given(st.text("abc ÄÖß.-_0123", max_size=MAX_TEXT))
def test_what_is_printable_stays(text: str) -> None:
    assert printable({"a": [text]}) == {"a": [text]}

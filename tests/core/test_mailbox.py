"""One mailbox: overwriting, taking, putting back, settling, and which frame a session starts with."""

import pytest

from supplierd.core.ledger import DISCARD_REASONS
from supplierd.core.mailbox import UNSEEN, Mailbox
from supplierd.core.stream import Frame, Stream
from tests.core.builders import frame, report


class Box:
    """A mailbox whose stream takes what is put into it."""

    def __init__(self, target_fps: float | None = None) -> None:
        self.stream = Stream("cam-1")
        self.mailbox = Mailbox(self.stream, window=3)
        self.mailbox.promise(target_fps)
        self.seq = 0

    def put(self, now: float = 0.0) -> Frame:
        self.seq += 1
        newest = frame(self.seq)
        assert self.stream.accept(newest, now, born_here=True) is None
        self.mailbox.offer(newest, now)
        self.check()
        return newest

    def check(self) -> None:
        box, ledger = self.mailbox, self.mailbox.ledger
        assert ledger.balance == 0
        assert ledger.pending == (box.pending is not None)
        assert ledger.in_flight == (box.in_flight is not None)


@pytest.fixture
def box() -> Box:
    return Box()


def test_a_newer_frame_replaces_the_pending_one(box: Box) -> None:
    box.put(now=1.0)
    newest = box.put(now=2.0)
    assert box.mailbox.pending is newest
    assert box.mailbox.pending_since == 1.0  # frames have been waiting since then
    assert (box.mailbox.ledger.offered, box.mailbox.ledger.overwritten) == (2, 1)
    assert box.mailbox.consecutive_drops == 1


def test_taking_moves_it_under_way(box: Box) -> None:
    newest = box.put()
    assert box.mailbox.take(3.0) is newest
    box.check()
    assert (box.mailbox.pending, box.mailbox.in_flight) == (None, newest)
    assert box.mailbox.last_served_at == 3.0
    later = box.put()
    assert (box.mailbox.pending, box.mailbox.in_flight) == (later, newest)


def test_a_frame_consumed_ends_the_row_of_drops(box: Box) -> None:
    for _ in range(5):
        box.put()
    assert box.mailbox.consecutive_drops == 4
    box.mailbox.take(0.0)
    box.mailbox.settle("consumed")
    box.check()
    assert (box.mailbox.consecutive_drops, box.mailbox.last_consumed_seq) == (0, 5)


@pytest.mark.parametrize("reason", DISCARD_REASONS)
def test_each_other_end_is_a_drop_but_leaving(box: Box, reason: str) -> None:
    box.put()
    box.mailbox.take(0.0)
    box.put()
    box.mailbox.settle(reason)
    box.mailbox.clear(reason)
    box.mailbox.clear(reason)  # nothing is pending any more
    box.check()
    assert box.mailbox.ledger.discarded == {reason: 2}
    assert box.mailbox.consecutive_drops == box.mailbox.ledger.dropped == (0 if reason == "left" else 2)


def test_frames_of_a_gone_worker_are_drops(box: Box) -> None:
    for seq in (1, 2, 3):
        box.mailbox.miss(frame(seq), 1.0)
        box.check()
    assert box.mailbox.ledger.discarded == {"disconnected": 2}, "the newest waits for its return"
    assert (box.mailbox.consecutive_drops, box.mailbox.ledger.pending) == (2, 1)


def test_holds_compares_epoch_and_seq(box: Box) -> None:
    taken = box.put()
    assert not box.mailbox.holds(report(taken))
    box.mailbox.take(0.0)
    assert box.mailbox.holds(report(taken))
    assert not box.mailbox.holds(report(taken)._replace(seq=2))
    assert not box.mailbox.holds(report(taken)._replace(epoch=2))


def test_put_back_leaves_everything_as_it_was_before_the_take() -> None:
    box = Box(target_fps=1.0)
    names = [name for name in Mailbox.__slots__ if name not in ("_before", "ledger")]
    box.put(now=0.0)
    box.mailbox.take(0.0)
    box.mailbox.settle("consumed")
    box.put(now=1.0)
    before = {name: getattr(box.mailbox, name) for name in names}
    for attempt in range(5):
        box.mailbox.take(1.0 + attempt)
        box.mailbox.put_back()
        box.check()
        assert {name: getattr(box.mailbox, name) for name in names} == before


# --- the frame that a session starts with ---------------------------------------------------------------------------


def test_a_session_starts_with_the_newest_frame(box: Box) -> None:
    box.mailbox.start(0.0)
    assert box.mailbox.pending is None  # the stream has none
    newest = frame(7)
    box.stream.accept(newest, 0.0, born_here=True)
    box.mailbox.start(0.0)
    box.mailbox.start(0.0)
    box.check()
    assert box.mailbox.pending is newest
    assert box.mailbox.ledger.offered == 1


def test_but_not_with_one_that_its_worker_had(box: Box) -> None:
    box.put()
    box.mailbox.take(0.0)
    box.mailbox.settle("consumed")
    box.mailbox.start(0.0)
    assert box.mailbox.pending is None
    box.mailbox.forget()
    box.mailbox.start(0.0)
    assert box.mailbox.pending is not None


@pytest.mark.parametrize("reason", DISCARD_REASONS)
def test_a_frame_that_was_not_seen_is_offered_again(box: Box, reason: str) -> None:
    box.put()
    box.mailbox.take(0.0)
    box.mailbox.settle(reason)
    box.mailbox.start(0.0)
    box.check()
    assert (box.mailbox.pending is not None) == (reason in UNSEEN)


def test_a_report_says_that_it_was_seen_after_all(box: Box) -> None:
    lost = box.put()
    box.mailbox.take(0.0)
    box.mailbox.settle("disconnected")
    box.mailbox.remember(report(lost))
    box.mailbox.start(0.0)
    assert box.mailbox.pending is None


# --- the promise ----------------------------------------------------------------------------------------------------


def test_without_a_promise_every_frame_is_owed(box: Box) -> None:
    for _ in range(3):
        box.put(now=0.0)
        assert box.mailbox.ready(0.0)
    assert box.mailbox.ledger.decimated == 0


def test_what_is_replaced_before_it_is_due_is_decimated_and_afterwards_dropped() -> None:
    box = Box(target_fps=1.0)
    box.put(now=0.0)
    box.mailbox.take(0.0)
    box.mailbox.settle("consumed")
    for now in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        box.put(now)
        assert not box.mailbox.ready(now)
    assert (box.mailbox.ledger.decimated, box.mailbox.ledger.overwritten) == (8, 0)
    box.put(now=1.0)
    assert box.mailbox.ready(1.0)
    box.put(now=1.1)
    assert (box.mailbox.ledger.decimated, box.mailbox.ledger.overwritten) == (9, 1)
    assert box.mailbox.ledger.promised == 3  # the one consumed, the one dropped and the one pending


def test_half_an_interval_early_is_on_time() -> None:
    box = Box(target_fps=2.5)
    box.put(now=0.0)
    box.mailbox.take(0.0)
    for now, owed in ((0.1, False), (0.2, False), (0.3, False), (0.36, True)):
        box.put(now)
        assert box.mailbox.owed == owed


def test_a_frame_in_place_of_a_stale_one_does_not_use_up_the_next_turn() -> None:
    box = Box(target_fps=1.0)
    box.put(now=0.0)
    box.mailbox.take(0.0)
    box.put(now=0.1)
    box.mailbox.settle("stale")
    box.mailbox.take(0.1)
    box.mailbox.settle("consumed")
    for tenth in range(2, 10):
        box.put(now=tenth / 10)
        assert not box.mailbox.owed
    box.put(now=1.0)
    assert box.mailbox.owed


def test_the_window_covers_the_last_samples() -> None:
    box = Box()
    for second in range(10):
        box.put()
        assert box.mailbox.windowed() == (min(second, 3) + 1, min(second, 3 if second < 4 else 4))
        box.mailbox.sample()

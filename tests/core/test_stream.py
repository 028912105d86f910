"""Epochs, sequence numbers and gaps: which frames a stream takes, and how it accounts for those it never saw."""

import pytest

from supplierd.core.ledger import INBOX_DROP_REASONS
from supplierd.core.stream import MAX_PUBLISHED, REFUSALS, RETIRED_EPOCHS, Stream
from tests.core.builders import BOOT, OTHER_BOOT, frame

FIRST, SECOND, THIRD = 100, 200, 300


def accept(
    stream: Stream,
    seq: int,
    epoch: int = FIRST,
    now: float = 0.0,
    *,
    boot: bytes = BOOT,
    unsent: int = 0,
    born_here: bool = True,
) -> str | None:
    refused = stream.accept(frame(seq, epoch=epoch, boot=boot, unsent=unsent), now, born_here)
    assert stream.ledger.balance == 0
    assert refused is None or refused in REFUSALS
    return refused


def counts(stream: Stream) -> tuple[int, int, dict[str, int]]:
    ledger = stream.ledger
    assert set(ledger.dropped) == set(INBOX_DROP_REASONS)
    return ledger.published, ledger.received, {reason: n for reason, n in ledger.dropped.items() if n}


def test_before_the_first_frame() -> None:
    stream = Stream("cam-1")
    assert (stream.epoch, stream.last_seq, stream.newest, stream.last_frame_at) == (0, 0, None, None)
    assert counts(stream) == (0, 0, {})


def test_frames_in_order() -> None:
    stream = Stream("cam-1")
    for seq in (1, 2, 3):
        assert accept(stream, seq, now=float(seq)) is None
    assert (stream.epoch, stream.last_seq, stream.last_frame_at) == (FIRST, 3, 3.0)
    assert stream.newest is not None
    assert stream.newest.seq == 3
    assert counts(stream) == (3, 3, {})


def test_an_overtaken_or_repeated_frame_is_refused_and_was_counted_already() -> None:
    stream = Stream("cam-1")
    accept(stream, 3, now=1.0)
    for seq in (1, 2, 3):
        assert accept(stream, seq, now=2.0) == "old_seq"
    assert counts(stream) == (3, 1, {"overwritten": 2})
    assert stream.last_frame_at == 1.0


# --- gaps -----------------------------------------------------------------------------------------------------------


def test_a_gap_is_what_was_overwritten_on_the_way() -> None:
    stream = Stream("cam-1")
    accept(stream, 1)
    accept(stream, 5)
    assert counts(stream) == (5, 2, {"overwritten": 3})


def test_of_a_gap_what_the_publisher_could_not_send_was_disconnected() -> None:
    stream = Stream("cam-1")
    accept(stream, 1)
    accept(stream, 10, unsent=6)
    assert counts(stream) == (10, 2, {"overwritten": 2, "disconnected": 6})
    accept(stream, 12, unsent=6)  # unsent counts over the epoch: nothing new
    assert counts(stream) == (12, 3, {"overwritten": 3, "disconnected": 6})
    accept(stream, 15, unsent=7)
    assert counts(stream) == (15, 4, {"overwritten": 4, "disconnected": 7})


def test_a_publisher_cannot_have_failed_to_send_more_than_the_gap() -> None:
    stream = Stream("cam-1")
    accept(stream, 1)
    accept(stream, 3, unsent=2**64 - 1)
    assert counts(stream) == (3, 2, {"disconnected": 1})
    accept(stream, 6, unsent=0)  # nor can the count go down
    assert counts(stream) == (6, 3, {"disconnected": 1, "overwritten": 2})
    accept(stream, 7, unsent=2**64 - 1)
    assert counts(stream) == (7, 4, {"disconnected": 1, "overwritten": 2})


def test_an_epoch_born_under_this_daemon_is_accounted_for_from_its_first_frame() -> None:
    stream = Stream("cam-1")
    accept(stream, 8, unsent=2)
    assert counts(stream) == (8, 1, {"overwritten": 5, "disconnected": 2})


def test_an_epoch_older_than_this_daemon_is_joined_where_it_is() -> None:
    stream = Stream("cam-1")
    accept(stream, 1000, unsent=40, born_here=False)
    assert counts(stream) == (1, 1, {})
    accept(stream, 1005, unsent=41, born_here=False)
    assert counts(stream) == (6, 2, {"overwritten": 3, "disconnected": 1})


def test_unless_its_publisher_says_that_nobody_received_anything_yet() -> None:
    stream = Stream("cam-1")
    accept(stream, 1000, unsent=999, born_here=False)
    assert counts(stream) == (1000, 1, {"disconnected": 999})


def test_a_first_frame_needs_no_account() -> None:
    stream = Stream("cam-1")
    accept(stream, 1, born_here=False)
    assert counts(stream) == (1, 1, {})


@pytest.mark.parametrize("born_here", [True, False])
def test_numbers_that_no_publisher_reaches_are_refused_and_change_nothing(born_here: bool) -> None:
    stream = Stream("cam-1")
    accept(stream, 5)
    for epoch in (FIRST, SECOND):
        for seq in (MAX_PUBLISHED, 2**64 - 1):
            assert accept(stream, seq, epoch, born_here=born_here) == "implausible_seq"
    assert (stream.epoch, stream.last_seq) == (FIRST, 5)
    assert counts(stream) == (5, 1, {"overwritten": 4})


def test_counts_stay_exact_as_floats_whatever_is_sent() -> None:
    stream = Stream("cam-1")
    for epoch in range(100):
        accept(stream, MAX_PUBLISHED // 10, FIRST + epoch, unsent=2**64 - 1)
    assert stream.ledger.published <= MAX_PUBLISHED
    assert float(stream.ledger.published) == stream.ledger.published


# --- epochs ---------------------------------------------------------------------------------------------------------


def test_a_restart_begins_a_new_epoch() -> None:
    stream = Stream("cam-1")
    accept(stream, 9, FIRST)
    assert accept(stream, 1, SECOND) is None
    assert (stream.epoch, stream.last_seq) == (SECOND, 1)
    assert counts(stream) == (10, 2, {"overwritten": 8})


def test_stragglers_of_the_epoch_before_are_refused_and_counted_once() -> None:
    stream = Stream("cam-1")
    accept(stream, 3, FIRST)
    accept(stream, 1, SECOND)
    assert accept(stream, 5, FIRST, unsent=1) == "old_epoch"
    assert counts(stream) == (6, 2, {"overwritten": 2, "disconnected": 1, "old_epoch": 1})
    for seq in (1, 3, 4, 5):
        assert accept(stream, seq, FIRST) == "old_epoch"
    assert counts(stream) == (6, 2, {"overwritten": 2, "disconnected": 1, "old_epoch": 1})
    assert (stream.epoch, stream.last_seq) == (SECOND, 1)


def test_an_earlier_epoch_that_was_never_seen_is_refused_too() -> None:
    stream = Stream("cam-1")
    accept(stream, 1, SECOND)
    assert accept(stream, 70, FIRST, unsent=3) == "old_epoch"
    assert counts(stream) == (2, 1, {"old_epoch": 1})
    assert accept(stream, 73, FIRST, unsent=4) == "old_epoch"
    assert counts(stream) == (5, 1, {"old_epoch": 2, "disconnected": 1, "overwritten": 1})
    assert accept(stream, 2, SECOND) is None


def test_two_publishers_that_overlap_the_later_start_wins_for_good() -> None:
    stream = Stream("cam-1")
    new = 0
    for old in range(1, 11):
        assert accept(stream, old, FIRST) == ("old_epoch" if new else None)
        if old >= 5:
            new += 1
            assert accept(stream, new, SECOND) is None
    assert counts(stream) == (16, 11, {"old_epoch": 5})


def test_another_boot_that_was_not_seen_before_is_later_whatever_its_clock_says() -> None:
    stream = Stream("cam-1")
    accept(stream, 1, SECOND)
    assert accept(stream, 1, FIRST, boot=OTHER_BOOT, born_here=False) is None
    assert stream.epoch == FIRST
    assert accept(stream, 2, SECOND) == "old_epoch"
    assert accept(stream, 2, FIRST, boot=OTHER_BOOT, born_here=False) is None
    assert accept(stream, 1, THIRD) is None  # a new run on the first machine: it was not seen before
    assert accept(stream, 3, FIRST, boot=OTHER_BOOT, born_here=False) == "old_epoch"


def test_the_same_number_of_another_boot_is_another_epoch() -> None:
    stream = Stream("cam-1")
    accept(stream, 5, FIRST)
    assert accept(stream, 1, FIRST, boot=OTHER_BOOT, born_here=False) is None
    assert accept(stream, 6, FIRST) == "old_epoch"


def test_an_unseen_run_is_old_also_where_another_boot_has_the_stream_by_now() -> None:
    stream = Stream("cam-1")
    accept(stream, 1, SECOND)
    accept(stream, 1, FIRST, boot=OTHER_BOOT, born_here=False)
    assert accept(stream, 1, FIRST) == "old_epoch"
    assert stream.newest is not None
    assert stream.newest.boot == OTHER_BOOT


def test_earlier_epochs_are_remembered_up_to_a_number() -> None:
    stream = Stream("cam-1")
    for epoch in range(RETIRED_EPOCHS + 2):
        accept(stream, 4, FIRST + epoch)
    assert len(stream._retired) == RETIRED_EPOCHS
    for epoch in range(RETIRED_EPOCHS + 1):
        assert accept(stream, 4, FIRST + epoch) == "old_epoch"
    for epoch in range(3 * RETIRED_EPOCHS):  # a flood of unseen ones
        assert accept(stream, 1, epoch) == "old_epoch"
    assert len(stream._retired) == RETIRED_EPOCHS
    assert accept(stream, 5, FIRST + RETIRED_EPOCHS + 1) is None


# --- pace -----------------------------------------------------------------------------------------------------------


def test_the_interval_follows_the_frames() -> None:
    stream = Stream("cam-1")
    accept(stream, 1, now=5.0)
    assert stream.interval == 0.0
    accept(stream, 2, now=5.1)
    assert stream.interval == pytest.approx(0.1)
    now = 5.1
    for seq in range(3, 13):
        now += 0.05
        accept(stream, seq, now=now)
    assert stream.interval == pytest.approx(0.05, rel=0.12)


def test_lost_frames_are_not_taken_for_a_slower_camera() -> None:
    stream = Stream("cam-1")
    for seq in (1, 2, 5, 9):
        accept(stream, seq, now=0.1 * seq)
    assert stream.interval == pytest.approx(0.1)


def test_a_pause_does_not_pass_for_the_pace() -> None:
    stream = Stream("cam-1")
    now = 0.0
    for seq in range(1, 11):
        now = 0.1 * seq
        accept(stream, seq, now=now)
    accept(stream, 11, now=now + 3600)
    assert stream.interval == pytest.approx(0.1 * 1.6)
    for seq in range(12, 27):
        now += 0.1
        accept(stream, seq, now=now + 3600)
    assert stream.interval == pytest.approx(0.1, rel=0.03)


def test_nor_does_the_time_between_two_runs() -> None:
    stream = Stream("cam-1")
    for seq in (1, 2, 3):
        accept(stream, seq, FIRST, now=0.1 * seq)
    accept(stream, 1, SECOND, now=50.0)
    assert stream.interval == pytest.approx(0.1)
    accept(stream, 2, SECOND, now=50.1)
    assert stream.interval == pytest.approx(0.1)


def test_refused_frames_say_nothing_about_the_pace() -> None:
    stream = Stream("cam-1")
    for seq in (1, 2, 3):
        accept(stream, seq, SECOND, now=0.1 * seq)
    accept(stream, 3, SECOND, now=7.0)
    accept(stream, 9, FIRST, now=8.0)
    assert stream.interval == pytest.approx(0.1)
    assert stream.last_frame_at == pytest.approx(0.3)


def test_reasons_for_inline_frames_are_counted() -> None:
    stream = Stream("cam-1")
    for seq, reason in enumerate(("small", "", "off", "small"), start=1):
        stream.accept(frame(seq)._replace(inline=reason), 0.0, born_here=True)
    stream.accept(frame(1)._replace(inline="small"), 0.0, born_here=True)
    assert stream.inline == {"small": 2, "off": 1}

"""The arithmetic of the capture client: due times, thinning, back-off, rate-limited reports. No clock runs here."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from supplierd_client.capture.pacing import (
    FIRST_DELAY,
    GAP_SECONDS,
    HEALTHY_SECONDS,
    JITTER,
    LONGEST_DELAY,
    RESYNC_SECONDS,
    Backoff,
    FilePacer,
    LogLimit,
    RateLimit,
)


def test_frames_are_due_at_their_presentation_times() -> None:
    pacer = FilePacer()
    assert [pacer.due(pts, 100.0) for pts in (5.0, 5.04, 5.08, 6.0)] == pytest.approx([100.0, 100.04, 100.08, 101.0])


def test_a_long_film_does_not_drift() -> None:
    pacer = FilePacer()
    due = 0.0
    for number in range(200_000):
        answer = pacer.due(number / 25, due + 0.001)  # each frame is asked for a little late
        assert answer is not None
        due = answer
    assert due == pytest.approx(199_999 / 25 + 0.001)


def test_a_film_that_begins_anew_goes_on_one_interval_later() -> None:
    pacer = FilePacer()
    dues = [pacer.due(pts, 0.0) for _ in range(3) for pts in (0.0, 0.1, 0.2)]
    assert dues == pytest.approx([number / 10 for number in range(9)])


def test_frames_without_a_time_follow_at_the_last_interval() -> None:
    pacer = FilePacer()
    assert [pacer.due(pts, 0.0) for pts in (0.0, 0.1, None, None, 0.4)] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert [FilePacer().due(None, 3.0)] == [3.0]


@pytest.mark.parametrize("jump", [GAP_SECONDS + 1, 3600.0, 1e11])
def test_nobody_waits_for_a_gap_in_the_time_stamps(jump: float) -> None:
    pacer = FilePacer()
    dues = [pacer.due(pts, 0.0) for pts in (0.0, 0.1, 0.1 + jump, 0.2 + jump, 0.2 + 2 * jump)]
    assert dues == pytest.approx([0.0, 0.1, 0.1 + GAP_SECONDS, 0.2 + GAP_SECONDS, 0.2 + 2 * GAP_SECONDS], abs=1e-3)


def test_a_frame_is_skipped_when_its_successor_is_due() -> None:
    pacer = FilePacer()
    assert pacer.due(0.0, 0.0) == 0.0
    assert pacer.due(0.1, 0.15) == pytest.approx(0.1)  # late, but still the newest
    assert pacer.due(0.2, 0.35) is None
    assert pacer.due(0.3, 0.36) == pytest.approx(0.3)
    assert pacer.resyncs == 0


def test_a_long_stop_moves_the_timeline_instead_of_skipping_all_of_it() -> None:
    pacer = FilePacer()
    pacer.due(0.0, 0.0)
    late = 0.1 + RESYNC_SECONDS + 4.0
    assert pacer.due(0.1, late) == late
    assert pacer.due(0.2, late) == pytest.approx(late + 0.1)
    assert pacer.resyncs == 1


def test_decoding_slower_than_the_pace_still_delivers() -> None:
    pacer, now, delivered = FilePacer(), 0.0, 0
    for number in range(1000):
        delivered += pacer.due(number / 25, now) is not None
        now += 2 / 25
    assert delivered > 100
    assert pacer.resyncs > 50


@pytest.mark.parametrize(
    ("source", "limit", "taken"), [(25, 25, 250), (25, 10, 100), (30, 25, 250), (25, 50, 250), (30, 1, 10)]
)
def test_a_rate_limit_takes_its_share_evenly(source: float, limit: float, taken: int) -> None:
    rate = RateLimit(limit)
    times = [number / source for number in range(int(10 * source)) if rate.accepts(number / source)]
    assert len(times) == taken
    assert max(later - earlier for earlier, later in pairwise(times)) < 1 / limit + 1 / source


@given(st.lists(st.floats(0, 0.2), min_size=2, max_size=200), st.floats(1, 60))
def test_a_rate_limit_is_never_exceeded(gaps: list[float], fps: float) -> None:
    rate, now, taken = RateLimit(fps), 0.0, []
    for gap in gaps:
        now += gap
        if rate.accepts(now):
            taken.append(now)
    span = taken[-1] - taken[0]
    assert len(taken) <= span * fps + 1.25 + 1e-6


def test_without_a_rate_limit_everything_passes() -> None:
    rate = RateLimit(None)
    assert all(rate.accepts(at) for at in (0.0, 0.0, 0.001, 5.0))


def test_delays_double_up_to_the_longest() -> None:
    backoff = Backoff(lambda: 0.0)
    assert [backoff.failure() for _ in range(7)] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_jitter_only_lengthens_and_is_bounded() -> None:
    assert Backoff(lambda: 1.0).failure() == FIRST_DELAY * (1 + JITTER)
    backoff = Backoff(lambda: 1.0)
    assert max(backoff.failure() for _ in range(50)) == LONGEST_DELAY * (1 + JITTER)


@pytest.mark.parametrize(("lasted", "expected"), [(HEALTHY_SECONDS, FIRST_DELAY), (HEALTHY_SECONDS - 0.1, 4.0)])
def test_only_a_healthy_connection_resets_the_delay(lasted: float, expected: float) -> None:
    backoff = Backoff(lambda: 0.0)
    for _ in range(3):
        backoff.failure()
    backoff.frame(100.0)
    backoff.frame(100.0 + lasted)
    assert backoff.failure() == expected


def test_short_connections_do_not_add_up_to_a_healthy_one() -> None:
    backoff = Backoff(lambda: 0.0)
    delays = []
    for start in range(0, 40, 10):
        backoff.frame(float(start))
        delays.append(backoff.failure())
    assert delays == [0.5, 1.0, 2.0, 4.0]


def test_repeating_events_are_reported_once_a_second_and_all_of_them() -> None:
    limit = LogLimit()
    assert [limit.count(at) for at in (0.0, 0.1, 0.9, 1.0, 1.1, 5.0)] == [1, 0, 0, 3, 0, 2]

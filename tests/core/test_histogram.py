"""Buckets and quantiles."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supplierd.core.histogram import AGE_BOUNDS, DISTRIBUTION_BOUNDS, PROCESSING_BOUNDS, Histogram

BOUNDS = (0.001, 0.01, 0.1, 1.0)
ROUNDING = 1 + 1e-12
values = st.floats(-1, 3) | st.sampled_from(BOUNDS)


def filled(*observed: float) -> Histogram:
    histogram = Histogram(BOUNDS)
    for value in observed:
        histogram.observe(value)
    return histogram


def test_a_value_falls_into_the_first_bucket_that_is_large_enough() -> None:
    histogram = filled(0.0, 0.001, 0.0011, 0.5, 1.0, 1.5, 1e9)
    assert histogram.snapshot().counts == (2, 1, 0, 2, 2)
    assert histogram.snapshot().total == pytest.approx(1e9 + 3.0021)


def test_a_clock_behind_another_counts_as_nothing() -> None:
    snapshot = filled(-5.0).snapshot()
    assert snapshot.counts == (1, 0, 0, 0, 0)
    assert snapshot.total == 0.0


def test_a_snapshot_stays_as_it_was() -> None:
    histogram = filled(0.5)
    before = histogram.snapshot()
    histogram.observe(0.5)
    assert before.counts == (0, 0, 0, 1, 0)
    assert before.total == 0.5


def test_quantiles() -> None:
    assert filled().snapshot().quantile(0.5) is None
    four = filled(0.05, 0.05, 0.05, 0.05).snapshot()
    assert four.quantile(0.0) == pytest.approx(0.01)
    assert four.quantile(0.5) == pytest.approx(0.055)
    assert four.quantile(1.0) == pytest.approx(0.1)
    assert filled(7.0).snapshot().quantile(0.5) == 1.0  # all that is known: more than the last bound
    assert filled(0.0005, 7.0).snapshot().quantile(0.5) == pytest.approx(0.001)


@settings(deadline=None)
@given(observed=st.lists(values, min_size=1, max_size=30), q=st.floats(0, 1))
def test_a_quantile_lies_in_the_bucket_of_the_value_it_stands_for(observed: list[float], q: float) -> None:
    quantile = filled(*observed).snapshot().quantile(q)
    rank = min(int(q * len(observed)), len(observed) - 1)
    exact = max(sorted(observed)[rank], 0.0)
    low = max((b for b in BOUNDS if b < exact), default=0.0)
    high = min((b for b in BOUNDS if b >= exact), default=BOUNDS[-1])
    below = sorted(observed)[max(rank - 1, 0)]
    assert quantile is not None
    assert min(low, max((b for b in BOUNDS if b < below), default=0.0)) <= quantile <= high * ROUNDING


@settings(deadline=None)
@given(observed=st.lists(values, min_size=1, max_size=30), q=st.floats(0, 1), more=st.floats(0, 1))
def test_quantiles_are_in_order(observed: list[float], q: float, more: float) -> None:
    snapshot = filled(*observed).snapshot()
    low, high = snapshot.quantile(min(q, more)), snapshot.quantile(max(q, more))
    assert low is not None
    assert high is not None
    assert low <= high * ROUNDING


@pytest.mark.parametrize("bounds", [AGE_BOUNDS, PROCESSING_BOUNDS, DISTRIBUTION_BOUNDS])
def test_bounds_rise(bounds: tuple[float, ...]) -> None:
    assert list(bounds) == sorted(set(bounds))
    assert bounds[0] > 0

"""When a frame is suspected to have waited in a socket: by its stream's own pace, learned from the frames before."""

import random

import pytest
from supplierd_client.pace import PACE_MARGIN
from supplierd_client.session import Verdict
from supplierd_client.turn import State

from supplierd.wire import control
from tests.client.scripted import FRESH, INTERVAL, STALE, Scripted


def takes(scripted: Scripted, age: float, skip: int = 0) -> bool:
    """The user reads and a frame of this age comes; whether it was taken without asking again (after it, it is)."""
    scripted.asks()
    if scripted.gets(age, skip=skip) is Verdict.TAKE:
        return True
    recheck = scripted.sends()
    assert isinstance(recheck, control.Recheck)
    scripted.hears(control.Newest(recheck.number))
    assert scripted.session.take_held(age, scripted.now)
    return False


def test_the_first_frames_are_taken_as_they_are() -> None:
    scripted = Scripted().joined()
    assert takes(scripted, STALE)
    assert takes(scripted, STALE)


def test_a_frame_that_waited_while_the_process_was_stopped_is_suspected() -> None:
    scripted = Scripted().paced()
    assert not takes(scripted, STALE)


def test_a_frame_within_its_streams_interval_is_never_suspected() -> None:
    scripted = Scripted().paced(50)
    for age in (INTERVAL, FRESH, INTERVAL + 0.9 * PACE_MARGIN, FRESH):
        assert takes(scripted, age)


def test_each_stream_has_its_own_pace() -> None:
    scripted = Scripted().paced()
    scripted.asks()
    assert scripted.gets(STALE, stream="cam-2") is Verdict.TAKE


def test_the_interval_is_learned_across_frames_that_were_left_out() -> None:
    scripted = Scripted().joined()
    for _ in range(20):
        assert takes(scripted, FRESH, skip=29)
    assert not takes(scripted, 0.2), "a second passed between two reads, and 0.2 s are still six intervals"


def test_a_steadily_slow_link_is_not_asked_twice() -> None:
    """0.8 s to transmit a frame of a 30 fps camera: the age varies by one interval, and never by more."""
    ages = random.Random(7)
    scripted = Scripted().joined()
    taken = [takes(scripted, 0.8 + ages.uniform(0, INTERVAL), skip=24) for _ in range(200)]
    assert all(taken[5:])


def test_a_link_that_becomes_slow_is_asked_twice_for_few_frames_only() -> None:
    scripted = Scripted().paced(100)
    taken = [takes(scripted, 0.8, skip=24) for _ in range(50)]
    assert taken.count(False) <= 2
    assert all(taken[5:])


def test_a_stop_shows_on_a_slow_link_too() -> None:
    ages = random.Random(7)
    scripted = Scripted().joined()
    for _ in range(100):
        takes(scripted, 0.8 + ages.uniform(0, INTERVAL), skip=24)
    assert not takes(scripted, STALE)


def test_one_stop_does_not_blind_for_the_next_ones() -> None:
    scripted = Scripted().paced(30)
    assert not takes(scripted, STALE)
    for _ in range(60):
        takes(scripted, FRESH)
    assert not takes(scripted, STALE)


def test_a_paused_stream_gives_its_newest_frame_after_one_question() -> None:
    scripted = Scripted().paced()
    assert not takes(scripted, 600.0)
    assert scripted.state is State.IDLE


def test_the_pace_survives_a_publishers_restart() -> None:
    scripted = Scripted().paced()
    scripted.asks()
    scripted.seq = 0
    assert scripted.gets(STALE, epoch=2) is Verdict.HOLD


def test_clocks_that_disagree_between_machines_are_no_reason_for_suspicion() -> None:
    for skew in (-0.5, 0.5):
        scripted = Scripted().joined()
        taken = [takes(scripted, skew + FRESH * (1 + n % 3)) for n in range(50)]
        assert all(taken)
        assert not takes(scripted, skew + STALE)


def test_capture_times_that_stand_still_or_run_backwards_make_no_suspicion() -> None:
    scripted = Scripted().joined()
    for seq, captured in enumerate([5, 5, 3, 3, 9], start=1):
        scripted.asks()
        identity = scripted.frame()._replace(seq=seq)
        assert scripted.session.arrived(identity, captured * 10**9, STALE, scripted.now) is Verdict.TAKE


@pytest.mark.parametrize("jitter", [0.001, 0.01, 0.1])
def test_jitter_is_learned(jitter: float) -> None:
    ages = random.Random(1)
    scripted = Scripted().joined()
    taken = [takes(scripted, 0.1 + ages.uniform(0, jitter), skip=9) for _ in range(300)]
    assert taken[20:].count(False) <= 3

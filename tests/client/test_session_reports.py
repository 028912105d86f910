"""What the session tells the daemon of its frames: the numbers of demands, the reports, and what closing adds."""

import pytest
from supplierd_client.session import LOST_AFTER_MAX, Verdict
from supplierd_client.turn import LOST_AFTER, State

from supplierd.wire import control
from tests.client.scripted import FRESH, SESSION, STALE, Scripted, in_state

NS = 1_000_000_000


def leaves(scripted: Scripted) -> control.Leave | None:
    message = scripted.session.leave(scripted.now)
    if message is None:
        return None
    decoded = control.decode_from_client(message)
    assert isinstance(decoded, control.Leave)
    return decoded


# --- demands and reports ----------------------------------------------------------------------------------------------


def test_demands_are_numbered_and_each_brings_the_report_on_the_frame_before() -> None:
    scripted = Scripted().joined()
    assert scripted.asks() == control.Demand(SESSION, 1, None)
    assert scripted.gets(FRESH) is Verdict.TAKE
    assert scripted.sends() is None, "nothing is sent while the user works"
    demand = scripted.asks(after=0.25)
    assert demand == control.Demand(
        SESSION, 2, control.Settled("cam-1", 1, 1, "consumed", round(FRESH * NS), round(0.25 * NS))
    )


def test_a_demand_is_repeated_with_its_number_and_report_until_a_frame_comes() -> None:
    scripted = Scripted().joined()
    scripted.asks()
    scripted.gets()
    demand = scripted.asks(after=0.1)
    for _ in range(3):
        assert scripted.sends(after=1.01) == demand
    assert scripted.gets() is Verdict.TAKE
    assert scripted.asks().number == 3


def test_reading_again_before_a_frame_came_sends_nothing_new() -> None:
    scripted = Scripted().joined()
    scripted.asks()
    scripted.session.ask(scripted.now + 0.5)  # a read that timed out, and the next one
    assert scripted.sends(after=0.5) is None
    assert scripted.sends(after=0.6).number == 1


def test_the_daemon_says_how_often_to_repeat() -> None:
    scripted = Scripted().joined(repeat_after=0.3)
    scripted.asks()
    assert scripted.sends(after=0.25) is None
    assert scripted.sends(after=0.1) is not None


def test_the_leases_held_travel_with_the_demand() -> None:
    scripted = Scripted().joined()
    scripted.session.leases = 3
    assert scripted.asks().leases == 3


def test_a_join_brings_the_report_that_no_demand_could_bring() -> None:
    scripted = Scripted().joined()
    scripted.asks()
    scripted.gets()
    scripted.asks(after=0.5)
    scripted.hears(control.Rejoin(SESSION, "unknown"))
    settled = scripted.joins().settled
    assert settled == control.Settled("cam-1", 1, 1, "consumed", round(FRESH * NS), round(0.5 * NS))
    scripted.joined()
    assert scripted.sends() == control.Demand(SESSION + 1, 1, settled)


@pytest.mark.parametrize("outcome", ["stale_descriptor", "unreadable"])
def test_a_frame_that_cannot_be_handed_out_is_reported_and_the_next_one_asked_for(outcome: str) -> None:
    scripted = Scripted().asking()
    scripted.sends()
    scripted.session.discard(scripted.frame(), outcome, FRESH, scripted.now)
    assert scripted.sends() == control.Demand(SESSION, 2, control.Settled("cam-1", 1, 0, outcome, round(FRESH * NS), 0))


# --- max_age ----------------------------------------------------------------------------------------------------------


def test_a_frame_older_than_max_age_is_refused_and_the_next_one_asked_for() -> None:
    scripted = Scripted(max_age=0.1).joined()
    scripted.asks()
    assert scripted.gets(0.11) is Verdict.DROP
    assert scripted.sends() == control.Demand(
        SESSION, 2, control.Settled("cam-1", 1, 1, "expired", round(0.11 * NS), 0)
    )
    assert scripted.gets(0.09) is Verdict.TAKE


def test_max_age_holds_for_the_frame_that_a_recheck_brought() -> None:
    scripted = Scripted(max_age=1.0).paced()
    scripted.asks()
    assert scripted.gets(0.9) is Verdict.HOLD
    scripted.sends()
    assert scripted.gets(1.1) is Verdict.DROP
    assert scripted.sends().settled.outcome == "expired"


def test_a_held_frame_that_became_too_old_while_it_was_held_is_refused() -> None:
    scripted = Scripted(max_age=1.0).paced()
    scripted.asks()
    assert scripted.gets(0.9) is Verdict.HOLD
    scripted.sends()
    scripted.hears(control.Newest(4))
    assert scripted.session.released is True
    assert not scripted.session.take_held(1.1, scripted.now + 0.2)
    demand = scripted.sends(after=0.2)
    assert demand.number == 5
    assert demand.settled.outcome == "expired"


# --- a held frame -----------------------------------------------------------------------------------------------------


def test_newest_releases_the_held_frame() -> None:
    scripted = Scripted().checking()
    held = scripted.frame()
    assert scripted.sends() == control.Recheck(SESSION, 4)
    assert scripted.session.released is None
    scripted.hears(control.Newest(4))
    assert scripted.session.released is True
    assert scripted.session.take_held(STALE, scripted.now)
    assert scripted.state is State.IDLE
    settled = scripted.asks().settled
    assert settled[:5] == (*held, "consumed", round(STALE * NS))


def test_an_answer_to_an_earlier_recheck_releases_nothing() -> None:
    scripted = Scripted().checking()
    scripted.sends()
    scripted.hears(control.Newest(3))
    assert scripted.session.released is None


def test_a_newer_frame_replaces_the_held_one_however_old_it_is() -> None:
    scripted = Scripted().checking()
    scripted.sends()
    assert scripted.gets(STALE) is Verdict.TAKE
    assert scripted.session.released is None
    assert scripted.asks().settled[:4] == (*scripted.frame(), "consumed")


@pytest.mark.parametrize("message", [control.Rejoin(SESSION, "unknown"), control.Goodbye("SIGTERM")])
def test_a_new_session_voids_the_held_frame(message: control.FromDaemon) -> None:
    scripted = Scripted().checking()
    scripted.sends()
    scripted.hears(message)
    assert scripted.session.released is False
    settled = scripted.joins().settled
    assert settled is not None
    assert settled[:4] == ("cam-1", 1, 3, "consumed"), "the report is the one before"


def test_a_release_that_a_goodbye_follows_at_once_is_void() -> None:
    scripted = Scripted().checking()
    scripted.sends()
    scripted.hears(control.Newest(4), control.Goodbye("SIGTERM"))
    assert scripted.session.released is False


def test_a_recheck_is_sent_once_and_silence_ends_the_session() -> None:
    """To a second RECHECK the daemon could answer NEWEST for the frame that it sent for the first: were the held one
    handed out then, that frame would be taken for the next demand's, and the ledger be wrong from there on."""
    scripted = Scripted().checking()
    assert isinstance(scripted.sends(), control.Recheck)
    assert scripted.sends(after=LOST_AFTER - 0.1) is None
    assert isinstance(scripted.sends(after=0.2), control.Join)
    assert scripted.session.released is False
    assert scripted.gets() is Verdict.DROP


# --- a frame that is lost ---------------------------------------------------------------------------------------------


def waits(scripted: Scripted, seconds: float, sent: bool = True) -> float:
    """Repeat the demand and hear WAIT for so long, or until the session gives up; how long that was."""
    began = scripted.now
    number = scripted.sends().number if scripted.session.next_at <= scripted.now else 1
    while scripted.state is State.ASKING and scripted.now - began < seconds:
        scripted.hears(control.Wait(number, sent))
        scripted.sends(after=1.0)
    return scripted.now - began


def test_a_frame_that_was_sent_and_does_not_come_is_given_up_by_a_new_session() -> None:
    scripted = Scripted().asking()
    assert waits(scripted, 10.0) == pytest.approx(LOST_AFTER + 1.0)
    assert scripted.session.endpoint == ""
    assert scripted.joins().attempt == 2


def test_without_a_newer_frame_the_worker_waits_for_ever() -> None:
    scripted = Scripted().asking()
    waits(scripted, 300.0, sent=False)
    assert scripted.state is State.ASKING


def test_a_frame_that_goes_out_late_has_its_full_time() -> None:
    scripted = Scripted().asking()
    waits(scripted, 60.0, sent=False)
    assert waits(scripted, 10.0) >= LOST_AFTER


def test_patience_doubles_up_to_its_limit_and_a_frame_resets_it() -> None:
    scripted = Scripted().asking()
    took = []
    for _ in range(8):
        took.append(round(waits(scripted, 1000.0)) - 1)
        scripted.joined()
    assert took == [2, 4, 8, 16, 32, LOST_AFTER_MAX, LOST_AFTER_MAX, LOST_AFTER_MAX]
    scripted.sends()
    assert scripted.gets() is Verdict.TAKE
    scripted.session.ask(scripted.now)
    assert waits(scripted, 1000.0) == pytest.approx(LOST_AFTER + 1.0)


def test_a_link_that_needs_long_for_each_frame_loses_none_of_its_sessions() -> None:
    """What the last frame took is the measure for the next one."""
    scripted = Scripted().asking()
    waits(scripted, 1000.0)
    scripted.joined()
    for _ in range(5):
        waits(scripted, LOST_AFTER + 1.0)
        assert scripted.gets() is Verdict.TAKE
        scripted.session.ask(scripted.now)
    assert scripted.state is State.ASKING


def test_a_recheck_without_answer_doubles_the_patience_too() -> None:
    scripted = Scripted().checking()
    scripted.sends()
    scripted.sends(after=LOST_AFTER)
    scripted.joined()
    assert waits(scripted, 100.0) == pytest.approx(2 * LOST_AFTER + 1.0)


def test_an_answer_to_an_earlier_demand_does_not_wear_the_patience_of_this_one() -> None:
    scripted = Scripted().paced(2)
    scripted.asks()
    for _ in range(10):
        scripted.hears(control.Wait(2, sent=True))
        scripted.sends(after=1.0)
    assert scripted.state is State.ASKING


def test_an_interrupted_connection_starts_the_patience_anew() -> None:
    scripted = Scripted().asking()
    scripted.sends()
    scripted.hears(control.Wait(1, sent=True))
    scripted.now += 10.0
    scripted.session.unsent(scripted.now)
    scripted.hears(control.Wait(1, sent=True))
    assert scripted.state is State.ASKING


# --- closing ----------------------------------------------------------------------------------------------------------


def test_closing_before_the_welcome_says_nothing() -> None:
    assert leaves(Scripted()) is None


def test_closing_reports_the_frame_in_hand_and_what_its_processing_took() -> None:
    scripted = Scripted().paced(1)
    scripted.now += 0.5
    assert leaves(scripted) == control.Leave(
        SESSION, control.Settled("cam-1", 1, 1, "consumed", round(FRESH * NS), round(0.5 * NS))
    )
    assert leaves(scripted) is None, "once"


def test_closing_with_a_held_frame_reports_it_as_closed() -> None:
    scripted = Scripted().checking()
    held = scripted.frame()
    leave = leaves(scripted)
    assert leave is not None
    assert leave.settled is not None
    assert leave.settled[:5] == (*held, "closed", round(STALE * NS))


@pytest.mark.parametrize("state", [State.IDLE, State.ASKING])
def test_closing_without_a_frame_in_hand_repeats_the_last_report(state: State) -> None:
    leave = leaves(in_state(state))
    assert leave == control.Leave(SESSION, None)


def test_a_closed_session_asks_no_more() -> None:
    scripted = Scripted().ended()
    assert scripted.asks() is None
    assert scripted.session.next_at == float("inf")

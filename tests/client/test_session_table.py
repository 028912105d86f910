"""The session's protocol by a table: what each thing that can happen does in each state, and what it never does."""

from collections.abc import Callable
from typing import Any, Final

import pytest
from supplierd_client.errors import RefusedError, TakenOverError
from supplierd_client.session import Session, Verdict
from supplierd_client.turn import State

from supplierd.wire import control
from supplierd.wire.errors import WireError
from tests.client.scripted import FRESH, SESSION, STALE, Scripted, in_state

J, I, A, C, E = State.JOINING, State.IDLE, State.ASKING, State.CHECKING, State.ENDED  # noqa: E741
STATES: Final = (J, I, A, C, E)

WRONG: Final = 99


def number(s: Scripted) -> int:
    """Of the demand that is out: each test's session has made one for each frame that it got, and one more."""
    return {A: 1, C: 4}.get(s.state, 1)


def says(make: Callable[[Scripted], control.FromDaemon]) -> Callable[[Scripted], object]:
    return lambda s: s.hears(make(s))


INPUTS: Final[dict[str, tuple[Callable[[Scripted], object], tuple[State, ...]]]] = {
    # what happens                                                                   from JOINING … to
    "welcome": (says(lambda s: s.welcome(attempt=1)), (I, I, A, C, E)),
    "welcome to another attempt": (says(lambda s: s.welcome(attempt=WRONG)), (J, I, A, C, E)),
    "refused": (says(lambda s: control.Refused("unknown_worker", "no", 1)), (E, I, A, C, E)),
    "another attempt refused": (says(lambda s: control.Refused("unknown_worker", "no", WRONG)), (J, I, A, C, E)),
    "error": (says(lambda s: control.Error("oversized", "too long")), (E, I, A, C, E)),
    "taken over": (says(lambda s: control.TakenOver(SESSION, "x")), (J, E, E, E, E)),
    "another's session taken over": (says(lambda s: control.TakenOver(WRONG, "x")), (J, I, A, C, E)),
    "rejoin": (says(lambda s: control.Rejoin(SESSION, "unknown")), (J, J, J, J, E)),
    "rejoin another's session": (says(lambda s: control.Rejoin(WRONG, "unknown")), (J, I, A, C, E)),
    "goodbye": (says(lambda s: control.Goodbye("SIGTERM")), (J, J, J, J, E)),
    "wait, nothing new": (says(lambda s: control.Wait(number(s), sent=False)), STATES),
    "wait, under way": (says(lambda s: control.Wait(number(s), sent=True)), STATES),
    "newest": (says(lambda s: control.Newest(number(s))), STATES),
    "newest for another demand": (says(lambda s: control.Newest(WRONG)), STATES),
    "snapshot": (says(lambda s: control.Snapshot()), STATES),
    "the user reads": (lambda s: s.session.ask(s.now), (J, A, A, C, E)),
    "the user leaves": (lambda s: s.session.leave(s.now), (E, E, E, E, E)),
    "a fresh frame": (lambda s: s.gets(FRESH), (J, I, I, I, E)),
    "a stale frame": (lambda s: s.gets(STALE), (J, I, I, I, E)),  # of an unknown pace, or already asked again for
    "a message is due": (lambda s: s.sends(), STATES),
    "a message found no connection": (lambda s: s.session.unsent(s.now), STATES),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("happening", INPUTS)
def test_what_happens_in_each_state(state: State, happening: str) -> None:
    act, outcomes = INPUTS[happening]
    scripted = in_state(state)
    act(scripted)
    assert scripted.state is outcomes[STATES.index(state)]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(
    "message",
    [b"", b"\xc0", b"\x80", control.encode(control.Stats()), b"\x81\xa4type\xa4wait", b"\xff" * 100],
    ids=["nothing", "nil", "empty map", "a client's", "without fields", "noise"],
)
def test_what_no_daemon_says_changes_nothing(state: State, message: bytes) -> None:
    scripted = in_state(state)
    with pytest.raises(WireError):
        scripted.session.hear(message, scripted.now)
    assert scripted.state is state


@pytest.mark.parametrize(
    ("state", "expected"), [(J, control.Join), (I, None), (A, control.Demand), (C, control.Recheck), (E, None)]
)
def test_what_each_state_sends(state: State, expected: type[Any] | None) -> None:
    scripted = in_state(state)
    sent = scripted.sends()
    assert sent is None if expected is None else isinstance(sent, expected)
    assert scripted.sends() is None, "nothing is sent twice at once"


@pytest.mark.parametrize("state", [J, A, C])
def test_a_message_that_found_no_connection_is_tried_again_soon(state: State) -> None:
    scripted = in_state(state)
    first = scripted.sends()
    scripted.session.unsent(scripted.now)
    assert scripted.sends(after=0.04) is None
    assert scripted.sends(after=0.02) == first


@pytest.mark.parametrize("state", [J, A])
def test_a_message_without_answer_is_repeated_as_it_was(state: State) -> None:
    scripted = in_state(state)
    first = scripted.sends()
    assert scripted.sends(after=0.9) is None
    assert scripted.sends(after=0.2) == first


def test_a_frame_that_nobody_asked_for_is_dropped() -> None:
    for state in (J, I, E):
        scripted = in_state(state)
        assert scripted.gets() is Verdict.DROP


# --- joining ----------------------------------------------------------------------------------------------------------


def test_a_welcome_says_where_frames_come() -> None:
    scripted = Scripted()
    assert scripted.session.endpoint == ""
    scripted.joined()
    assert scripted.session.endpoint == "ipc:///run/w-1.sock"
    assert scripted.session.next_at == float("inf")


def test_who_read_before_the_welcome_asks_at_once() -> None:
    scripted = Scripted()
    assert isinstance(scripted.asks(), control.Join)
    scripted.joined()
    assert scripted.sends() == control.Demand(SESSION, 1)


def test_the_answer_to_an_earlier_attempt_is_not_taken_for_the_latest() -> None:
    scripted = Scripted().joined()
    scripted.hears(control.Rejoin(SESSION, "unknown"))
    assert scripted.joins().attempt == 2
    scripted.hears(scripted.welcome(attempt=1))
    assert scripted.state is J
    scripted.hears(scripted.welcome(attempt=2))
    assert scripted.state is I


def test_a_second_rejoin_does_not_spoil_the_attempt_under_way() -> None:
    scripted = Scripted().asking()
    scripted.hears(control.Rejoin(SESSION, "unknown"), control.Rejoin(SESSION, "unknown"))
    assert scripted.joins().attempt == 2


def test_a_refusal_is_an_error_with_the_daemons_reason() -> None:
    scripted = Scripted()
    scripted.hears(control.Refused("unknown_worker", "add [workers.detector]", 1))
    error = scripted.session.error
    assert isinstance(error, RefusedError)
    assert error.reason == "unknown_worker"
    assert str(error) == "add [workers.detector]"


def test_a_join_that_the_daemon_cannot_read_is_a_refusal() -> None:
    scripted = Scripted()
    scripted.hears(control.Error("oversized", "a control message has 70000 bytes"))
    assert isinstance(scripted.session.error, RefusedError)
    assert scripted.session.error.reason == "oversized"


def test_a_take_over_is_an_error_that_names_the_worker() -> None:
    scripted = Scripted().asking()
    scripted.hears(control.TakenOver(SESSION, "python 9.9"))
    assert isinstance(scripted.session.error, TakenOverError)
    assert "detector" in str(scripted.session.error)
    assert "python 9.9" in str(scripted.session.error)
    assert scripted.sends() is None
    assert scripted.session.leave(scripted.now) is None, "the name is another's now"


@pytest.mark.parametrize("state", [J, I, A, C])
def test_after_a_goodbye_the_daemons_return_is_waited_for(state: State) -> None:
    scripted = in_state(state)
    scripted.hears(control.Goodbye("SIGTERM"))
    assert scripted.session.endpoint == ""
    assert scripted.sends() is None, "the daemon is going: not at once"
    assert isinstance(scripted.sends(after=0.1), control.Join)


def test_a_daemon_cannot_make_the_worker_flood_it() -> None:
    scripted = Scripted().joined(repeat_after=0.0)
    scripted.asks()
    assert scripted.session.next_at > scripted.now


def test_the_report_why_payloads_must_come_inline_is_made_before_each_join() -> None:
    answers = iter(["not_found", ""])
    scripted = Scripted()
    scripted.session = Session(control.Join("w", bytes(16), 0, [1], "test", ["*"]), None, lambda: next(answers))
    assert scripted.joins().arena == "not_found"
    assert scripted.joins().arena == ""


def test_an_arena_that_cannot_be_read_after_all_leads_to_an_inline_session() -> None:
    scripted = Scripted().asking()
    scripted.sends()
    scripted.session.go_inline(scripted.frame(), "permission", FRESH)
    assert scripted.session.endpoint == ""
    join = scripted.joins()
    assert join.arena == "permission"
    assert join.settled is not None
    assert join.settled.outcome == "unreadable"
    scripted.joined()
    assert isinstance(scripted.sends(), control.Demand)


def test_a_ghost_learns_from_its_join_that_it_was_taken_over() -> None:
    scripted = Scripted()
    scripted.hears(control.Refused("taken_over", "worker 'detector' was taken over", 1))
    assert isinstance(scripted.session.error, TakenOverError)

"""The worker's state table: every pair of state and event."""

from itertools import product

import pytest

from supplierd.core.service import WorkerPolicy
from supplierd.core.worker import TRANSITIONS, Event, IllegalTransitionError, State, Worker

# The table said again, one line for each state: event -> next state.
EXPECTED = """
gone     join -> busy
busy     join -> busy     demand -> waiting  return -> waiting  overdue -> idle     depart -> gone
waiting  join -> busy     demand -> waiting  serve -> busy      drought -> starved  depart -> gone
starved  join -> busy     demand -> starved  serve -> busy      depart -> gone
idle     join -> busy     demand -> waiting  depart -> gone
"""
NEXT = {
    (line.split()[0], parts[i]): parts[i + 2]
    for line in EXPECTED.strip().splitlines()
    for parts in [line.split()[1:]]
    for i in range(0, len(parts), 3)
}


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_every_pair(state: State, event: Event) -> None:
    worker = Worker("w", WorkerPolicy())
    worker.state = state
    before = {name: getattr(worker, name) for name in Worker.__slots__}
    if (state.value, event.value) in NEXT:
        worker.on(event)
        before["state"] = State(NEXT[state.value, event.value])
    else:
        with pytest.raises(IllegalTransitionError, match=f"worker w: {event} while {state}"):
            worker.on(event)
    assert {name: getattr(worker, name) for name in Worker.__slots__} == before


def test_the_table_says_nothing_else() -> None:
    assert {(s.value, e.value): n.value for s, row in TRANSITIONS.items() for e, n in row.items()} == NEXT
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize("state", State)
def test_connected_is_every_state_but_gone(state: State) -> None:
    worker = Worker("w", WorkerPolicy())
    worker.state = state
    assert worker.connected == (state is not State.GONE)


def test_every_state_can_be_reached_and_left() -> None:
    assert {target for row in TRANSITIONS.values() for target in row.values()} == set(State)
    assert all(set(row.values()) - {state} for state, row in TRANSITIONS.items())

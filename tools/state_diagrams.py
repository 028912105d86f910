"""Writes docs/states.md: state diagrams of a worker in the daemon and of a session in the client.

    python tools/state_diagrams.py > docs/states.md

Strategy: nothing is drawn by hand. The worker's diagram is its transition table; the session has no table, so each
event is tried on a session in each state, and where it ends up is what is drawn. A test compares the output with the
file.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from supplierd_client.session import EXPECTING, FrameId, Session
from supplierd_client.turn import LOST_AFTER
from supplierd_client.turn import State as SessionState

from supplierd.core.worker import TRANSITIONS, Event
from supplierd.core.worker import State as WorkerState
from supplierd.wire import control

HEAD: Final = """\
# State diagrams

Made by `python tools/state_diagrams.py`; not edited by hand. A test compares this page with the code.
"""

WORKER_TEXT: Final = """\
## A worker, as the daemon sees it

From the table `TRANSITIONS` in `supplierd/core/worker.py`, which is the only place where a state changes. An event
that a state does not have is a programming error: it raises and changes nothing.
"""

SESSION_TEXT: Final = """\
## A session, as the client sees it

From `supplierd_client/session.py`, by trying each event in each state. Events that change nothing are left
out. The protocol is described in [wire.md](wire.md), section 8.
"""

EVENT_TEXTS: Final[Mapping[Event, str]] = {
    Event.JOIN: "it has a new session",
    Event.DEMAND: "it asked for a frame",
    Event.SERVE: "a frame was sent to it",
    Event.RETURN: "that frame could not be sent after all",
    Event.OVERDUE: "frames were waiting and it took none for idle_after",
    Event.DROUGHT: "it has waited for stream_timeout and none of its streams had a frame",
    Event.DEPART: "it left, or its connection is gone",
}

WORKER_STATE_TEXTS: Final[Mapping[WorkerState, str]] = {
    WorkerState.WAITING: "a demand is open",
    WorkerState.BUSY: "it has a frame, or has not asked yet",
    WorkerState.IDLE: "frames wait and it takes none",
    WorkerState.STARVED: "a demand is open and its streams are silent",
    WorkerState.GONE: "it is not connected",
}


class Edge(NamedTuple):
    """An arrow, and the event that it stands for."""

    source: str
    target: str
    event: str


# --- the worker: its table --------------------------------------------------------------------------------------------


def worker_edges() -> list[Edge]:
    """Every transition of the table."""
    return [
        Edge(source.value, target.value, event.value)
        for source, events in TRANSITIONS.items()
        for event, target in events.items()
    ]


# --- the client's session: tried out ----------------------------------------------------------------------------------

_SESSION: Final = 7
_FRAME: Final = FrameId("cam", 1, 4)


def _joining() -> Session:
    session = Session(control.Join("w", bytes(16), 0, [1], "", ["*"]), None)
    session.to_send(0.0)
    return session


def _idle() -> Session:
    session = _joining()
    _hear(session, control.Welcome(_SESSION, "ipc:///w", 1, "normal", 1.0))
    return session


def _asking() -> Session:
    session = _idle()
    for seq in (0, 1, 2):  # two frames, a millisecond old, teach it the stream's pace
        if seq:
            session.arrived(FrameId("cam", 1, seq), seq * 10**8, 0.001, 0.0)
        session.ask(0.0)
        session.to_send(0.0)
    return session


def _checking() -> Session:
    session = _asking()
    _suspicious(session)
    session.to_send(0.0)
    return session


def _ended() -> Session:
    session = _idle()
    session.leave(0.0)
    return session


BUILDERS: Final[Mapping[SessionState, Callable[[], Session]]] = {
    SessionState.JOINING: _joining,
    SessionState.IDLE: _idle,
    SessionState.ASKING: _asking,
    SessionState.CHECKING: _checking,
    SessionState.ENDED: _ended,
}


def _hear(session: Session, message: control.FromDaemon) -> None:
    session.hear(control.encode(message), 0.0)


def _hear_sent_for_long(session: Session) -> None:
    wait = control.encode(control.Wait(session.number, sent=True))
    session.hear(wait, 0.0)
    session.hear(wait, LOST_AFTER)


def _newest(session: Session) -> None:
    _hear(session, control.Newest(session.number))
    if session.released:
        session.take_held(5.0, 0.0)


def _welcome_awaited(session: Session) -> None:
    if session.state is SessionState.JOINING:
        session.ask(0.0)
        _hear(session, control.Welcome(_SESSION, "ipc:///w", 1, "normal", 1.0))


def _suspicious(session: Session) -> None:
    session.arrived(FrameId("cam", 1, 3), 3 * 10**8, 5.0, 0.0)


def _useless(session: Session) -> None:
    if session.state in EXPECTING:
        session.discard(_FRAME, "unreadable", 0.001, 0.0)


def _no_arena(session: Session) -> None:
    if session.state in EXPECTING:
        session.go_inline(_FRAME, "not_found", 0.001)


SESSION_EVENTS: Final[Mapping[str, Callable[[Session], object]]] = {
    "the user asks": lambda s: s.ask(0.0),
    "the user closes": lambda s: s.leave(0.0),
    "WELCOME": lambda s: _hear(s, control.Welcome(_SESSION, "ipc:///w", 1, "normal", 1.0)),
    "WELCOME, and the user waits": _welcome_awaited,
    "REFUSED": lambda s: _hear(s, control.Refused("unknown_worker", "", 1)),
    "ERROR": lambda s: _hear(s, control.Error("bad_message", "")),
    "TAKENOVER": lambda s: _hear(s, control.TakenOver(_SESSION, "")),
    "REJOIN": lambda s: _hear(s, control.Rejoin(_SESSION, "")),
    "GOODBYE": lambda s: _hear(s, control.Goodbye("")),
    "the bell ends": lambda s: s.hung_up(),
    "NEWEST": _newest,
    "WAIT, the frame is lost": _hear_sent_for_long,
    "no answer to RECHECK": lambda s: s.state is SessionState.CHECKING and s.to_send(LOST_AFTER),
    "a frame": lambda s: s.arrived(_FRAME, 4 * 10**8, 0.001, 0.0),
    "a suspicious frame": _suspicious,
    "a frame that cannot be used": _useless,
    "an arena cannot be read": _no_arena,
}


def session_edges() -> list[Edge]:
    """Where each event leads from each state, unless it stays there."""
    edges = []
    for state, build in BUILDERS.items():
        for event, happen in SESSION_EVENTS.items():
            session = build()
            assert session.state is state, (session.state, state)
            happen(session)
            if session.state is not state:
                edges.append(Edge(state.value, session.state.value, event))
    return edges


# --- drawing ----------------------------------------------------------------------------------------------------------


def diagram(start: str, edges: Iterable[Edge]) -> str:
    """A Mermaid state diagram; events between the same two states share an arrow."""
    together: dict[tuple[str, str], list[str]] = {}
    for source, target, event in edges:
        together.setdefault((source, target), []).append(event)
    arrows = [f"    {source} --> {target}: {'<br/>'.join(events)}" for (source, target), events in together.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", f"    [*] --> {start}", *arrows, "```", ""])


def table(head: tuple[str, str], rows: Iterable[tuple[str, str]]) -> str:
    """A Markdown table of two columns."""
    lines = [head, ("---", "---"), *rows]
    return "\n".join(f"| {left} | {right} |" for left, right in lines) + "\n"


def page() -> str:
    """The whole of docs/states.md."""
    return "\n".join([
        HEAD,
        WORKER_TEXT,
        diagram(WorkerState.GONE.value, worker_edges()),
        table(("state", "meaning"), [(f"`{s}`", WORKER_STATE_TEXTS[s]) for s in WorkerState]),
        table(("event", "meaning"), [(f"`{e}`", EVENT_TEXTS[e]) for e in Event]),
        SESSION_TEXT,
        diagram(SessionState.JOINING.value, session_edges()),
    ]).rstrip("\n") + "\n"  # fmt: skip


if __name__ == "__main__":
    sys.stdout.write(page())

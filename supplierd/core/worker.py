"""A worker: its policy, its session, and what it is doing.

The state table below is the only place where a state changes. `waiting`: a demand is open. `busy`: it has a frame, or
has not asked yet. `idle`: frames were waiting and it took none for idle_after. `starved`: it waits and its streams are
silent. `gone`: not connected.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from supplierd.core.histogram import PROCESSING_BOUNDS, Histogram
from supplierd.core.mailbox import Mailbox
from supplierd.core.service import WorkerPolicy

REPLACED_INSTANCES: Final = 8
"""Former processes of a worker that are remembered, so that a ghost's late JOIN does not throw out its successor."""
SET_UP_WITHIN: Final = 2.0
"""Seconds after a JOIN within which a newcomer's first demand comes: to set a session up takes some tenths on a busy
machine, in which frames go by that it could not ask for. One that asks later misses what it was promised."""

SLOW_FROM: Final = 0.02
"""Seconds with one frame after which a worker is slow, or hangs: to be heard a millisecond later is nothing to it."""


class State(StrEnum):
    """What a worker is doing."""

    __hash__ = str.__hash__  # Enum's is a function of Python's, and the table is looked up for each frame
    WAITING = "waiting"
    BUSY = "busy"
    IDLE = "idle"
    STARVED = "starved"
    GONE = "gone"


class Event(StrEnum):
    """What can happen to a worker."""

    __hash__ = str.__hash__
    JOIN = "join"  # it has a new session
    DEMAND = "demand"  # it asked for a frame
    SERVE = "serve"  # a frame was sent to it
    RETURN = "return"  # that frame could not be sent after all
    OVERDUE = "overdue"  # frames were waiting and it took none for idle_after
    DROUGHT = "drought"  # it has waited for stream_timeout and none of its streams had a frame
    DEPART = "depart"  # it left, or its connection is gone


# Looking up a member of an enumeration goes through its metaclass: once is enough for what is asked at each frame.
GONE: Final = State.GONE
WAITING: Final = State.WAITING
BUSY: Final = State.BUSY
DEMAND: Final = Event.DEMAND
SERVE: Final = Event.SERVE

TRANSITIONS: Final[Mapping[State, Mapping[Event, State]]] = {
    State.GONE: {Event.JOIN: State.BUSY},
    State.BUSY: {
        Event.JOIN: State.BUSY,
        Event.DEMAND: State.WAITING,
        Event.RETURN: State.WAITING,
        Event.OVERDUE: State.IDLE,
        Event.DEPART: State.GONE,
    },
    State.WAITING: {
        Event.JOIN: State.BUSY,
        Event.DEMAND: State.WAITING,
        Event.SERVE: State.BUSY,
        Event.DROUGHT: State.STARVED,
        Event.DEPART: State.GONE,
    },
    State.STARVED: {
        Event.JOIN: State.BUSY,
        Event.DEMAND: State.STARVED,
        Event.SERVE: State.BUSY,
        Event.DEPART: State.GONE,
    },
    State.IDLE: {
        Event.JOIN: State.BUSY,
        Event.DEMAND: State.WAITING,
        Event.DEPART: State.GONE,
    },
}


class IllegalTransitionError(Exception):
    """An event that cannot happen in a state; nothing was changed."""


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """What a worker says of itself when it joins; see wire.control.Join for the fields' meanings."""

    worker: str
    instance: bytes
    attempt: int
    streams: tuple[str, ...]
    target_fps: float | None = None
    client: str = ""
    pid: int = 0
    inline_reason: str = ""


class Worker:
    """One worker by name. It outlives its processes: each of them is a session of it."""

    __slots__ = (
        "any_stream", "asking_since", "attempt", "client", "departed_at", "following", "inline_reason", "instance",
        "last_taken_at", "leases", "mailboxes", "name", "number", "open_demand", "owed_from", "pid", "policy",
        "processing", "replaced", "session", "state", "target_fps",
    )  # fmt: skip

    def __init__(self, name: str, policy: WorkerPolicy) -> None:
        self.name = name
        self.policy = policy
        self.state = State.GONE
        self.mailboxes: dict[str, Mailbox] = {}
        self.any_stream = False  # whether it follows streams that appear later
        self.following = False  # whether frames are offered to it: from its first JOIN until it leaves
        self.session = 0  # 0: none
        self.instance = b""
        self.replaced: deque[bytes] = deque(maxlen=REPLACED_INSTANCES)  # processes that must not take the name back
        self.attempt = 0
        self.number = 0  # of its newest demand
        self.open_demand = False  # it asked, and was not served yet
        self.asking_since = 0.0
        self.last_taken_at = 0.0
        self.departed_at = 0.0
        self.owed_from = 0.0  # before that a newcomer is owed nothing, unless it has asked
        self.target_fps = policy.target_fps
        self.client = ""
        self.pid = 0
        self.inline_reason = ""  # why it gets payloads inline; "": it reads arenas
        self.leases = 0
        self.processing = Histogram(PROCESSING_BOUNDS)

    def on(self, event: Event) -> None:
        """Change the state as the table says.

        Raises:
            IllegalTransitionError: the table has no such event in this state.
        """
        try:
            self.state = TRANSITIONS[self.state][event]
        except KeyError:
            raise IllegalTransitionError(f"worker {self.name}: {event} while {self.state}") from None

    @property
    def connected(self) -> bool:
        """Whether it has a session."""
        return self.state is not State.GONE

    def in_flight(self) -> Mailbox | None:
        """The mailbox whose frame is under way to it."""
        for mailbox in self.mailboxes.values():
            if mailbox.in_flight is not None:
                return mailbox
        return None

    def enter(self, now: float) -> None:
        """A session begins, or a push worker's peer is there."""
        self.last_taken_at = now
        self.owed_from = now if self.following or self.policy.push else now + SET_UP_WITHIN

    def begins(self, now: float) -> bool:
        """Whether nothing is owed to it yet: it has come, and was not expected, and has not asked yet."""
        return now < self.owed_from and not self.number

    def expected(self, now: float) -> bool:
        """Whether a promised frame waits for it, and it may ask any moment: it is not at its last one for long."""
        waits = False
        if now - self.last_taken_at < SLOW_FROM:
            for mailbox in self.mailboxes.values():
                waits |= mailbox.owed and mailbox.pending is not None
        return waits

    def best(self, now: float) -> Mailbox | None:
        """The mailbox to serve: of those that are ready, the least recently served."""
        chosen = None
        for mailbox in self.mailboxes.values():
            if mailbox.ready(now) and (chosen is None or mailbox.last_served_at < chosen.last_served_at):
                chosen = mailbox
        return chosen

    def windowed(self) -> tuple[int, int]:
        """Promised and dropped frames of all its streams over the drop window."""
        promised = dropped = 0
        for mailbox in self.mailboxes.values():
            some_promised, some_dropped = mailbox.windowed()
            promised, dropped = promised + some_promised, dropped + some_dropped
        return promised, dropped

    def overdue(self, now: float) -> bool:
        """Whether frames have waited for it for idle_after, and it took none in that time."""
        if self.state is not BUSY:
            return False
        waiting = [m.pending_since for m in self.mailboxes.values() if m.pending is not None]
        return bool(waiting) and now - max(self.last_taken_at, min(waiting)) >= self.policy.idle_after

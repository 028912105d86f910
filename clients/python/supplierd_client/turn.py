"""A session's turn: the demand that is out or comes next, and the frame before it, whose fate that demand reports.

What happens with nearly every frame is here, apart from the rest of the session, because it can be compiled as it is:
`turn.pxd` says which attributes are plain numbers then. A module of that name with C in it, where there is one, is
imported in place of this file.
"""

from enum import StrEnum
from typing import Final

from supplierd_client.pace import Pace

LOST_AFTER: Final = 2.0
"""Seconds after which a frame that was sent, and did not come, is given up at least. Doubled each time that one is, and
twice what the last one took: a link that needs longer than this for one frame still gets all of them through."""
REPEAT_AFTER: Final = 1.0
"""Seconds until an unanswered message is repeated; the daemon's WELCOME may say otherwise for demands."""


class State(StrEnum):
    """Where a session is."""

    JOINING = "joining"  # a JOIN is out
    IDLE = "idle"  # joined, and nobody asks
    ASKING = "asking"  # a demand is out
    CHECKING = "checking"  # a suspicious frame is at hand, a RECHECK is out
    ENDED = "ended"  # refused, taken over or closed


# Looking up a member of an enumeration goes through its metaclass: once is enough for what is asked at each frame.
_IDLE = State.IDLE
_ASKING = State.ASKING
_NEVER = float("inf")
_LONGEST = (1 << 63) - 1


def nanoseconds(seconds: float) -> int:
    """The same in whole nanoseconds, of which 64 bits can hold 292 years: a publisher's word on the capture can make a
    frame older than that."""
    if -9e9 < seconds < 9e9:
        return int(seconds * 1e9)
    return _LONGEST if seconds > 0.0 else -_LONGEST


class Turn:
    """What a session knows of its present turn. The methods change nothing else, and send nothing.

    Args:
        max_age: seconds; an older frame is refused.

    Attributes:
        state: where the session is.
        next_at: when something must be sent: seconds, monotonic.
        released: the frame that is held back: True: hand it out, False: forget it, None: there is none, or not yet.
        identity: of the last frame: stream, epoch and seq; None: there was none. What became of it is
            `outcome`, `age` (ns, when that was decided) and `processing` (ns, from hand-over to the next demand).
        session: the number of the session; 0: there is none.
        number: of the last demand.
    """

    def __init__(self, max_age: float | None) -> None:
        self.state = State.JOINING
        self.next_at = -_NEVER
        self.released: bool | None = None
        self.identity: tuple[str, int, int] | None = None
        self.outcome = ""
        self.age = 0
        self.processing = 0
        self.session = 0
        self.number = 0
        self.max_age = _NEVER if max_age is None else max_age
        self.asked = False  # the user wants a frame
        self.handed_at = 0.0  # when the last frame was handed out, if it was and no demand has followed
        self.held: tuple[str, int, int] | None = None  # the frame that is held back
        self.under_way_since = _NEVER  # since when the daemon says that a frame is under way to us; inf: it does not
        self.lost_after = LOST_AFTER
        self.repeat_after = REPEAT_AFTER
        self.paces: dict[str, Pace] = {}

    def ask(self, now: float) -> None:
        """The user wants a frame."""
        self.asked = True
        self.finish_processing(now)
        if self.state is _IDLE:
            self.demand(now)

    def begin(self, now: float) -> bool:
        """Ask, and take the demand as sent, in a session that has had a frame. False, and nothing has changed, where
        things are not as simple."""
        if self.state is not _IDLE or self.identity is None or not self.session:
            return False
        self.ask(now)
        self.next_at = now + self.repeat_after
        return True

    def take(self, identity: tuple[str, int, int], captured: int, age: float, now: float) -> bool:
        """A frame has come that is just what was asked for: it is to be handed out. False, and nothing has changed,
        where things are not as simple.

        Args:
            identity: which frame.
            captured: capture time, ns of the publisher's CLOCK_MONOTONIC.
            age: seconds since then.
            now: seconds, monotonic.
        """
        pace = self.paces.get(identity[0])
        if (
            self.state is not _ASKING or self.under_way_since < _NEVER or pace is None or pace.suspects(age)
            or age > self.max_age
        ):  # fmt: skip
            return False
        self.lost_after = LOST_AFTER
        self.hand_out(identity, age, now)
        pace.learn(identity[1], identity[2], captured, age)
        return True

    def hand_out(self, identity: tuple[str, int, int], age: float, now: float) -> None:
        """A frame is handed out."""
        self.identity, self.outcome, self.processing = identity, "consumed", 0
        self.age = nanoseconds(age) if age > 0.0 else 0
        self.handed_at = now
        self.held = self.released = None
        self.asked = False
        self.state = _IDLE
        self.next_at = _NEVER

    def demand(self, now: float) -> None:
        """A demand is to be sent."""
        self.number += 1
        self.under_way_since = _NEVER
        self.state = _ASKING
        self.next_at = now

    def finish_processing(self, now: float) -> None:
        """The user is done with the last frame, if it was not before."""
        if self.handed_at:
            self.processing = nanoseconds(now - self.handed_at)
            self.handed_at = 0.0

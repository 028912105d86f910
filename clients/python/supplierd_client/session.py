"""A worker's side of the protocol, without I/O: the shells (worker.py, aio.py) move its bytes.

The session asks for one frame at a time. Its demands are numbered and repeated, so any message may be lost and any side
may restart: a daemon that does not know it says REJOIN. A frame that is lost for good (it was sent, and does not come)
is given up by a new session, whose endpoint no old frame can reach; that keeps the daemon's ledger exact.
Frames name no demand, so the session must never have two on their way to it: that is why a RECHECK is not repeated.

A frame that is older than its stream's pace explains may have waited in a socket while this process was stopped. The
session then asks once whether a newer one exists (CHECKING) before it hands it out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from supplierd.wire import control
from supplierd_client.errors import ClientError, RefusedError, TakenOverError

RETRY_UNSENT: Final = 0.05
"""Seconds until a message that found no connection is tried again."""
REPEAT_AFTER: Final = 1.0
"""Seconds until an unanswered message is repeated; the daemon's WELCOME may say otherwise for demands."""
LOST_AFTER: Final = 2.0
"""Seconds after which a frame that was sent, and did not come, is given up at least. Doubled each time that one is, and
twice what the last one took: a link that needs longer than this for one frame still gets all of them through."""
LOST_AFTER_MAX: Final = 64.0
PACE_MARGIN: Final = 0.020
"""Seconds by which a frame may exceed its stream's interval: scheduling on a busy machine."""
PACE_WEIGHT: Final = 0.125
"""Weight of the newest age in the moving average; with DEVIATIONS, as TCP estimates its round trip (RFC 6298)."""
DEVIATIONS: Final = 4


class State(StrEnum):
    """Where a session is."""

    JOINING = "joining"  # a JOIN is out
    IDLE = "idle"  # joined, and nobody asks
    ASKING = "asking"  # a demand is out
    CHECKING = "checking"  # a suspicious frame is at hand, a RECHECK is out
    ENDED = "ended"  # refused, taken over or closed


class Verdict(StrEnum):
    """What to do with a frame that arrived."""

    TAKE = "take"  # hand it out
    HOLD = "hold"  # keep it: `released` will say when it may be handed out
    DROP = "drop"  # forget it


class FrameId(NamedTuple):
    """What names a frame to the daemon."""

    stream: str
    epoch: int
    seq: int


@dataclass(slots=True)
class _Pace:
    """What is known of one stream: its interval, and how old its frames use to be on arrival."""

    epoch: int
    seq: int
    captured: int
    interval: float = 0.0
    age: float = 0.0
    deviation: float = 0.0

    def suspects(self, age: float) -> bool:
        """Whether a frame of this age must have waited somewhere."""
        return (
            self.interval > 0.0 and age > self.interval + PACE_MARGIN and age > self.age + DEVIATIONS * self.deviation
        )

    def learn(self, identity: FrameId, captured: int, age: float) -> None:
        """A frame was handed out: `captured` in ns of its publisher's clock, `age` in seconds."""
        if identity.epoch == self.epoch and identity.seq > self.seq:
            self.interval = (captured - self.captured) / (identity.seq - self.seq) / 1e9
        self.epoch, self.seq, self.captured = identity.epoch, identity.seq, captured
        if not self.deviation:
            self.age, self.deviation = age, abs(age) / 2
        self.deviation += (abs(age - self.age) - self.deviation) * PACE_WEIGHT * 2
        self.age += (age - self.age) * PACE_WEIGHT


class Session:
    """The protocol of one worker.

    Args:
        join: what to say of the worker; instance, attempt and settled are filled in here.
        max_age: seconds; an older frame is refused and the next asked for. None: any age.
        inline_reason: says before each JOIN why payloads must come inline; "" where arenas can be read.
    """

    def __init__(
        self, join: control.Join, max_age: float | None, inline_reason: Callable[[], str] = lambda: "unsupported"
    ) -> None:
        self.state = State.JOINING
        self.error: ClientError | None = None
        self.welcome: control.Welcome | None = None
        self.endpoint = ""  # where the shell's PULL socket belongs; "" until there is one
        self.next_at = float("-inf")  # when the shell must ask `to_send` again
        self.released: bool | None = None  # the held frame: True: hand it out, False: forget it
        self.leases = 0  # of the shell: how many arena slots it holds
        self._join = join
        self._max_age = max_age
        self._inline_reason = inline_reason
        self._cannot_read = ""  # what was found when an arena could not be read after all
        self._asked = False  # the user wants a frame
        self._number = 0
        self._attempt = 0
        self._settled: control.Settled | None = None  # the report on the last frame, until a demand has brought it
        self._handed_at = 0.0  # when that frame was handed out, if it was
        self._held: FrameId | None = None
        self._held_age = 0.0
        self._under_way_since: float | None = None
        self._lost_after = LOST_AFTER
        self._paces: dict[str, _Pace] = {}
        self._restart()

    # --- what the user wants ------------------------------------------------------------------------------------------

    def ask(self, now: float) -> None:
        """The user wants a frame."""
        self._asked = True
        self._finish_processing(now)
        if self.state is State.IDLE:
            self._demand(now)

    def leave(self, now: float) -> bytes | None:
        """The worker closes: the last message, if the daemon knows the session. The session ends."""
        message = None
        if self.welcome is not None and self.state is not State.ENDED:
            self._finish_processing(now)
            if self._held is not None:
                self._settled = control.Settled(*self._held, "closed", round(self._held_age * 1e9))
            message = control.encode(control.Leave(self.welcome.session, self._settled))
        self.state = State.ENDED
        return message

    # --- control ------------------------------------------------------------------------------------------------------

    def to_send(self, now: float) -> bytes | None:
        """The message that is due, if one is."""
        if now < self.next_at:
            return None
        self.next_at = now + REPEAT_AFTER
        if self.state is State.ASKING and self.welcome is not None:
            self.next_at = now + max(self.welcome.repeat_after, RETRY_UNSENT)
            return control.encode_demand(self.welcome.session, self._number, self._settled, self.leases)
        match self.state:
            case State.JOINING:
                return control.encode(self._join_message())
            case State.CHECKING if self.welcome is not None and self._under_way_since is None:
                self._under_way_since = now
                self.next_at = now + self._lost_after
                return control.encode(control.Recheck(self.welcome.session, self._number))
            case State.CHECKING:
                self._give_up()
                self.next_at = now + REPEAT_AFTER
                return control.encode(self._join_message())
        self.next_at = float("inf")
        return None

    def unsent(self, now: float) -> None:
        """The message that `to_send` gave found no connection."""
        self._under_way_since = None
        self.next_at = now + RETRY_UNSENT

    def hear(self, data: bytes, now: float) -> None:
        """A control message arrived.

        Raises:
            WireError: it is none that a daemon sends.
        """
        message = control.decode_from_daemon(data)
        session = self.welcome.session if self.welcome else None
        match message:
            case control.Welcome() if self.state is State.JOINING and message.attempt == self._attempt:
                self._welcomed(message, now)
            case control.Refused() if self.state is State.JOINING and message.attempt == self._attempt:
                taken_over = message.reason == "taken_over"
                self._end(
                    TakenOverError(message.message) if taken_over else RefusedError(message.reason, message.message)
                )
            case control.Error() if self.state is State.JOINING:
                self._end(RefusedError(message.reason, message.message))
            case control.TakenOver() if message.session == session:
                self._end(
                    TakenOverError(f"worker {self._join.worker} was taken over by another process ({message.by})")
                )
            case control.Rejoin() if message.session == session and self.state not in (State.JOINING, State.ENDED):
                self._restart()
            case control.Goodbye() if self.state is not State.ENDED:
                self._restart()
                self.next_at = now + RETRY_UNSENT
            case control.Newest() if self.state is State.CHECKING and message.number == self._number:
                self.released = True
            case control.Wait() if self.state is State.ASKING and message.number == self._number:
                self._waited(message.sent, now)

    # --- frames -------------------------------------------------------------------------------------------------------

    def arrived(self, identity: FrameId, captured: int, age: float, now: float) -> Verdict:
        """A frame arrived on the current endpoint.

        Args:
            identity: which frame.
            captured: capture time, ns of the publisher's CLOCK_MONOTONIC.
            age: seconds since then.
            now: seconds, monotonic.
        """
        checked = self.state is State.CHECKING
        if not self.expects_frame:
            return Verdict.DROP
        took = 0.0 if self._under_way_since is None else now - self._under_way_since
        self._lost_after = min(max(LOST_AFTER, 2 * took), LOST_AFTER_MAX)
        self._under_way_since = None
        if self._max_age is not None and age > self._max_age:
            self.discard(identity, "expired", age, now)
            return Verdict.DROP
        pace = self._paces.setdefault(identity.stream, _Pace(identity.epoch, identity.seq, captured))
        if not checked and pace.suspects(age):
            self.state = State.CHECKING
            self._held, self._held_age = identity, age
            self.released = None
            self.next_at = now
            return Verdict.HOLD
        self._hand_out(identity, age, now)
        pace.learn(identity, captured, age)
        return Verdict.TAKE

    def discard(self, identity: FrameId, outcome: str, age: float, now: float) -> None:
        """A frame cannot be handed out; ask for the next at once."""
        self._held, self.released = None, None
        self._settled = control.Settled(*identity, outcome, round(age * 1e9))
        self._handed_at = 0.0
        self._demand(now)

    @property
    def expects_frame(self) -> bool:
        """Whether a frame that arrives now may be handed out."""
        return self.state in (State.ASKING, State.CHECKING)

    def go_inline(self, identity: FrameId, reason: str, age: float) -> None:
        """An arena cannot be read after all: ask for a session in which payloads come inline."""
        self._cannot_read = reason
        self._settled = control.Settled(*identity, "unreadable", round(age * 1e9))
        self._handed_at = 0.0
        self._restart()

    def take_held(self, captured: int, age: float, now: float) -> bool:
        """The held frame is handed out after all, unless it has become too old meanwhile. Arguments as of `arrived`."""
        held = self._held
        assert held is not None
        if self._max_age is not None and age > self._max_age:
            self.discard(held, "expired", age, now)
            return False
        self._paces[held.stream].learn(held, captured, age)
        self._hand_out(held, age, now)
        return True

    # --- inside -------------------------------------------------------------------------------------------------------

    def _hand_out(self, identity: FrameId, age: float, now: float) -> None:
        self._settled = control.Settled(*identity, "consumed", round(max(age, 0.0) * 1e9))
        self._handed_at = now
        self._held, self.released = None, None
        self._asked = False
        self.state = State.IDLE
        self.next_at = float("inf")

    def _demand(self, now: float) -> None:
        self._number += 1
        self._under_way_since = None
        self.state = State.ASKING
        self.next_at = now

    def _finish_processing(self, now: float) -> None:
        if self._handed_at and self._settled is not None:
            self._settled = control.Settled(*self._settled[:-1], processing=round((now - self._handed_at) * 1e9))
            self._handed_at = 0.0

    def _welcomed(self, message: control.Welcome, now: float) -> None:
        self.welcome = message
        self.endpoint = message.endpoint
        self.state = State.IDLE
        self.next_at = float("inf")
        if self._asked:
            self._demand(now)

    def _waited(self, sent: bool, now: float) -> None:
        """The daemon lives, and says whether a frame is under way to us."""
        if not sent:
            self._under_way_since = None
        elif self._under_way_since is None:
            self._under_way_since = now
        elif now - self._under_way_since >= self._lost_after:
            self._give_up()

    def _give_up(self) -> None:
        """What is under way to us is lost."""
        self._lost_after = min(2 * self._lost_after, LOST_AFTER_MAX)
        self._restart()

    def _restart(self) -> None:
        """Ask for a new session; what was under way in the old one is void."""
        self._attempt += 1
        self._number = 0
        self._under_way_since = None
        self.released = False if self._held is not None else None
        self._held = None
        self.endpoint = ""
        self.state = State.JOINING
        self.next_at = float("-inf")

    def _join_message(self) -> control.Join:
        join = self._join
        return control.Join(
            worker=join.worker,
            instance=join.instance,
            attempt=self._attempt,
            versions=join.versions,
            client=join.client,
            streams=join.streams,
            target_fps=join.target_fps,
            boot=join.boot,
            pid=join.pid,
            arena=self._cannot_read or self._inline_reason(),
            settled=self._settled,
        )

    def _end(self, error: ClientError) -> None:
        self.error = error
        self.state = State.ENDED
        self.endpoint = ""
        self.next_at = float("inf")

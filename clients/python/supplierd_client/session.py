"""A worker's side of the protocol, without I/O: the shells (worker.py, aio.py) move its bytes.

The session asks for one frame at a time. Its demands are numbered and repeated, so any message may be lost and any side
may restart: a daemon that does not know it says REJOIN. A frame that is lost for good (it was sent, and does not come)
is given up by a new session, whose endpoint no old frame can reach; that keeps the daemon's ledger exact.
Frames name no demand, so the session must never have two on their way to it: that is why a RECHECK is not repeated.

A frame that is older than its stream's pace explains may have waited in a socket while this process was stopped. The
session then asks once whether a newer one exists (CHECKING) before it hands it out.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

from supplierd.wire import bell, control
from supplierd_client.errors import ClientError, RefusedError, TakenOverError
from supplierd_client.pace import Pace
from supplierd_client.turn import LOST_AFTER, REPEAT_AFTER, State, Turn, nanoseconds

RETRY_UNSENT: Final = 0.05
"""Seconds until a message that found no connection is tried again."""
LOST_AFTER_MAX: Final = 64.0


class Verdict(StrEnum):
    """What to do with a frame that arrived."""

    TAKE = "take"  # hand it out
    HOLD = "hold"  # keep it: `released` will say when it may be handed out
    DROP = "drop"  # forget it


# Looking up a member of an enumeration goes through its metaclass: once is enough for what is asked at each frame.
_ASKING: Final = State.ASKING
_CHECKING: Final = State.CHECKING
_TAKE: Final = Verdict.TAKE
EXPECTING: Final = (State.ASKING, State.CHECKING)
"""The states in which a frame that arrives may be handed out."""
_NEVER: Final = float("inf")


class FrameId(NamedTuple):
    """What names a frame to the daemon. A plain tuple of the same items does as well, and costs less."""

    stream: str
    epoch: int
    seq: int


class Session(Turn):
    """The protocol of one worker.

    Args:
        join: what to say of the worker; instance, attempt and settled are filled in here.
        max_age: seconds; an older frame is refused and the next asked for. None: any age.
        inline_reason: says before each JOIN why payloads must come inline; "" where arenas can be read.
    """

    def __init__(
        self, join: control.Join, max_age: float | None, inline_reason: Callable[[], str] = lambda: "unsupported"
    ) -> None:
        super().__init__(max_age)
        self.error: ClientError | None = None
        self.welcome: control.Welcome | None = None
        self.endpoint = ""  # where the shell's PULL socket belongs; "" until there is one
        self.leases = 0  # of the shell: how many arena slots it holds
        self._join = join
        self._inline_reason = inline_reason
        self._cannot_read = ""  # what was found when an arena could not be read after all
        self._attempt = 0
        self._held_age = 0.0
        self._held_captured = 0
        self._restart()

    # --- what the user wants ------------------------------------------------------------------------------------------

    def leave(self, now: float) -> bytes | None:
        """The worker closes: the last message, if the daemon knows the session. The session ends."""
        message = None
        if self.welcome is not None and self.state is not State.ENDED:
            self.finish_processing(now)
            if self.held is not None:
                self._settle(self.held, "closed", self._held_age)
            message = control.encode(control.Leave(self.welcome.session, self._report()))
        self.state = State.ENDED
        return message

    # --- control ------------------------------------------------------------------------------------------------------

    def to_send(self, now: float, short: bool = False) -> bytes | None:
        """The message that is due, if one is; a demand in its short form, where wanted."""
        if now < self.next_at:
            return None
        if self.state is _ASKING and self.welcome is not None:
            self.next_at = now + self.repeat_after
            encode = bell.encode_demand if short else control.encode_demand
            return encode(self.welcome.session, self.number, self._report(), self.leases)
        self.next_at = now + REPEAT_AFTER
        match self.state:
            case State.JOINING:
                return control.encode(self._join_message())
            case State.CHECKING if self.welcome is not None and self.under_way_since == _NEVER:
                self.under_way_since = now
                self.next_at = now + self.lost_after
                return control.encode(control.Recheck(self.welcome.session, self.number))
            case State.CHECKING:
                self._give_up()
                self.next_at = now + REPEAT_AFTER
                return control.encode(self._join_message())
        self.next_at = _NEVER
        return None

    def hung_up(self) -> None:
        """The daemon has ended the connection that the session goes over: so it has ended the session."""
        if self.state not in (State.JOINING, State.ENDED):
            self._restart()

    def unsent(self, now: float) -> None:
        """The message that `to_send` gave found no connection."""
        self.under_way_since = _NEVER
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
            case control.Newest() if self.state is State.CHECKING and message.number == self.number:
                self.released = True
            case control.Wait() if self.state is State.ASKING and message.number == self.number:
                self._waited(message.sent, now)

    # --- frames -------------------------------------------------------------------------------------------------------

    def arrived(self, identity: tuple[str, int, int], captured: int, age: float, now: float) -> Verdict:
        """A frame arrived on the current endpoint.

        Args:
            identity: which frame.
            captured: capture time, ns of the publisher's CLOCK_MONOTONIC.
            age: seconds since then.
            now: seconds, monotonic.
        """
        if self.take(identity, captured, age, now):
            return _TAKE
        if self.state not in EXPECTING:
            return Verdict.DROP
        self.lost_after = LOST_AFTER
        if self.under_way_since < _NEVER:
            self.lost_after = min(max(LOST_AFTER, 2 * (now - self.under_way_since)), LOST_AFTER_MAX)
            self.under_way_since = _NEVER
        if age > self.max_age:
            self.discard(identity, "expired", age, now)
            return Verdict.DROP
        stream, epoch, seq = identity
        pace = self.paces.get(stream)
        if pace is None:
            pace = self.paces[stream] = Pace(epoch, seq, captured)
        if self.state is not _CHECKING and pace.suspects(age):
            self.state = State.CHECKING
            self.held, self._held_age, self._held_captured = identity, age, captured
            self.released = None
            self.next_at = now
            return Verdict.HOLD
        self.hand_out(identity, age, now)
        pace.learn(epoch, seq, captured, age)
        return _TAKE

    def discard(self, identity: tuple[str, int, int], outcome: str, age: float, now: float) -> None:
        """A frame cannot be handed out; ask for the next at once."""
        self.held, self.released = None, None
        self._settle(identity, outcome, age)
        self.demand(now)

    def go_inline(self, identity: tuple[str, int, int], reason: str, age: float) -> None:
        """An arena cannot be read after all: ask for a session in which payloads come inline."""
        self._cannot_read = reason
        self._settle(identity, "unreadable", age)
        self._restart()

    def take_held(self, age: float, now: float) -> bool:
        """The held frame is handed out after all, unless it has become too old meanwhile. Arguments as of `arrived`."""
        held = self.held
        assert held is not None
        if age > self.max_age:
            self.discard(held, "expired", age, now)
            return False
        stream, epoch, seq = held
        self.paces[stream].learn(epoch, seq, self._held_captured, age)
        self.hand_out(held, age, now)
        return True

    # --- inside -------------------------------------------------------------------------------------------------------

    def _settle(self, identity: tuple[str, int, int], outcome: str, age: float) -> None:
        """A frame was not handed out, for this reason."""
        self.identity, self.outcome, self.age = identity, outcome, nanoseconds(age)
        self.processing, self.handed_at = 0, 0.0

    def _report(self) -> control.Settled | None:
        """The report on the last frame."""
        identity = self.identity
        return None if identity is None else control.Settled(*identity, self.outcome, self.age, self.processing)

    def _welcomed(self, message: control.Welcome, now: float) -> None:
        self.welcome, self.session = message, message.session
        self.repeat_after = max(message.repeat_after, RETRY_UNSENT)
        self.endpoint = message.endpoint
        self.state = State.IDLE
        self.next_at = _NEVER
        if self.asked:
            self.demand(now)

    def _waited(self, sent: bool, now: float) -> None:
        """The daemon lives, and says whether a frame is under way to us."""
        if not sent:
            self.under_way_since = _NEVER
        elif self.under_way_since == _NEVER:
            self.under_way_since = now
        elif now - self.under_way_since >= self.lost_after:
            self._give_up()

    def _give_up(self) -> None:
        """What is under way to us is lost."""
        self.lost_after = min(2 * self.lost_after, LOST_AFTER_MAX)
        self._restart()

    def _restart(self) -> None:
        """Ask for a new session; what was under way in the old one is void."""
        self._attempt += 1
        self.number = 0
        self.under_way_since = _NEVER
        self.released = False if self.held is not None else None
        self.held = None
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
            settled=self._report(),
        )

    def _end(self, error: ClientError) -> None:
        self.error = error
        self.state = State.ENDED
        self.endpoint = ""
        self.next_at = _NEVER

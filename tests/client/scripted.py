"""A session on its own: what its daemon says is scripted, and time passes only when told."""

from typing import Any, Final

from supplierd_client.session import FrameId, Session, Verdict
from supplierd_client.turn import State

from supplierd.wire import control

INTERVAL: Final = 1 / 30
FRESH: Final = 0.002
"""Seconds: the age at which frames usually arrive."""
STALE: Final = 5.0
SESSION: Final = 11
"""Number of the first session; each later one is one higher."""


def join(worker: str = "detector") -> control.Join:
    """What a shell gives its session."""
    return control.Join(
        worker=worker, instance=bytes(16), attempt=0, versions=[1], client="test", streams=["cam-1"], boot=bytes(16)
    )


class Scripted:
    """A session whose daemon and clock are played by the test.

    Args:
        max_age: of the worker, seconds.
    """

    def __init__(self, max_age: float | None = None) -> None:
        self.session = Session(join(), max_age)
        self.now = 1000.0
        self.seq = 0
        self.sessions = 0

    @property
    def state(self) -> State:
        return self.session.state

    def sends(self, after: float = 0.0) -> Any:
        """What the session sends when it is asked `after` seconds from now: a message, or None."""
        self.now += after
        data = self.session.to_send(self.now)
        return None if data is None else control.decode_from_client(data)

    def hears(self, *messages: control.FromDaemon) -> None:
        for message in messages:
            self.session.hear(control.encode(message), self.now)

    def asks(self, after: float = 0.0) -> Any:
        """The user reads `after` seconds from now; what the session sends for it."""
        self.now += after
        self.session.ask(self.now)
        return self.sends()

    def gets(self, age: float = FRESH, *, stream: str = "cam-1", epoch: int = 1, skip: int = 0) -> Verdict:
        """The next frame of a 30 fps camera arrives (`skip` frames were left out), `age` seconds after its capture.

        Time passes as it must: it was captured an interval after the one before.
        """
        self.seq += 1 + skip
        captured = round(self.seq * INTERVAL * 1e9)
        self.now = max(self.now, 1000.0 + self.seq * INTERVAL + age)
        return self.session.arrived(FrameId(stream, epoch, self.seq), captured, age, self.now)

    def frame(self, stream: str = "cam-1", epoch: int = 1) -> FrameId:
        """The frame that arrived last."""
        return FrameId(stream, epoch, self.seq)

    def welcome(self, attempt: int | None = None, repeat_after: float = 1.0) -> control.Welcome:
        """The daemon's answer to the JOIN that is out."""
        number = self.joins().attempt if attempt is None else attempt
        self.sessions += 1
        return control.Welcome(
            SESSION - 1 + self.sessions, f"ipc:///run/w-{self.sessions}.sock", number, "normal", repeat_after
        )

    def joins(self) -> control.Join:
        """The JOIN that is out, repeated if need be."""
        message = self.sends(after=max(0.0, self.session.next_at - self.now))
        assert isinstance(message, control.Join), message
        return message

    def joined(self, **welcome: Any) -> "Scripted":
        """After WELCOME: idle."""
        self.hears(self.welcome(**welcome))
        return self

    def asking(self) -> "Scripted":
        """After WELCOME, with demand 1 out, not sent before."""
        self.joined().session.ask(self.now)
        return self

    def paced(self, frames: int = 3) -> "Scripted":
        """After some frames, so that the stream's pace is known; idle."""
        self.joined()
        for _ in range(frames):
            self.asks()
            assert self.gets() is Verdict.TAKE
        return self

    def checking(self) -> "Scripted":
        """A frame that is too old for its stream's pace is held; the RECHECK is not sent yet."""
        self.paced().asks()
        assert self.gets(STALE) is Verdict.HOLD
        return self

    def ended(self) -> "Scripted":
        """Closed by the user."""
        self.joined().session.leave(self.now)
        return self


def in_state(state: State) -> Scripted:
    """A session that has come to this state."""
    made = Scripted()
    match state:
        case State.JOINING:
            return made
        case State.IDLE:
            return made.joined()
        case State.ASKING:
            return made.asking()
        case State.CHECKING:
            return made.checking()
        case State.ENDED:
            return made.ended()

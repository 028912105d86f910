"""What the model keeps: every frame that was offered, with its fate, and what is known of workers and streams."""

from dataclasses import dataclass, field

from supplierd.core.service import WorkerPolicy
from supplierd.core.stream import Frame

NEVER = float("-inf")


@dataclass
class Offer:
    """A frame that entered a mailbox, and what became of it: "pending", "in_flight", "consumed", "replaced", "spared"
    (too old, and there before its worker), or a reason."""

    frame: Frame
    fate: str
    greeting: bool = False


@dataclass
class Box:
    """What one worker was offered of one stream."""

    offers: list[Offer] = field(default_factory=list)
    followed: bool = False
    had: Frame | None = None  # the newest that the worker's present process was given, and may have seen
    served_at: float = NEVER
    taken_at: float = NEVER  # since its promise began; and how often, and when first
    turns: int = 0
    first_at: float = NEVER
    waiting_since: float = 0.0
    before: tuple[Frame | None, float, float, int, float] = (None, NEVER, NEVER, 0, NEVER)

    def only(self, fate: str) -> Offer | None:
        """The one offer of this fate, "pending" or "in_flight"; there may be no more."""
        found = [offer for offer in self.offers if offer.fate == fate]
        assert len(found) <= 1
        return found[0] if found else None

    def end(self, fate: str, reason: str) -> None:
        """Close the account of the offer with this fate, if there is one."""
        offer = self.only(fate)
        if offer is not None:
            offer.fate = reason
            if fate == "in_flight" and reason in ("lost", "disconnected", "unreadable"):
                self.had, self.served_at = None, NEVER

    def offer(self, frame: Frame, now: float, greeting: bool = False) -> None:
        """A newer frame for a worker that is there, or one that was there before it."""
        if self.only("pending") is None:
            self.waiting_since = now
        self.end("pending", "replaced")
        self.offers.append(Offer(frame, "pending", greeting))

    def miss(self, frame: Frame, now: float) -> None:
        """A newer frame for a worker that is gone: it is there for its return."""
        self.end("pending", "disconnected")
        self.offers.append(Offer(frame, "pending"))
        self.waiting_since = now

    def promise(self) -> None:
        """A promised rate begins."""
        self.taken_at, self.turns, self.first_at = NEVER, 0, NEVER

    def take(self, now: float) -> None:
        """The pending frame goes under way."""
        offer = self.only("pending")
        assert offer is not None
        assert self.only("in_flight") is None
        self.before = self.had, self.served_at, self.taken_at, self.turns, self.first_at
        offer.fate, self.had, self.served_at, self.taken_at = "in_flight", offer.frame, now, now
        self.turns += 1
        if self.first_at == NEVER:
            self.first_at = now

    def surely_due(self, fps: float | None) -> bool:
        """Whether a pending frame must go out without further delay, whatever the pace."""
        return fps is None or self.taken_at == NEVER

    def put_back(self) -> None:
        """It could not be sent."""
        self.end("in_flight", "pending")
        self.had, self.served_at, self.taken_at, self.turns, self.first_at = self.before


@dataclass
class ModelWorker:
    """One worker by name."""

    name: str
    policy: WorkerPolicy
    boxes: dict[str, Box] = field(default_factory=dict)
    connected: bool = False
    following: bool = False
    any_stream: bool = False
    session: int = 0
    instance: bytes = b""
    replaced: list[bytes] = field(default_factory=list)
    number: int = 0
    open: bool = False
    fps: float | None = None
    departed_at: float = 0.0
    last_taken: float = 0.0

    def under_way(self) -> Box | None:
        boxes = [box for box in self.boxes.values() if box.only("in_flight")]
        assert len(boxes) <= 1
        return boxes[0] if boxes else None

    def overdue(self, now: float) -> bool:
        since = [box.waiting_since for box in self.boxes.values() if box.only("pending")]
        return bool(since) and now - max(self.last_taken, min(since)) >= self.policy.idle_after


@dataclass
class Run:
    """One epoch: its frames after `base` up to `top` are accounted for."""

    base: int
    top: int
    rank: int = -1  # the how-manieth that took the stream; -1: it never did


@dataclass
class ModelStream:
    """One stream."""

    runs: dict[tuple[bytes, int], Run] = field(default_factory=dict)
    current: tuple[bytes, int] | None = None
    newest: Frame | None = None
    received: int = 0
    late: int = 0

    def refusal(self, frame: Frame) -> str | None:
        """Why a frame must be refused; None: it must be taken."""
        key = frame.boot, frame.epoch
        if key == self.current:
            return "old_seq" if frame.seq <= self.runs[key].top else None
        later = any(boot == frame.boot and epoch > frame.epoch for boot, epoch in self.runs)
        return "old_epoch" if key in self.runs or later else None

    def arrived(self, frame: Frame, refusal: str | None, base: int) -> None:
        run = self.runs.setdefault((frame.boot, frame.epoch), Run(base, base))
        if refusal is None:
            if self.current != (frame.boot, frame.epoch):
                self.current = frame.boot, frame.epoch
                run.rank = max(r.rank for r in self.runs.values()) + 1
            self.newest = frame
            self.received += 1
        elif refusal == "old_epoch" and frame.seq > run.top:
            self.late += 1
        run.top = max(run.top, frame.seq)

    def order(self, frame: Frame) -> tuple[int, int]:
        """Where a frame stands among those of its stream."""
        return self.runs[frame.boot, frame.epoch].rank, frame.seq


@dataclass
class Client:
    """One process of a worker: its sessions, and the frames that it was sent."""

    name: str
    instance: bytes
    session: int = 0
    number: int = 0
    attempt: int = 0
    last: Frame | None = None
    before: Frame | None = None

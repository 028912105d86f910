"""What the core's tests are made of: cameras that number their frames, worker processes that speak for themselves."""

from dataclasses import dataclass, field
from itertools import count

from supplierd.core.mailbox import Mailbox, Report
from supplierd.core.service import Settings, WorkerPolicy
from supplierd.core.snapshot import MailboxSnapshot, Snapshot, WorkerSnapshot, take
from supplierd.core.stream import Frame
from supplierd.core.supplier import Delivery, Reply, Supplier
from supplierd.core.worker import JoinRequest, Worker

BOOT, OTHER_BOOT = b"\x01" * 16, b"\x02" * 16
STARTED = 1_000
"""When the daemon started, by the clock of BOOT."""


def frame(
    seq: int = 1, *, stream: str = "cam-1", epoch: int = STARTED + 1, boot: bytes = BOOT, unsent: int = 0
) -> Frame:
    """A frame of an epoch that began under this daemon, unless told otherwise."""
    return Frame(stream=stream, boot=boot, epoch=epoch, seq=seq, unsent=unsent, inline="", message=object())


@dataclass
class Camera:
    """One run of a publisher."""

    stream: str = "cam-1"
    epoch: int = STARTED + 1
    boot: bytes = BOOT
    seq: int = 0
    unsent: int = 0

    def shoot(self, skipped: int = 0) -> Frame:
        """The next frame, `skipped` having been lost on the way."""
        self.seq += 1 + skipped
        return frame(self.seq, stream=self.stream, epoch=self.epoch, boot=self.boot, unsent=self.unsent)


def supplier(workers: dict[str, WorkerPolicy] | None = None, **settings: object) -> Supplier:
    """A supplier with these settings; max_workers and the like by name."""
    return Supplier(Settings(workers=workers or {}, **settings), BOOT, STARTED)  # type: ignore[arg-type]


_numbers = count(1)


@dataclass
class Process:
    """A worker's process: its sessions, and what it was given."""

    supplier: Supplier
    name: str = "w"
    streams: tuple[str, ...] = ("cam-1",)
    target_fps: float | None = None
    instance: bytes = field(default_factory=lambda: next(_numbers).to_bytes(16, "big"))
    session: int = 0
    number: int = 0
    attempt: int = 0

    def join(self, now: float = 0.0, report: Report | None = None) -> Worker:
        """Ask for a (new) session."""
        self.attempt += 1
        request = JoinRequest(self.name, self.instance, self.attempt, self.streams, self.target_fps)
        worker = self.supplier.join(request, next(_numbers), report, now)
        self.session, self.number = worker.session, 0
        return worker

    def demand(self, now: float = 0.0, report: Report | None = None) -> Frame | Reply:
        """Ask for the next frame: what is sent, or said."""
        self.number += 1
        return self.repeat(now, report)

    def repeat(self, now: float = 0.0, report: Report | None = None) -> Frame | Reply:
        """Send the last demand again."""
        return sent(self.supplier.demand(self.session, self.number, report, now))

    def recheck(self, now: float = 0.0) -> Frame | Reply:
        """Ask whether there is a newer frame than the one at hand."""
        return sent(self.supplier.recheck(self.session, self.number, now))

    def leave(self, now: float = 0.0, report: Report | None = None) -> Worker | None:
        """Go for good."""
        return self.supplier.leave(self.session, report, now)

    def crash(self, now: float = 0.0) -> None:
        """The connection is gone."""
        self.supplier.disconnected(self.worker, now)

    @property
    def worker(self) -> Worker:
        """What the supplier knows of it."""
        return self.supplier.workers[self.name]

    @property
    def mailbox(self) -> Mailbox:
        """Its mailbox for its first stream."""
        return self.worker.mailboxes[self.streams[0]]

    @property
    def counts(self) -> dict[str, int]:
        """That mailbox's ledger, what is 0 left out."""
        ledger = self.mailbox.ledger
        assert ledger.balance == 0
        names = ("offered", "consumed", "overwritten", "decimated", "pending", "in_flight")
        counts = {name: getattr(ledger, name) for name in names} | ledger.discarded
        return {name: value for name, value in counts.items() if value}


def sent(reply: Delivery | Reply) -> Frame | Reply:
    """The frame that a delivery moved under way, or the reply."""
    if isinstance(reply, Reply):
        return reply
    assert reply.mailbox.in_flight is not None
    return reply.mailbox.in_flight


def delivered(deliveries: list[Delivery]) -> dict[str, Frame | Reply]:
    """The frames that deliveries moved under way, by worker."""
    return {delivery.worker.name: sent(delivery) for delivery in deliveries}


def report(of: Frame | Reply, outcome: str = "consumed", age: float = 0.0, processing: float = 0.0) -> Report:
    """A worker's word on a frame."""
    assert isinstance(of, Frame)
    return Report(of.stream, of.epoch, of.seq, outcome, age, processing)


def picture(supplier: Supplier, now: float = 0.0) -> Snapshot:
    """The snapshot, taken when the wall clock is 1000 s ahead of the monotonic one."""
    return take(supplier, now, now + 1000.0)


def pictured(supplier: Supplier, name: str = "w", now: float = 0.0) -> WorkerSnapshot:
    """One worker's part of it."""
    (worker,) = [w for w in picture(supplier, now).workers if w.name == name]
    return worker


def mailbox_pictured(supplier: Supplier, name: str = "w", stream: str = "cam-1", now: float = 0.0) -> MailboxSnapshot:
    """One mailbox's part of it."""
    (mailbox,) = [m for m in pictured(supplier, name, now).mailboxes if m.stream == stream]
    return mailbox

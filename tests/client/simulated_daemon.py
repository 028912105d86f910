"""The daemon of the simulation: the real core, and the least of what is around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from supplierd_client.session import FrameId

from supplierd.core.mailbox import Report
from supplierd.core.refusals import FrameRefusedError
from supplierd.core.service import Settings
from supplierd.core.stream import Frame
from supplierd.core.supplier import Delivery, Reply, Supplier
from supplierd.core.worker import JoinRequest, Worker
from supplierd.daemon.distribution import SWEEP
from supplierd.daemon.sessions import CONNECT_GRACE
from supplierd.transport.sockets import TICK
from supplierd.wire import control

if TYPE_CHECKING:
    from tests.client.simulation import Network, Pull

BOOT: Final = bytes(16)


class Pixels(NamedTuple):
    """A frame's message."""

    identity: FrameId
    captured: float


class FakeLink:
    """The daemon's socket for one session."""

    def __init__(self, net: Network, endpoint: str) -> None:
        self._net = net
        self._opened_at = net.now
        self._was_connected = False
        self.endpoint = endpoint

    def _peer(self) -> Pull | None:
        return next((p for p in self._net.pulls if p.endpoint == self.endpoint and p.connected), None)

    def lost(self) -> bool:
        """Whether the worker's connection is gone, or did not come in time."""
        there = self._peer() is not None
        self._was_connected = self._was_connected or there
        return not there and (self._was_connected or self._net.now - self._opened_at >= CONNECT_GRACE)

    def send(self, message: Pixels) -> bool:
        peer = self._peer()
        if peer is None:
            return False
        if not self._net.loses("frames"):
            peer.pipe.put(message)
        return True

    def close(self) -> None:
        for pull in self._net.pulls:
            if pull.endpoint == self.endpoint:
                pull.pipe.lose()


class WatchedSupplier(Supplier):
    """Remembers what became of each frame that was under way."""

    def __init__(self, started: float) -> None:
        super().__init__(Settings(), BOOT, round(started * 1e9))
        self.fates: list[tuple[FrameId, str]] = []

    def _settle(self, worker: Worker, report: Report | None, otherwise: str, now: float) -> None:
        mailbox = worker.in_flight()
        if mailbox is None:
            return
        before = dict(mailbox.ledger.discarded)
        frame = mailbox.in_flight
        assert frame is not None
        super()._settle(worker, report, otherwise, now)
        changed = [reason for reason, count in mailbox.ledger.discarded.items() if count != before.get(reason, 0)]
        self.fates.append((frame.message.identity, changed[0] if changed else "consumed"))

    def recheck(self, session: int, number: int, now: float) -> Delivery | Reply:
        worker = self.session(session)
        mailbox = worker.in_flight() if worker else None
        before = mailbox.in_flight if mailbox else None
        reply = super().recheck(session, number, now)
        if isinstance(reply, Delivery) and before is not None:
            self.fates.append((before.message.identity, "stale"))
        return reply


class Daemon:
    """One life of a daemon: the core, and the least of what is around it.

    `dialogue.py` does the same for real peers: a repeated JOIN gets the same answer, and who is replaced is told.
    """

    def __init__(self, net: Network) -> None:
        self._net = net
        self.supplier = WatchedSupplier(net.now)
        self.links: dict[str, FakeLink] = {}  # by worker
        self._welcomes: dict[str, control.Welcome] = {}
        self._peers: dict[str, bytes] = {}
        self._ticked_at = self._swept_at = net.now

    def frame(self, pixels: Pixels) -> None:
        stream, epoch, seq = pixels.identity
        try:
            deliveries = self.supplier.frame(Frame(stream, BOOT, epoch, seq, 0, "", pixels), self._net.now)
        except FrameRefusedError:
            return
        for delivery in deliveries:
            self._deliver(delivery)

    def turn(self) -> None:
        now = self._net.now
        for connection in self._net.connections:
            if connection.connected:
                for data in connection.up.arrived():
                    self._hear(connection.identity, control.decode_from_client(data))
        if now - self._ticked_at >= TICK:
            self._ticked_at = now
            for delivery in self.supplier.tick(now):
                self._deliver(delivery)
        if now - self._swept_at >= SWEEP:
            self._swept_at = now
            for name, link in list(self.links.items()):
                if link.lost():
                    self._close(name)
                    self.supplier.disconnected(self.supplier.workers[name], now)

    def say_goodbye(self) -> None:
        for name in self.links:
            self._tell(self._peers[name], control.Goodbye("SIGTERM"))

    def _hear(self, peer: bytes, message: control.FromClient) -> None:
        now = self._net.now
        match message:
            case control.Join():
                self._join(peer, message)
            case control.Demand():
                worker = self.supplier.session(message.session)
                if worker is not None:
                    self._peers[worker.name] = peer
                self._answer(
                    peer, message, self.supplier.demand(message.session, message.number, _report(message.settled), now)
                )
            case control.Recheck():
                self._answer(peer, message, self.supplier.recheck(message.session, message.number, now))
            case control.Leave():
                worker = self.supplier.leave(message.session, _report(message.settled), now)
                if worker is not None:
                    self._close(worker.name)

    def _answer(self, peer: bytes, message: control.Demand | control.Recheck, reply: Delivery | Reply) -> None:
        match reply:
            case Delivery():
                self._deliver(reply)
            case Reply.REJOIN:
                self._tell(peer, control.Rejoin(message.session, "unknown"))
            case Reply.NEWEST:
                self._tell(peer, control.Newest(message.number))
            case Reply.WAIT | Reply.UNDER_WAY:
                self._tell(peer, control.Wait(message.number, sent=reply is Reply.UNDER_WAY))

    def _join(self, peer: bytes, message: control.Join) -> None:
        name, known = message.worker, self.supplier.workers.get(message.worker)
        if known and name in self.links and (known.instance, known.attempt) == (message.instance, message.attempt):
            self._tell(peer, self._welcomes[name])
            return
        if known and name in self.links and known.instance != message.instance:
            self._tell(self._peers[name], control.TakenOver(known.session, "another"))
        request = JoinRequest(name, message.instance, message.attempt, tuple(message.streams))
        session = self._net.number()
        self.supplier.join(request, session, _report(message.settled), self._net.now)
        self._close(name)
        self.links[name] = FakeLink(self._net, f"ipc:///run/w-{session}.sock")
        self._peers[name] = peer
        self._welcomes[name] = control.Welcome(session, self.links[name].endpoint, message.attempt, "normal", 1.0)
        self._tell(peer, self._welcomes[name])

    def _tell(self, peer: bytes, message: control.FromDaemon) -> None:
        for connection in self._net.connections:
            if connection.identity == peer and connection.connected and not self._net.loses("down"):
                connection.down.put(control.encode(message))

    def _deliver(self, delivery: Delivery) -> None:
        worker, mailbox = delivery
        link = self.links.get(worker.name)
        assert mailbox.in_flight is not None
        if link is None or not link.send(mailbox.in_flight.message):
            self.supplier.undelivered(delivery)

    def _close(self, name: str) -> None:
        link = self.links.pop(name, None)
        if link is not None:
            link.close()


def _report(settled: control.Settled | None) -> Report | None:
    return settled and Report(*settled[:4], settled.age / 1e9, settled.processing / 1e9)

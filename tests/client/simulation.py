"""A daemon's real core, and workers' real sessions, over a simulated network in simulated time.

Nothing here waits or opens a socket. Control messages and frames travel in queues, in order, each late by the latency
of the moment; they can be lost, and connections break, as the test wishes. What is modelled of ZeroMQ: a message is
accepted only where there is a connection; a broken one loses what is under way on it; a frame reaches only who is
connected to its link, and closing the link loses what has not arrived.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from supplierd_client.session import FrameId, Session, State, Verdict

from supplierd.core.mailbox import Report
from supplierd.core.service import Settings
from supplierd.core.stream import Frame
from supplierd.core.supplier import Delivery, FrameRefusedError, Reply, Supplier
from supplierd.core.worker import JoinRequest, Worker
from supplierd.daemon.distribution import SWEEP, TICK
from supplierd.daemon.sessions import CONNECT_GRACE
from supplierd.wire import control

BOOT: Final = bytes(16)
STEP: Final = 0.01
"""Seconds by which time passes."""
FPS: Final = 30
RECONNECT: Final = 0.05


class Pixels(NamedTuple):
    """A frame's message."""

    identity: FrameId
    captured: float


class Pipe:
    """One direction of a connection."""

    def __init__(self, net: "Network") -> None:
        self._net = net
        self._items: deque[tuple[float, Any]] = deque()

    def put(self, item: Any) -> None:
        due = self._net.now + self._net.latency
        self._items.append((max(due, self._items[-1][0]) if self._items else due, item))

    def arrived(self) -> Iterator[Any]:
        while self._items and self._items[0][0] <= self._net.now:
            yield self._items.popleft()[1]

    def lose(self) -> None:
        """What has not arrived never will."""
        self._items = deque(item for item in self._items if item[0] <= self._net.now)


class Connection:
    """A worker's control connection; `identity` is how the daemon's ROUTER knows it."""

    def __init__(self, net: "Network") -> None:
        self._net = net
        self.up, self.down = Pipe(net), Pipe(net)
        self.identity = b""
        self.ready_at = net.now + RECONNECT

    @property
    def connected(self) -> bool:
        return self._net.daemon is not None and self._net.now >= self.ready_at

    def break_off(self, *, heard: bool = False) -> None:
        """Lose the connection; `heard`: what the daemon has said is still delivered."""
        self.up = Pipe(self._net)
        if not heard:
            self.down.lose()
        self._net.renew(self)

    def send(self, message: bytes) -> bool:
        if not self.connected:
            return False
        if not self._net.loses("up"):
            self.up.put(message)
        return True


class FakeLink:
    """The daemon's socket for one session."""

    def __init__(self, net: "Network", endpoint: str) -> None:
        self._net = net
        self._opened_at = net.now
        self._was_connected = False
        self.endpoint = endpoint

    def _peer(self) -> "Pull | None":
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


class Pull:
    """A worker's frame socket."""

    def __init__(self, net: "Network", endpoint: str) -> None:
        self._net = net
        self.endpoint = endpoint
        self.pipe = Pipe(net)
        self.ready_at = net.now + RECONNECT

    @property
    def connected(self) -> bool:
        daemon = self._net.daemon
        bound = {link.endpoint for link in daemon.links.values()} if daemon else set()
        return self.endpoint in bound and self._net.now >= self.ready_at

    def break_off(self) -> None:
        self.pipe.lose()
        self.ready_at = self._net.now + RECONNECT


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

    def __init__(self, net: "Network") -> None:
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


@dataclass
class Handed:
    """A frame that the user got."""

    identity: FrameId
    age: float
    daemon: Daemon | None


class Process:
    """A worker's process: a session, its two sockets, and a user who reads, works and reads again."""

    def __init__(self, net: "Network", max_age: float | None) -> None:
        self._net = net
        join = control.Join(
            worker="detector",
            instance=net.number().to_bytes(16, "big"),
            attempt=0,
            versions=[1],
            client="simulated",
            streams=["*"],
        )
        self.max_age = max_age
        self.session = Session(join, max_age)
        self.control = Connection(net)
        net.renew(self.control)
        net.connections.append(self.control)
        self.pull: Pull | None = None
        self.frozen = False
        self.reading = True
        self.works = 0.0  # seconds on each frame
        self.handed: list[Handed] = []
        self._held: Pixels | None = None
        self._busy_until = net.now

    def step(self) -> None:
        """What the shells do when something has arrived or is due."""
        now = self._net.now
        if self.frozen or self.session.state is State.ENDED:
            return
        if self.reading and now >= self._busy_until:
            self.session.ask(now)
            self._exchange()

    def _exchange(self) -> None:
        now, session = self._net.now, self.session
        for data in self.control.down.arrived():
            session.hear(data, now)
        self._follow()
        if self._take():
            return
        message = session.to_send(now)
        if message is not None and not self.control.send(message):
            session.unsent(now)
        self._follow()

    def _follow(self) -> None:
        endpoint = self.session.endpoint
        if endpoint != (self.pull.endpoint if self.pull else ""):
            self.disconnect()
            if endpoint:
                self.pull = Pull(self._net, endpoint)
                self._net.pulls.append(self.pull)

    def _take(self) -> bool:
        now, session = self._net.now, self.session
        if self._held is not None and session.released is not None:
            held, self._held = self._held, None
            age = now - held.captured
            if session.released and session.take_held(round(held.captured * 1e9), age, now):
                return self._hand(held, age)
        for pixels in self.pull.pipe.arrived() if self.pull else ():
            age = now - pixels.captured
            verdict = session.arrived(pixels.identity, round(pixels.captured * 1e9), age, now)
            self._held = pixels if verdict is Verdict.HOLD else None
            if verdict is Verdict.TAKE:
                return self._hand(pixels, age)
        return False

    def _hand(self, pixels: Pixels, age: float) -> bool:
        self.handed.append(Handed(pixels.identity, age, self._net.daemon))
        self._busy_until = self._net.now + self.works
        return True

    def leave(self) -> None:
        message = self.session.leave(self._net.now)
        if message is not None:
            self.control.send(message)

    def disconnect(self) -> None:
        """The frame socket is closed."""
        if self.pull is not None:
            self._net.pulls.remove(self.pull)
            self.pull = None

    def vanish(self) -> None:
        """The process is gone."""
        self.frozen = True
        self.disconnect()
        self.control.break_off()
        self._net.connections.remove(self.control)


@dataclass
class Camera:
    """A publisher's run."""

    stream: str
    epoch: int
    seq: int = 0
    on: bool = True
    due: float = 0.0


@dataclass
class Network:
    """The world: one daemon at a time, cameras, workers' processes, and all that is between them."""

    now: float = 1000.0
    latency: float = 0.002
    daemon: Daemon | None = None
    lose_next: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("up", "down", "frames"), 0))
    connections: list[Connection] = field(default_factory=list)
    pulls: list[Pull] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    cameras: dict[str, Camera] = field(default_factory=dict)
    _numbers: int = 0

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def renew(self, connection: Connection) -> None:
        connection.identity = f"peer-{self.number()}".encode()
        connection.ready_at = self.now + RECONNECT

    def loses(self, what: str) -> bool:
        lost = self.lose_next[what] > 0
        self.lose_next[what] -= lost
        return lost

    def camera(self, stream: str) -> None:
        """Start or restart a camera's publisher."""
        self.cameras[stream] = Camera(stream, round(self.now * 1e9) + self.number(), due=self.now)

    def start(self) -> None:
        """Start a daemon where there is none."""
        if self.daemon is None:
            self.daemon = Daemon(self)
            for connection in self.connections:
                self.renew(connection)

    def kill(self, *, goodbye: bool) -> None:
        """End the daemon, by SIGKILL or by SIGTERM."""
        if self.daemon is None:
            return
        if goodbye:
            self.daemon.say_goodbye()
        for pull in self.pulls:
            pull.pipe.lose()
        self.daemon = None
        for connection in self.connections:
            connection.break_off(heard=goodbye)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self.now < end:
            self.step()

    def step(self) -> None:
        """Let one step of time pass."""
        self.now += STEP
        if self.daemon is not None:
            self.daemon.turn()
        for camera in self.cameras.values():
            if camera.on and self.now >= camera.due:
                camera.due += 1 / FPS
                camera.seq += 1
                if self.daemon is not None:
                    self.daemon.frame(Pixels(FrameId(camera.stream, camera.epoch, camera.seq), self.now))
            elif not camera.on:
                camera.due = self.now
        for process in self.processes:
            process.step()

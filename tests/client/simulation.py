"""A daemon's real core, and workers' real sessions, over a simulated network in simulated time.

Nothing here waits or opens a socket. Control messages and frames travel in queues, in order, each late by the latency
of the moment; they can be lost, and connections break, as the test wishes. What is modelled of ZeroMQ: a message is
accepted only where there is a connection; a broken one loses what is under way on it; a frame reaches only who is
connected to its link, and closing the link loses what has not arrived.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from supplierd_client.session import FrameId, Session, Verdict
from supplierd_client.turn import State

from supplierd.wire import control
from tests.client.simulated_daemon import Daemon, Pixels

STEP: Final = 0.01
"""Seconds by which time passes."""
FPS: Final = 30
RECONNECT: Final = 0.05


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
            if session.released and session.take_held(age, now):
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

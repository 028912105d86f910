"""A daemon that says what no daemon should: the worker survives it, and finds back when it makes sense again."""

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pytest
import zmq
from supplierd_client import AsyncWorker, RefusedError, Worker

from supplierd.wire import control
from supplierd.wire import frame as wire
from supplierd.wire.endpoints import control_endpoint, ipc, machine_boot_id
from tests.support.waiting import DEADLINE

Answer = Callable[["FakeDaemon", control.FromClient], Iterator[control.FromDaemon | bytes]]


class FakeDaemon:
    """A control socket and a worker's link, both played by a function that is given each message."""

    def __init__(self, home: Path, answer: Answer) -> None:
        self.home = home
        self.heard: list[control.FromClient] = []
        self._answer = answer
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._control = self._context.socket(zmq.ROUTER)
        self._control.bind(control_endpoint(home))
        self.link_endpoint = ipc(home / "link.sock")
        self._link = self._context.socket(zmq.PUSH)
        self._link.bind(self.link_endpoint)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.is_set():
            if self._control.poll(10):
                peer, data = self._control.recv_multipart()
                self.heard.append(control.decode_from_client(data))
                for message in self._answer(self, self.heard[-1]):
                    said = message if isinstance(message, bytes) else control.encode(message)
                    self._control.send_multipart((peer, said))

    def welcome(self, join: control.Join, **fields: Any) -> control.Welcome:
        given: dict[str, Any] = {"session": join.attempt, "endpoint": self.link_endpoint, "worker_class": "normal"}
        return control.Welcome(**{**given, "repeat_after": 0.1, "attempt": join.attempt, **fields})

    def send(self, message: bytes) -> None:
        """Send to whoever is connected to the link."""
        assert self._link.poll(round(DEADLINE * 1e3), zmq.POLLOUT)
        self._link.send(message)

    def count(self, kind: type[control.FromClient]) -> int:
        return sum(isinstance(message, kind) for message in self.heard)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(DEADLINE)
        self._context.destroy(linger=0)


def frame(seq: int, payload: bytes = b"good", **fields: Any) -> bytes:
    """A frame message; without more fields a sound one."""
    now = time.monotonic_ns()
    header = wire.Header("cam-1", 1, machine_boot_id(), seq, time.time_ns(), now, encoding="bytes")
    return wire.encode_head(header._replace(**fields)) + payload


NOISE = random.Random(11)
GARBAGE = [
    b"",
    b"\xc1",
    b"\x80",
    b"\x81\xa4type\xa7welcome",
    control.encode(control.Stats()),
    control.encode(control.Rejoin(99, "another's")),
    control.encode(control.TakenOver(99, "another")),
    control.encode(control.Newest(99)),
    control.encode(control.Wait(99, sent=True)),
    control.encode(control.Refused("no", "no", attempt=99)),
    control.encode(control.Snapshot({"a": 1})),
    b"\x84" + b"\xff" * 20,
    b"\x91" * 5000,
    *(NOISE.randbytes(NOISE.randrange(1, 60)) for _ in range(200)),
]
BAD_FRAMES = {
    "no frame": b"noise",
    "nothing": b"",
    "truncated": frame(2)[:40],
    "another version": b"SPLF\x09" + frame(2)[5:],
    "without payload": frame(2, b""),
    "a dtype that does not fit": frame(2, bytes(7), encoding="raw", dtype="<u2", shape=(4,)),
    "a slot nobody has": frame(2, b"", arena=wire.ArenaRef("cam-1-0123456789abcdef.arena", 0, 2, 4096, 10)),
    "a slot outside": frame(2, b"", arena=wire.ArenaRef("../../etc/passwd", 0, 2, 4096, 10)),
}


def sensible(fake: FakeDaemon, message: control.FromClient) -> Iterator[control.FromDaemon | bytes]:
    """Answers as a daemon would, with one frame for each demand."""
    if isinstance(message, control.Join):
        yield fake.welcome(message)
    elif isinstance(message, control.Demand):
        fake.send(frame(message.number))


def test_garbage_among_the_answers_is_passed_over(home: Path) -> None:
    def answer(fake: FakeDaemon, message: control.FromClient) -> Iterator[control.FromDaemon | bytes]:
        yield from GARBAGE
        yield from sensible(fake, message)

    with FakeDaemon(home, answer), Worker("worker", runtime_dir=home) as worker:
        for _ in range(3):
            received = worker.read(DEADLINE)
            assert received is not None
            assert bytes(received.data) == b"good"


def test_garbage_does_not_disturb_an_asyncio_worker(home: Path) -> None:
    def answer(fake: FakeDaemon, message: control.FromClient) -> Iterator[control.FromDaemon | bytes]:
        yield from GARBAGE
        yield from sensible(fake, message)

    async def test() -> None:
        async with AsyncWorker("worker", runtime_dir=home) as worker:
            for _ in range(3):
                received = await worker.read(DEADLINE)
                assert received is not None
                assert bytes(received.data) == b"good"

    with FakeDaemon(home, answer):
        asyncio.run(test())


@pytest.mark.parametrize("what", BAD_FRAMES)
def test_a_frame_that_cannot_be_read_is_passed_over(home: Path, what: str) -> None:
    def answer(fake: FakeDaemon, message: control.FromClient) -> Iterator[control.FromDaemon | bytes]:
        if isinstance(message, control.Demand) and fake.count(control.Demand) == 1:
            fake.send(BAD_FRAMES[what])
        else:
            yield from sensible(fake, message)

    with FakeDaemon(home, answer), Worker("worker", runtime_dir=home) as worker:
        received = worker.read(DEADLINE)
        assert received is not None
        assert bytes(received.data) == b"good"


@pytest.mark.parametrize("endpoint", ["", "nonsense", "tcp://*", "ipc://" + "x" * 200, "inproc://nowhere", "tcp://*:1"])
def test_an_endpoint_that_cannot_be_used_is_survived(
    home: Path, endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(fake: FakeDaemon, message: control.FromClient) -> Iterator[control.FromDaemon | bytes]:
        match message:
            case control.Join(attempt=1):
                yield fake.welcome(message, endpoint=endpoint)
            case control.Join():
                yield fake.welcome(message)
            case control.Demand(session=1):
                yield control.Rejoin(1, "try again")
            case _:
                yield from sensible(fake, message)

    with FakeDaemon(home, answer), Worker("worker", runtime_dir=home) as worker:
        assert worker.read(DEADLINE) is not None


@pytest.mark.parametrize("repeat_after", [0.0, -5.0, 1e300])
def test_a_strange_interval_makes_no_flood_and_no_crash(home: Path, repeat_after: float) -> None:
    def answer(fake: FakeDaemon, message: control.FromClient) -> Iterator[control.FromDaemon | bytes]:
        if isinstance(message, control.Join):
            yield fake.welcome(message, repeat_after=repeat_after)

    with FakeDaemon(home, answer) as fake, Worker("worker", runtime_dir=home) as worker:
        assert worker.read(0.4) is None
        assert 1 <= fake.count(control.Demand) <= 10


def test_a_daemon_that_sends_all_workers_away_is_asked_again_and_again(home: Path) -> None:
    def answer(fake: FakeDaemon, message: control.FromClient) -> Iterator[control.FromDaemon | bytes]:
        match message:
            case control.Join():
                yield fake.welcome(message)
            case control.Demand() if fake.count(control.Join) < 5:
                yield control.Rejoin(message.session, "go away")
            case _:
                yield from sensible(fake, message)

    with FakeDaemon(home, answer) as fake, Worker("worker", runtime_dir=home) as worker:
        assert worker.read(DEADLINE) is not None
        assert [m.attempt for m in fake.heard if isinstance(m, control.Join)] == [1, 2, 3, 4, 5]


def test_a_join_that_cannot_be_read_ends_with_the_daemons_words(home: Path) -> None:
    def answer(_: FakeDaemon, __: control.FromClient) -> Iterator[control.FromDaemon | bytes]:
        yield control.Error("bad_message", "join.streams: expected list")

    with (
        FakeDaemon(home, answer),
        Worker("worker", runtime_dir=home) as worker,
        pytest.raises(RefusedError, match="expected list"),
    ):
        worker.read(DEADLINE)


def test_a_number_type_that_this_machine_does_not_have_is_reported(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some machines have no long double: NumPy then refuses "<f16", which the wire format allows."""
    monkeypatch.setitem(wire._ITEM_SIZES, "<f3", 3)

    def answer(fake: FakeDaemon, message: control.FromClient) -> Iterator[control.FromDaemon | bytes]:
        if isinstance(message, control.Demand) and message.number == 1:
            fake.send(frame(1, bytes(6), encoding="raw", dtype="<f3", shape=(2,)))
            return
        yield from sensible(fake, message)

    with FakeDaemon(home, answer) as fake, Worker("worker", runtime_dir=home) as worker:
        received = worker.read(DEADLINE)
        assert received is not None
        assert np.array_equal(received.array, np.frombuffer(b"good", np.uint8))
        demand = next(m for m in fake.heard if isinstance(m, control.Demand) and m.number == 2)
        assert demand.settled is not None
        assert demand.settled[:4] == ("cam-1", 1, 1, "unreadable")

"""The client for Node, written from docs/wire.md alone: its own tests, and its examples with a real daemon.

They run where `make test-node` has installed its packages, and are skipped elsewhere.
"""

import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from supplierd_client import Publisher, Worker

from tests.support.daemon import Daemon, assert_adds_up, environment, free_port
from tests.support.processes import Outcome
from tests.support.waiting import DEADLINE, wait_for

CLIENT: Final = Path(__file__).parents[2] / "clients" / "node"
NODE: Final = shutil.which("node")
PACKAGES: Final = CLIENT / "node_modules" / "zeromq"

pytestmark = [
    pytest.mark.skipif(NODE is None, reason="node is not installed"),
    pytest.mark.skipif(not PACKAGES.is_dir(), reason="the Node client's packages are missing: run `make test-node`"),
]


class Program:
    """One of the client's examples, and the lines of JSON that it has printed."""

    _count = 0

    def __init__(self, home: Path, name: str, *arguments: object, environ: dict[str, str] | None = None) -> None:
        Program._count += 1
        self._out = home / f"{name}-{Program._count}"
        assert NODE is not None
        command = [NODE, f"examples/{name}", *map(str, arguments)]
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(command, cwd=CLIENT, stdout=out, env=environment(environ))

    @property
    def said(self) -> list[dict[str, Any]]:
        """Each whole line."""
        return [json.loads(line) for line in self._out.read_text().splitlines(True) if line.endswith("\n")]

    def error(self) -> dict[str, Any]:
        """Wait for the error with which it ends."""
        return wait_for(lambda: next((line for line in self.said if "error" in line), {}), f"{self._out.name} to fail")

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        """Wait for so many lines more; those."""
        before = len(self.said)
        wait_for(lambda: len(self.said) >= before + count, f"{count} lines of {self._out.name}")
        return self.said[before:]

    def end(self) -> list[dict[str, Any]]:
        """End it by SIGTERM; all that it has said."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(DEADLINE) == 0
        return self.said


@pytest.fixture
def program(home: Path) -> Iterator[Callable[..., Program]]:
    """Starts examples."""
    started: list[Program] = []

    def start(name: str, *arguments: object, environ: dict[str, str] | None = None) -> Program:
        started.append(Program(home, name, *arguments, environ=environ))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait(DEADLINE)


def test_its_own_tests_pass() -> None:
    assert NODE is not None
    done = subprocess.run([NODE, "--test"], cwd=CLIENT, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stdout
    assert "\n# fail 0\n" in done.stdout


def test_a_publisher_and_a_worker_in_node_account_for_every_frame(
    daemon: Daemon, program: Callable[..., Program]
) -> None:
    worker = program("work.js", "reader", "cam-1", daemon.control)
    daemon.wait_for_state("reader", "waiting")
    publisher = program("publish.js", "cam-1", 30, daemon.inbox)
    frames = worker.wait_for(10)
    (end,) = publisher.end()
    daemon.settled(lambda s: s.workers[0].mailboxes[0].pending + s.workers[0].mailboxes[0].in_flight <= 1, "rest")
    worker.end()
    snapshot = daemon.settled(lambda s: s.workers[0].state == "gone", "the worker to leave")
    assert_adds_up(snapshot)
    (stream,), (mailbox,) = snapshot.streams, snapshot.workers[0].mailboxes
    assert stream.published == end["published"] - end["unsent"]
    assert mailbox.consumed == len(worker.said)
    assert mailbox.in_flight == mailbox.pending == 0
    assert snapshot.workers[0].inline_reason == "unsupported"
    first = frames[0]
    assert (first["encoding"], first["dtype"], first["shape"], first["bytes"]) == ("raw", "|u1", [48, 64, 3], 9216)
    assert first["metadata"] == {"from": "node"}
    assert first["first"] == (first["seq"] - 1) % 256
    assert [frame["seq"] for frame in frames] == sorted({frame["seq"] for frame in frames})
    assert not snapshot.rejected


def test_it_understands_python_and_python_it(daemon: Daemon, program: Callable[..., Program]) -> None:
    """Also frames that travel in shared memory: a worker that cannot read arenas gets the bytes."""
    reader = program("work.js", "reader", "cam-py", daemon.control)
    daemon.wait_for_state("reader", "waiting")
    with Publisher("cam-py", daemon.inbox, shared_memory="on") as publisher:
        publisher.publish(b"\x07" * 100_000, encoding="jpeg", metadata={"large": 1 << 60})
        (frame,) = reader.wait_for(1)
    assert (frame["encoding"], frame["bytes"], frame["first"]) == ("jpeg", 100_000, 7)
    stream = daemon.stream("cam-py")
    assert stream is not None
    assert stream.inline == {}
    program("publish.js", "cam-js", 30, daemon.inbox)
    with Worker("python", ["cam-js"], daemon.control) as worker:
        received = worker.read(DEADLINE)
        assert received is not None
        assert received.array.shape == (48, 64, 3)
        assert received.metadata == {"from": "node"}
        assert received.same_clock
        assert 0.0 < received.age < DEADLINE


def test_it_outlives_the_daemon_and_a_frozen_self(daemon: Daemon, program: Callable[..., Program]) -> None:
    publisher = program("publish.js", "cam-1", 30, daemon.inbox)
    worker = program("work.js", "reader", "cam-1", daemon.control)
    worker.wait_for(3)
    daemon.stop()
    daemon.start()
    worker.wait_for(3)
    daemon.kill()
    daemon.start()
    worker.wait_for(3)
    worker.process.send_signal(signal.SIGSTOP)
    stream = daemon.stream("cam-1")
    assert stream is not None
    daemon.settled(lambda s: s.streams[0].last_seq > stream.last_seq + 15, "frames to pass")
    worker.process.send_signal(signal.SIGCONT)
    worker.wait_for(3)
    (end,) = publisher.end()
    assert end["unsent"] > 0
    numbers = [frame["seq"] for frame in worker.end()]
    assert numbers == sorted(set(numbers))
    assert_adds_up(daemon.snapshot())


def test_refused_and_taken_over_are_errors(daemons: Callable[..., Daemon], program: Callable[..., Program]) -> None:
    daemon = daemons("[daemon]\naccept_unknown_workers = false\n[workers.known]\n").start()
    refused = program("work.js", "stranger", "*", daemon.control)
    error = refused.error()
    assert error["error"] == "RefusedError"
    assert "unknown_worker" in error["text"]
    first = program("work.js", "known", "*", daemon.control)
    daemon.wait_for_state("known", "waiting")
    with Worker("known", ["*"], daemon.control) as second:
        assert second.read(0.5) is None
        assert first.error()["error"] == "TakenOverError"
    assert first.process.wait(DEADLINE) == 1


def test_keys_over_tcp(daemons: Callable[..., Daemon], program: Callable[..., Program], home: Path) -> None:
    """With keys, three sockets of the client show theirs: those of its worker's own endpoint, too."""
    document = ""
    for role, name in (("server", "server"), ("publisher", "cam-1"), ("worker", "reader")):
        document += Outcome("keygen", role, name, "--dir", home).out
    inbox, control = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    document += f'[inbox]\nendpoints = ["ipc", "{inbox}"]\n[control]\nendpoints = ["ipc", "{control}"]\n'
    daemon = daemons(document).start()
    keys = {"SUPPLIERD_SERVER_KEY": str(home / "server.public")}
    program("publish.js", "cam-1", 30, inbox, environ={**keys, "SUPPLIERD_KEY": str(home / "cam-1.secret")})
    reader = program(
        "work.js", "reader", "cam-1", control, environ={**keys, "SUPPLIERD_KEY": str(home / "reader.secret")}
    )
    assert reader.wait_for(3)[0]["bytes"] == 9216
    stranger = program(
        "work.js", "other", "cam-1", control, environ={**keys, "SUPPLIERD_KEY": str(home / "reader.secret")}
    )
    assert "not_allowed" in stranger.error()["text"]
    assert_adds_up(daemon.snapshot())

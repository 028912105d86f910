"""A daemon as a real process, in a private runtime directory with a short path.

It is started, asked, stopped, killed, frozen and started again like the real one; its log is kept in a file over all
its lives. Rules: only processes started here are signalled, by their id; none outlives its test.
"""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from supplierd_client import Frame, Publisher, Worker

from supplierd.core.snapshot import MailboxSnapshot, Snapshot, StreamSnapshot, WorkerSnapshot
from supplierd.transport.monitor import Monitor
from supplierd.wire import endpoints
from tests.support.scrape import Scrape, scrape
from tests.support.waiting import DEADLINE, wait_for

ANSWER_WITHIN: Final = 10.0
AGAIN_AFTER: Final = 1.0
"""Seconds after which a frame that did not come is taken for lost."""
_PORTS: Final = list(range(20_000, 32_000))
_INHERITED: Final = {name: value for name, value in os.environ.items() if not name.startswith("SUPPLIERD_")}


def command_line(*arguments: object) -> list[str]:
    """`supplierd` with these arguments, by this Python."""
    return [sys.executable, "-m", "supplierd", *map(str, arguments)]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment, without settings for supplierd but the given ones."""
    return {**_INHERITED, **(extra or {})}


def free_port() -> int:
    """A tcp port of 127.0.0.1 that nobody has just now: each time another, and none that the system gives away."""
    while True:
        port = random.choice(_PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            _PORTS.remove(port)
            return port


def has_stopped(pid: int) -> bool:
    """Whether SIGSTOP has taken hold of a process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Child:
    """A process that this one starts, perhaps more than once."""

    _process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None


class Daemon(Child):
    """A supplierd.

    Args:
        home: a directory of its own, for configuration and log; the runtime directory is made in it.
        document: TOML.
        arguments: more options for `run`.
        environ: more environment variables.
        metrics: HOST:PORT of /metrics; port 0 lets the system choose.
        session: whether it leads a process group of its own, as on a terminal.
    """

    def __init__(
        self,
        home: Path,
        document: str = "",
        *,
        arguments: Iterable[object] = (),
        environ: Mapping[str, str] | None = None,
        metrics: str = "127.0.0.1:0",
        session: bool = False,
    ) -> None:
        self.runtime_dir = home / "run"
        self.inbox = endpoints.inbox_endpoint(self.runtime_dir)
        self.control = endpoints.control_endpoint(self.runtime_dir)
        self.log_file = home / "log"
        config = home / "supplierd.toml"
        config.write_text(document)
        self.command = command_line(
            "run", "--config", config, "--runtime-dir", self.runtime_dir, "--metrics-address", metrics, *arguments
        )
        self._environ = environment(environ)
        self._session = session
        self._monitor: Monitor | None = None
        self._began = 0

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self) -> "Daemon":
        """Start it, and wait until it serves."""
        self.launch()
        wait_for(lambda: self.logged("serving") or not self.running, "the daemon to serve")
        assert self.running, self.log()
        self._monitor = Monitor(self.control)
        return self

    def launch(self) -> None:
        """Start it, and don't wait."""
        self.log_file.touch()
        self._began = self.log_file.stat().st_size
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environ,
                start_new_session=self._session,
            )

    def set_environment(self, **variables: str) -> None:
        """More environment variables for the next start."""
        self._environ.update(variables)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """End it by a signal; the seconds that it took. It must exit with 0."""
        began = time.monotonic()
        self.process.send_signal(number)
        status = self.process.wait(DEADLINE)
        took = time.monotonic() - began
        self._forget()
        assert status == 0, self.log()
        return took

    def wait(self) -> int:
        """Its exit status, once it ends by itself."""
        return self.process.wait(DEADLINE)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(DEADLINE)
        self._forget()

    def freeze(self) -> None:
        """SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: has_stopped(self.pid), "the daemon to stand still")

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Make sure that it is gone, and what it started with it."""
        if self.running:
            with suppress(AssertionError, subprocess.TimeoutExpired):
                self.thaw()
                self.stop()
        if self.running:
            self.kill()
        self._forget()

    def _forget(self) -> None:
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None

    # --- what it says -----------------------------------------------------------------------------------------------

    def log(self) -> str:
        """What it has logged since its last start."""
        with self.log_file.open("rb") as file:
            file.seek(self._began)
            return file.read().decode()

    def logged(self, text: str) -> list[str]:
        """The lines of the log that contain `text`."""
        return [line for line in self.log().splitlines() if text in line]

    @property
    def metrics_port(self) -> int:
        found = re.search(r"metrics=http://127\.0\.0\.1:(\d+)/metrics", self.log())
        assert found, self.log()
        return int(found[1])

    def scrape(self, accept: str | None = None) -> Scrape:
        """GET /metrics; the exporter may still be starting."""
        return scrape(self.metrics_port, accept)

    def snapshot(self) -> Snapshot:
        """Its counts."""
        assert self._monitor is not None, "not started"
        return Snapshot.from_wire(self._monitor.snapshot(ANSWER_WITHIN))

    def rejected(self, reason: str) -> int:
        """How many messages it has refused for this reason."""
        return self.snapshot().rejected.get(reason, 0)

    def wait_for_rejected(self, reason: str, count: int = 1) -> None:
        """Wait until so many messages were refused for this reason."""
        wait_for(lambda: self.rejected(reason) >= count, f"{count} refused as {reason}")

    def stream(self, name: str) -> StreamSnapshot | None:
        """A stream's counts."""
        return next((stream for stream in self.snapshot().streams if stream.name == name), None)

    def worker(self, name: str) -> WorkerSnapshot | None:
        """A worker's counts."""
        return next((worker for worker in self.snapshot().workers if worker.name == name), None)

    def mailbox(self, worker: str, stream: str) -> MailboxSnapshot | None:
        """The counts of a worker's mailbox."""
        found = self.worker(worker)
        return next((m for m in found.mailboxes if m.stream == stream), None) if found else None

    def wait_for_state(self, worker: str, *states: str) -> WorkerSnapshot:
        """Wait until a worker is in one of these states."""

        def there() -> WorkerSnapshot | None:
            found = self.worker(worker)
            return found if found and found.state in states else None

        return wait_for(there, f"{worker} to be {' or '.join(states)}")

    def deliver(self, publisher: Publisher, payload: bytes) -> int:
        """Publish until the newest frame is here; its number. Now and then libzmq's conflated receiver loses one."""

        def arrived() -> bool:
            found = self.stream(publisher.stream)
            return found is not None and found.last_seq == publisher.published

        def published() -> bool:
            publisher.publish(payload)
            with suppress(AssertionError):
                return wait_for(arrived, deadline=AGAIN_AFTER)
            return False

        wait_for(published, "a frame to arrive")
        return publisher.published

    def let_join(self, worker: Worker) -> None:
        """Have a worker of this process ask for a frame until its JOIN is here; there must be none for it."""

        def joined() -> bool:
            assert worker.read(timeout=0.02) is None
            found = self.worker(worker.name)
            return found is not None and found.state in ("waiting", "starved")

        wait_for(joined, f"{worker.name} to join")

    def settled(self, condition: Callable[[Snapshot], bool], what: str) -> Snapshot:
        """The first snapshot for which `condition` holds."""
        return wait_for(lambda: s if condition(s := self.snapshot()) else None, what)


def exchange(publisher: Publisher, worker: Worker, payload: bytes = b"frame") -> Frame:
    """Publish until the worker gets a frame. Now and then libzmq's conflated receiver loses one."""

    def got() -> Frame | None:
        publisher.publish(payload)
        return worker.read(timeout=AGAIN_AFTER)

    return wait_for(got, "a frame")


def assert_adds_up(snapshot: Snapshot) -> None:
    """Both ledgers' identities hold in a snapshot."""
    for stream in snapshot.streams:
        assert stream.published == stream.received + sum(stream.dropped.values()), stream
    for worker in snapshot.workers:
        for mailbox in worker.mailboxes:
            assert mailbox.balance == 0, (worker.name, mailbox)
            assert mailbox.pending in (0, 1), (worker.name, mailbox)
            assert mailbox.in_flight in (0, 1), (worker.name, mailbox)

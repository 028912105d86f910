"""What benchmarks have in common: a daemon of their own, processes that play a part, and what those cost.

A part is a function of the benchmark's own file, run as `FILE part NAME JSON`: it speaks in lines of JSON and ends when
its standard input does. CPU times and memory come from the kernel, so that nothing measured has to help in that.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self, TypeVar

from supplierd.core.snapshot import Snapshot
from supplierd.transport.monitor import Monitor, NoAnswerError
from supplierd.wire import endpoints

SHM: Final = Path("/dev/shm")
DEADLINE: Final = 60.0
"""Seconds that starting, connecting or ending may take on a busy machine."""
_CPU_CLOCK: Final = 2
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_T = TypeVar("_T")


def until(condition: Callable[[], _T], what: str, deadline: float = DEADLINE) -> _T:
    """The first true value of `condition`. Raises TimeoutError after `deadline` seconds."""
    end = time.monotonic() + deadline
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {deadline:g} s in vain for {what}")
        time.sleep(0.01)
    return value


class Part:
    """A process that plays a part.

    Args:
        program, name, arguments: the file, its function, and what that is given.
        errors: a file for its standard error.
        prefix: a command that runs the part's command line elsewhere.

    Attributes:
        words: what it has said so far.
    """

    def __init__(
        self,
        program: str,
        name: str,
        arguments: dict[str, Any],
        errors: IO[bytes] | None = None,
        prefix: Iterable[str] = (),
    ) -> None:
        command = [*prefix, sys.executable, program, "part", name, json.dumps(arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        self.words: list[dict[str, Any]] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """Its process's id."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def go(self) -> None:
        """Let it begin: a part that waits for a line gets one."""
        self.tell("go")

    def tell(self, line: str) -> None:
        """Send it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def end(self) -> dict[str, Any]:
        """Let it end; its last word."""
        self.release()
        self.process.wait(DEADLINE)
        self._listener.join(DEADLINE)
        return self.words[-1] if self.words else {}

    def release(self) -> None:
        """Say that it may end, and don't wait for it."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.end()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith(b"\n") and line.startswith(b"{"):  # a kill can cut the last one, a library can chatter
                self.words.append(json.loads(line))


class Rig:
    """A daemon in a runtime directory of its own on tmpfs, and the parts that were started with it.

    Args:
        program: the benchmark's file, whose functions are the parts.
        document: the daemon's configuration, TOML.
        daemon: what Python runs as the daemon.
    """

    def __init__(self, program: str, document: str = "", daemon: Sequence[str] = ("-m", "supplierd")) -> None:
        self._program = program
        self._place = tempfile.TemporaryDirectory(prefix="sd-", dir=SHM if SHM.is_dir() else None)
        home = Path(self._place.name)
        self.runtime_dir = home / "run"
        self.log_file = home / "log"
        self.parts: list[Part] = []
        (home / "supplierd.toml").write_text(document)
        command = [sys.executable, *daemon, "run", "--config", str(home / "supplierd.toml")]
        command += ["--runtime-dir", str(self.runtime_dir), "--metrics-address", "127.0.0.1:0"]
        with self.log_file.open("wb") as log:
            self.daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._monitor = Monitor(endpoints.control_endpoint(self.runtime_dir))
        until(lambda: b"serving" in self.log_file.read_bytes() or self.daemon.poll() is not None, "the daemon")
        if self.daemon.poll() is not None:
            raise RuntimeError(self.log_file.read_text())

    def start(self, part: str, /, **arguments: Any) -> Part:
        """Start a part; it is told the runtime directory."""
        self.parts.append(Part(self._program, part, {"runtime_dir": str(self.runtime_dir), **arguments}))
        return self.parts[-1]

    def snapshot(self) -> Snapshot:
        """The daemon's counts."""
        try:
            return Snapshot.from_wire(self._monitor.snapshot(DEADLINE))
        except NoAnswerError as error:
            raise RuntimeError(f"{error}\n{self.log_file.read_text()}") from None

    def wait_for_workers(self, count: int) -> None:
        """Wait until so many workers are asking for a frame."""
        until(lambda: sum(w.state in ("waiting", "starved") for w in self.snapshot().workers) >= count, "the workers")

    def daemon_pids(self) -> list[int]:
        """The daemon and its exporter."""
        pid = self.daemon.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def stop(self) -> None:
        """End the daemon."""
        self.daemon.terminate()
        self.daemon.wait(DEADLINE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for part in self.parts:
            if part.running:
                part.kill()
        self._monitor.close()
        if self.daemon.poll() is None:
            self.stop()
        self._place.cleanup()


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time that these processes have used so far.

    /proc/PID/stat has the same in ticks of 10 ms, too coarse for seconds; so this asks each process's own CPU clock,
    whose number is made as clock_getcpuclockid(3) makes it.
    """
    return sum(time.clock_gettime((~pid << 3) | _CPU_CLOCK) for pid in pids)


def machine_seconds() -> float:
    """CPU time that all processes of this machine, and others on its host, have used so far."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS


def memory(pid: int) -> tuple[int, int]:
    """Resident bytes of a process: private ones, and those of shared memory."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0]) * 1024, int(lines["RssShmem"].split()[0]) * 1024


def play(parts: Iterable[Callable[..., None]]) -> bool:
    """Play the part that the command line names, if it names one."""
    if sys.argv[1:2] != ["part"]:
        return False
    {part.__name__: part for part in parts}[sys.argv[2]](**json.loads(sys.argv[3]))
    return True


def say(**words: object) -> None:
    """Say something, in one write, so that a kill leaves at most half a line."""
    os.write(1, json.dumps(words).encode() + b"\n")


def told() -> bool:
    """Whether there is something on standard input, or it has ended."""
    return bool(select.select([0], [], [], 0)[0])


def open_accounts(snapshot: Snapshot) -> Iterator[str]:
    """Mailboxes with a frame whose fate is open, but for those that keep one for a worker that took no leave."""
    for worker in snapshot.workers:
        for mailbox in worker.mailboxes:
            if mailbox.in_flight or (mailbox.pending and not worker.expected):
                yield f"worker {worker.name}: {mailbox}"


def wait_for_go() -> None:
    """Wait for a line, or the end."""
    os.read(0, 3)


def when_ended(action: Callable[[], object]) -> None:
    """Do something, in another thread, when standard input ends."""

    def listen() -> None:
        while os.read(0, 4096):
            pass
        action()

    threading.Thread(target=listen, daemon=True).start()

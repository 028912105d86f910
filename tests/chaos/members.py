"""The processes under chaos: each is killed, stopped, frozen and started again, and its evidence outlives it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.chaos.clock.sitecustomize import SHIFT
from tests.support.daemon import Child, Daemon, alive, environment, has_stopped
from tests.support.waiting import DEADLINE, wait_for

ROOT: Final = Path(__file__).parent.parent.parent
CLOCK: Final = Path(__file__).parent / "clock"


class Seen(NamedTuple):
    """A frame in a worker's hands: in which of its lives, which frame, when (monotonic seconds), and what was in it."""

    life: int
    stream: str
    epoch: int
    seq: int
    captured: float
    at: float
    age: float
    value: int
    whole: bool


class Level(NamedTuple):
    """What a process has open."""

    descriptors: int
    threads: int


def level_of(pid: int) -> Level:
    """Open descriptors and threads of a process."""
    return Level(len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task")))


class Clock:
    """The wall clock of one process and its descendants."""

    def __init__(self, home: Path, name: str) -> None:
        self._path = home / f"{name}.clock"
        self._path.write_bytes(SHIFT.pack(0))
        search = os.pathsep.join(filter(None, (str(CLOCK), os.environ.get("PYTHONPATH"))))
        self.environ = {"PYTHONPATH": search, "CHAOS_CLOCK": str(self._path)}

    def jump(self, seconds: float) -> None:
        """Show so many seconds more, or less, than the machine's clock."""
        with self._path.open("r+b") as file:  # in place: the process has it mapped
            file.write(SHIFT.pack(round(seconds * 1e9)))


class Member(Child):
    """A publisher or a worker.

    Args:
        home: where its words are kept.
        name: of the stream, or of the worker.
        part: of parts.py.
        prefix: what runs its command line elsewhere.
        arguments: of the part.

    Attributes:
        lives: how often it was started.
        seen: frames handed to a worker, over all lives.
        published: of a publisher's current life.
        epoch: the same.
        complaints: what it said that should never be said.
    """

    def __init__(
        self, home: Path, name: str, part: str, *, prefix: Sequence[str] = (), arguments: dict[str, Any]
    ) -> None:
        self.name, self.part, self.arguments = name, part, arguments
        self.clock = Clock(home, name)
        self.lives = 0
        self.seen: list[Seen] = []
        self.published = self.epoch = 0
        self.complaints: list[str] = []
        self._home = home
        self._command = [*prefix, sys.executable, "-m", "tests.chaos.parts", part, json.dumps(arguments)]
        self._rest = b""

    @property
    def died(self) -> str:
        """How it ended though nobody ended it; "" where it did not."""
        if self.running:
            return ""
        errors = self._file("err").read_text(errors="replace").strip().splitlines()
        return f"status {self.process.returncode}: {errors[-1] if errors else 'without a word'}"

    def start(self) -> None:
        """Begin a life."""
        self.listen()
        self.lives += 1
        self.published = self.epoch = 0
        with self._file("out").open("wb") as out, self._file("err").open("wb") as err:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                cwd=ROOT,
                env=environment(self.clock.environ),
            )
        self._said = self._file("out").open("rb")
        self._rest = b""

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self._over()

    def stop(self) -> None:
        """Let it end by itself."""
        self.release()
        self._over()
        if self.process.returncode:
            self.complaints.append(f"{self.name} was asked to end: {self.died}")

    def release(self) -> None:
        """Say that it may end, and don't wait for it."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def freeze(self) -> None:
        """SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: has_stopped(self.pid), f"{self.name} to stand still")

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def tell(self, order: str) -> None:
        """Give an order."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{order}\n".encode())
        self.process.stdin.flush()

    def close(self) -> None:
        """Make sure that it is gone."""
        if self._process is not None:
            self.kill()
            self.listen()
            self._said.close()

    def listen(self) -> None:
        """Take in what it has said."""
        if self._process is None:
            return
        *lines, self._rest = (self._rest + self._said.read()).split(b"\n")
        for line in lines:
            words = json.loads(line)
            if "value" in words:
                self.seen.append(Seen(self.lives, **words))
            elif "seq" in words:
                self.published = words["seq"]
            elif "epoch" in words:
                self.epoch = words["epoch"]
            else:
                self.complaints.append(f"{self.name}: {line.decode()}")

    def _file(self, kind: str) -> Path:
        return self._home / f"{self.name}.{self.lives}.{kind}"

    def _over(self) -> None:
        self.process.wait(DEADLINE)
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()


class DaemonMember(Daemon):
    """The daemon, as one of the processes.

    Attributes:
        name: "daemon".
        lives: how often it was started.
        began: when it was last started: seconds, monotonic.
    """

    def __init__(self, home: Path, document: str) -> None:
        self.clock = Clock(home, "daemon")
        self.name = "daemon"
        self.lives = 0
        self.began = 0.0
        super().__init__(home, document, environ=self.clock.environ)

    def launch(self) -> None:
        """Begin a life."""
        self.lives += 1
        self.began = time.monotonic()
        super().launch()

    @property
    def died(self) -> str:
        """How it ended though nobody ended it; "" where it did not."""
        return "" if self.running and alive(self.pid) else f"status {self.process.returncode}: {self.log()[-300:]}"

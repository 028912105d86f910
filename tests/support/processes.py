"""Other processes that play a part of actors.py, and the command line run to its end."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from tests.support.daemon import command_line, environment, has_stopped
from tests.support.waiting import DEADLINE, wait_for

ACTORS: Final = Path(__file__).with_name("actors.py")


class Actor:
    """A process that plays a part, and what it has said so far.

    Args:
        home: where its words are kept.
        part: a function of actors.py.
        arguments: for it.

    A subclass may have parts of its own, in another PROGRAM.
    """

    PROGRAM: ClassVar[Path] = ACTORS
    _count = 0

    def __init__(self, home: Path, part: str, **arguments: object) -> None:
        Actor._count += 1
        said = home / f"{part}-{Actor._count}"
        command = [sys.executable, str(self.PROGRAM), part, json.dumps(arguments)]
        with said.open("wb") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, env=environment())
        self._said = said.open("rb")
        self._rest = b""
        self._words: list[dict[str, Any]] = []

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def words(self) -> list[dict[str, Any]]:
        """Everything that it has said."""
        *lines, self._rest = (self._rest + self._said.read()).split(b"\n")
        self._words += map(json.loads, lines)
        return self._words

    @property
    def frames(self) -> list[dict[str, Any]]:
        """The frames among it."""
        return [word for word in self.words if "seq" in word]

    @property
    def error(self) -> str | None:
        """The error with which it ended."""
        return next((word["error"] for word in self.words if "error" in word), None)

    def wait_frames(self, count: int = 1, deadline: float = DEADLINE) -> list[dict[str, Any]]:
        """Wait for so many frames after those that it has spoken of; the new ones."""
        before = len(self.frames)
        wait_for(lambda: len(self.frames) >= before + count or self._dead(), f"{count} more frames", deadline)
        assert len(self.frames) >= before + count, f"the process has ended with {self.process.returncode}"
        return self.frames[before:]

    def _dead(self) -> bool:
        return self.process.poll() is not None

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: has_stopped(self.pid), "the process to stand still")

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)

    def end(self) -> dict[str, Any]:
        """Let it end; its last words."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(DEADLINE) == 0
        return self.words[-1] if self.words else {}

    def close(self) -> None:
        """Make sure that it is gone."""
        self.process.kill()
        self.process.wait(DEADLINE)
        assert self.process.stdin is not None
        self.process.stdin.close()
        self._said.close()


class Outcome:
    """A command that has ended."""

    def __init__(self, *arguments: object, environ: Mapping[str, str] | None = None) -> None:
        began = time.monotonic()
        done = subprocess.run(
            command_line(*arguments),
            check=False,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            stdin=subprocess.DEVNULL,
            env=environment(environ),
        )
        self.took = time.monotonic() - began
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr

    def __repr__(self) -> str:
        return f"status {self.status}\n{self.out}{self.err}"

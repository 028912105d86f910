"""The real clip, published by the real capture client."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supplierd.demo.clips import ClipError, ensure_clips
from tests.support.daemon import Daemon, environment
from tests.support.waiting import DEADLINE

STREAM = "bikes"


@pytest.fixture(scope="session")
def bikes() -> Path:
    """H.264, 640×272 pixels, 25 frames a second, 10 s."""
    try:
        return ensure_clips()["bikes.mp4"]
    except ClipError as error:
        pytest.skip(str(error))


class Capture:
    """`supplierd-capture`, playing the clip over and over."""

    def __init__(self, daemon: Daemon, clip: Path, log: Path, *arguments: str) -> None:
        program = shutil.which("supplierd-capture", path=str(Path(sys.executable).parent))
        assert program is not None, "supplierd-capture is not installed beside this Python"
        command = [program, str(clip), "--stream", STREAM, "--loop", "--runtime-dir", str(daemon.runtime_dir)]
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [*command, *arguments], stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment()
            )

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(DEADLINE)

    def stop(self) -> int:
        """SIGTERM; its exit status."""
        self.process.terminate()
        return self.process.wait(DEADLINE)


@pytest.fixture
def capture(bikes: Path, home: Path) -> Iterator[Callable[..., Capture]]:
    """Starts the capture client for a daemon."""
    started: list[Capture] = []

    def start(daemon: Daemon, *arguments: str) -> Capture:
        started.append(Capture(daemon, bikes, home / "capture.log", *arguments))
        return started[-1]

    yield start
    for each in started:
        each.kill()

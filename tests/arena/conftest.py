"""What the arena's tests share: directories on tmpfs, a writer and a reader, and other processes that play a part."""

import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from supplierd.arena import ArenaReader, Descriptor
from supplierd.arena.writer import ArenaWriter

ACTORS = Path(__file__).with_name("actors.py")
SHM = Path("/dev/shm")
DEADLINE = 20.0  # seconds; a test that waits so long has failed


def until(condition: Callable[[], object]) -> None:
    """Wait for what another process is about to do."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        select.select([], [], [], 0.002)


class Actor:
    """Another process that runs one function of actors.py, and speaks and is spoken to in lines."""

    def __init__(self, part: str, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, ACTORS, part, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    def line(self) -> str:
        assert self.process.stdout
        assert select.select([self.process.stdout], [], [], DEADLINE)[0], "the other process says nothing"
        return self.process.stdout.readline().decode().strip()

    def tell(self) -> None:
        """Let it go on where it waits for a line."""
        assert self.process.stdin
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def descriptor(self) -> Descriptor:
        name, *numbers = self.line().split()
        return Descriptor(name, *map(int, numbers))

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(DEADLINE)

    def end(self) -> int:
        """Let it finish; its exit code."""
        self.process.communicate(timeout=DEADLINE)
        return self.process.returncode


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=SHM if SHM.is_dir() else None) as path:
        yield Path(path)


@pytest.fixture
def writer(directory: Path) -> Iterator[ArenaWriter]:
    with ArenaWriter(directory, "cam-1", slots=8) as writer:
        yield writer


@pytest.fixture
def reader(directory: Path) -> Iterator[ArenaReader]:
    with ArenaReader(directory) as reader:
        yield reader


@pytest.fixture
def actor() -> Iterator[Callable[..., Actor]]:
    actors: list[Actor] = []

    def start(part: str, *arguments: object) -> Actor:
        actors.append(Actor(part, *arguments))
        return actors[-1]

    yield start
    for each in actors:
        each.process.kill()
        each.process.communicate()


@pytest.fixture
def tiny_tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 4 MiB of its own."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", tmp_path], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"mounting a tmpfs is not permitted here: {mounted.stderr.splitlines()[0]}")
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


@pytest.fixture
def limit() -> Callable[[int, int], AbstractContextManager[None]]:
    @contextmanager
    def limited(kind: int, value: int) -> Iterator[None]:
        before = resource.getrlimit(kind)
        resource.setrlimit(kind, (value, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(kind, before)

    return limited


@pytest.fixture
def forbidden(directory: Path) -> Iterator[Path]:
    """The directory, but nobody may write to it; root, who always may, is nobody meanwhile."""
    user = os.geteuid()
    directory.chmod(0o555)
    if user == 0:
        os.seteuid(65534)
    yield directory
    os.seteuid(user)
    directory.chmod(0o700)

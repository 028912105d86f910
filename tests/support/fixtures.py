"""What a folder's conftest takes over: a place, daemons and actors that are gone when the test is."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.manager import Manager
from tests.support.processes import Actor

_SHM = Path("/dev/shm")


@contextmanager
def short_directory() -> Iterator[Path]:
    """A directory with a short path, since a Unix socket's may have 107 bytes; on tmpfs where there is one."""
    with tempfile.TemporaryDirectory(prefix="sd-", dir=_SHM if _SHM.is_dir() else None) as path:
        yield Path(path)


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory of the test's own."""
    with short_directory() as path:
        yield path


@pytest.fixture
def daemons(home: Path) -> Iterator[Callable[..., Daemon]]:
    """Makes daemons, each in a directory of its own unless told otherwise; `Daemon.start` starts one."""
    made: list[Daemon] = []

    def make(document: str = "", *, place: Path | None = None, **options: object) -> Daemon:
        if place is None:
            place = home / f"d{len(made)}"
            place.mkdir()
        made.append(Daemon(place, document, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for daemon in made:
        daemon.close()
        if daemon.log_file.exists():
            print(daemon.log_file.read_text())  # shown where the test has failed


@pytest.fixture
def daemon(daemons: Callable[..., Daemon]) -> Daemon:
    """A daemon with the default configuration."""
    return daemons().start()


@pytest.fixture
def actor(home: Path) -> Iterator[Callable[..., Actor]]:
    """Starts processes that play a part of actors.py."""
    started: list[Actor] = []

    def start(part: str, **arguments: object) -> Actor:
        started.append(Actor(home, part, **arguments))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture
def manager(home: Path) -> Iterator[Manager]:
    """A service manager that listens."""
    started = Manager(home / "notify")
    with started.socket:
        yield started

"""The shared fixtures, and daemons that ask for keys on tcp."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.security.stage import Stage
from tests.support.fixtures import daemon, daemons, home

__all__ = ["daemon", "daemons", "home", "shared", "stage"]


@pytest.fixture(scope="module")
def shared() -> Iterator[Stage]:
    """A running daemon with keys for two publishers, three workers (one without our client) and a monitor."""
    with tempfile.TemporaryDirectory(prefix="sd-", dir="/dev/shm") as home:
        made = Stage(Path(home))
        made.start()
        yield made
        made.close()


@pytest.fixture
def stage(shared: Stage) -> Iterator[Stage]:
    """The same, and a test may change the keys."""
    shared.begin()
    yield shared
    shared.end()

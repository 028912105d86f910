"""One daemon for all tests that don't end it; each test has names of its own on it."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.support.daemon import Daemon
from tests.support.fixtures import actor, daemons, home, short_directory

__all__ = ["actor", "daemons", "home"]

WITHOUT_METRICS = "[metrics]\nenabled = false\n"
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def running() -> Iterator[Daemon]:
    """A daemon that many tests share."""
    with short_directory() as path:
        shared = Daemon(path, WITHOUT_METRICS + "[daemon]\nmax_workers = 1024\nmax_streams = 256\n").start()
        try:
            yield shared
        finally:
            shared.close()


@pytest.fixture
def daemon(daemons: Callable[..., Daemon]) -> Daemon:
    """A daemon of the test's own."""
    return daemons(WITHOUT_METRICS).start()


@pytest.fixture
def name() -> Callable[[str], str]:
    """Names that nobody else uses."""
    return lambda kind: f"{kind}-{next(_NUMBERS)}"

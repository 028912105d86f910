"""The shared fixtures, and `top` on a terminal."""

from collections.abc import Callable, Iterator

import pytest

from tests.support.fixtures import daemon, daemons, home
from tests.top.typist import Typist

__all__ = ["daemon", "daemons", "home", "typist"]


@pytest.fixture
def typist() -> Iterator[Callable[..., Typist]]:
    """Starts `supplierd top` with these arguments on a terminal of its own."""
    started: list[Typist] = []

    def start(*arguments: object, **options: object) -> Typist:
        started.append(Typist(*arguments, **options))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for each in started:
        each.close()

"""The shared fixtures, and a context like the daemon's."""

from collections.abc import Iterator

import pytest

from supplierd.transport.sockets import Context, make_context
from tests.support.fixtures import home

__all__ = ["context", "home"]


@pytest.fixture
def context() -> Iterator[Context]:
    made = make_context(max_workers=16)
    yield made
    made.destroy(linger=0)

"""The shared fixtures: a context like the daemon's, and inboxes with doorbells."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from supplierd.transport.doorbells import Doorbells
from supplierd.transport.inbox import Inbox
from supplierd.transport.sockets import Context, make_context
from supplierd.wire.doorbell import doorbell_path
from tests.support.doorbells import Enter, Knocker, taken
from tests.support.fixtures import home

__all__ = ["context", "doorbells", "enter", "home", "inboxes"]


@pytest.fixture
def context() -> Iterator[Context]:
    made = make_context(max_workers=16)
    yield made
    made.destroy(linger=0)


@pytest.fixture
def inboxes(context: Context, home: Path) -> Iterator[list[Inbox]]:
    """Two of them."""
    made = [Inbox(context, f"ipc://{home}/{name}", None, 100_000) for name in ("one", "two")]
    yield made
    for inbox in made:
        inbox.close()


@pytest.fixture
def doorbells(inboxes: list[Inbox]) -> Iterator[Doorbells]:
    opened = Doorbells(inboxes)
    yield opened
    opened.close()


@pytest.fixture
def enter(doorbells: Doorbells, inboxes: list[Inbox]) -> Iterator[Enter]:
    """Whoever connects to the doorbells of a test."""
    with ExitStack() as stack:

        def come(inbox: Inbox = inboxes[0], greeted: bool = True) -> Knocker:
            knocker = stack.enter_context(Knocker(doorbell_path(inbox.endpoint)))
            if greeted:
                assert taken(doorbells) == []
                knocker.enter()
            return knocker

        yield come

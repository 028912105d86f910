"""Out of descriptors, libzmq's ipc listener aborts the process: a flood must not get the daemon there."""

import resource
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from supplierd_client import Publisher, Worker

from supplierd.transport import descriptors
from supplierd.transport.descriptors import MAX_RESERVE, Descriptors
from tests.support.daemon import Daemon
from tests.support.waiting import wait_for

LIMIT = 9000  # from 8,400 on no flood is too fast: see MAX_RESERVE
LIMITED = f"""
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT}))
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def many_files() -> Iterator[None]:
    """This process may open as many files as it can."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("door", ["inbox", "control"])
@pytest.mark.usefixtures("many_files")
def test_a_flood_of_connections_does_not_end_the_daemon(home: Path, door: str) -> None:
    daemon = Daemon(home, "[daemon]\nmax_workers = 8\n")
    daemon.command = [sys.executable, "-c", LIMITED, *daemon.command]
    path = (daemon.inbox if door == "inbox" else daemon.control).removeprefix("ipc://")
    with ExitStack() as stack:
        stack.callback(daemon.close)
        daemon.start()
        publisher = stack.enter_context(Publisher("cam-1", daemon.inbox))
        worker = stack.enter_context(Worker("pose", ["cam-1"], daemon.control))
        publisher.publish(b"before")
        assert worker.read(10.0) is not None

        with ExitStack() as flood:
            while daemon.running and not daemon.logged("too many open files"):
                for _ in range(100):
                    connection = socket.socket(socket.AF_UNIX)
                    connection.setblocking(False)
                    try:
                        connection.connect(path)
                        flood.enter_context(connection)
                    except OSError:  # the backlog is full, or the door is shut
                        connection.close()
            assert daemon.running, daemon.log()
            wait_for(lambda: publisher.publish(b"meanwhile") and worker.read(0.1), "frames to flow")
        with Worker("newcomer", ["cam-1"], daemon.control) as newcomer:
            wait_for(lambda: publisher.publish(b"after") and newcomer.read(0.1), "frames for a newcomer")
        assert daemon.running


@pytest.mark.parametrize(("limit", "most"), [(1000, 750), (1_000_000, 1_000_000 - MAX_RESERVE)])
def test_short_begins_and_ends_apart(monkeypatch: pytest.MonkeyPatch, limit: int, most: int) -> None:
    monkeypatch.setattr(descriptors, "_limit", lambda: limit)
    watch, again = Descriptors(), most - (limit - most) // 4
    for count, short in [(most, False), (most + 1, True), (again + 1, True), (again, False), (again + 1, False)]:
        monkeypatch.setattr(descriptors, "_count", lambda n=count: n)
        assert watch.look() is short
        assert watch.short is short


@pytest.mark.usefixtures("many_files")
def test_a_limit_that_is_lowered_later_counts() -> None:
    watch = Descriptors()
    assert not watch.look()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors._count() + 1, hard))
    assert watch.look()
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    assert not watch.look()


def test_what_is_open_is_counted() -> None:
    before = descriptors._count()
    with socket.socket(), socket.socket():
        assert descriptors._count() == before + 2

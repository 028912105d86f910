"""How reading feeds systemd's watchdog: while a worker waits and when it takes a frame, and never in between."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from supplierd_client import AsyncWorker, Worker

from tests.support.daemon import Daemon
from tests.support.fixtures import actor, daemon, daemons, home, manager
from tests.support.manager import Manager
from tests.support.processes import Actor

__all__ = ["actor", "daemon", "daemons", "home", "manager"]

PERIOD = 0.4  # seconds, of WatchdogSec
ALIVE = "WATCHDOG=1"


@pytest.fixture(autouse=True)
def watched(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is a service, and watched."""
    for name, value in manager.environ(PERIOD, os.getpid()).items():
        monkeypatch.setenv(name, value)


def test_a_worker_that_waits_is_ready_and_alive(manager: Manager, home: Path) -> None:
    with Worker("detector", runtime_dir=home) as worker:
        assert manager.heard() == []
        assert worker.read(timeout=PERIOD) is None
    heard = manager.heard()
    assert heard[0] == "READY=1"
    assert 3 <= heard.count(ALIVE) <= 5
    assert len(heard) == heard.count(ALIVE) + 1


def test_an_asyncio_worker_that_waits_is_ready_and_alive(manager: Manager, home: Path) -> None:
    async def wait() -> None:
        async with AsyncWorker("detector", runtime_dir=home) as worker:
            assert await worker.read(timeout=PERIOD) is None

    asyncio.run(wait())
    heard = manager.heard()
    assert heard[0] == "READY=1"
    assert 3 <= heard.count(ALIVE) <= 5


def test_a_worker_that_hangs_between_two_reads_gives_no_sign(
    manager: Manager, daemon: Daemon, actor: Callable[..., Actor]
) -> None:
    actor("publish", inbox=daemon.inbox, stream="cam-1")
    with Worker("detector", control=daemon.control) as worker:
        assert worker.read(timeout=5) is not None
        before = manager.heard()
        time.sleep(PERIOD)  # hangs
        assert manager.heard() == before
        assert worker.read(timeout=5) is not None
        assert manager.heard()[len(before) :] == [ALIVE]

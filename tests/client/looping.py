"""What tests of the asyncio worker have in common."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.waiting import DEADLINE, STEP

SHARED = 10_000
"""Bytes of a frame that goes through shared memory, and so by the bell."""
by_both_ways = pytest.mark.parametrize("size", [16, SHARED])


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine; nothing may be left over in its loop."""

    async def checked() -> None:
        await asyncio.wait_for(coroutine, 2 * DEADLINE)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(checked(), debug=False)


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition while the loop goes on."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(STEP)


def waiting(running: Daemon, worker: str) -> bool:
    found = running.worker(worker)
    return found is not None and found.state == "waiting"

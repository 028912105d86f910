"""When the wait between two turns ends, and what it does after a standstill."""

import os
import resource
import time
from typing import Any

import pytest

from supplierd.daemon import express
from supplierd.daemon.sessions import Sessions
from supplierd.transport.sockets import CATCH_UP, LONG_TICK, STOOD_STILL, TICK, Waiter
from tests.support.express import LIMIT, world
from tests.support.twins import both
from tests.support.waiting import DEADLINE, wait_for

every_module = pytest.mark.parametrize("module", both(express))


@every_module
def test_a_wait_ends_when_the_limit_of_descriptors_is_lowered(module: Any) -> None:
    """Though not one more is open than before."""
    with world(module) as made:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        began = time.monotonic()
        made.express.wait(began + 2 * TICK)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")), hard))
        try:
            made.express.wait(began + DEADLINE)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert time.monotonic() < began + DEADLINE / 2


@every_module
def test_a_wait_ends_when_descriptors_become_short(module: Any) -> None:
    class Short:
        limit, short = 0, True

        def look(self) -> bool:
            return True

    with world(module) as made:
        waiter = Waiter()
        made.turn()
        waiting = module.Express(
            made.way.supplier, Sessions(None), waiter, None, [], doorbells=None, parcels=made.way.parcels,
            decoder=made.way.decoder, max_message=LIMIT, descriptors=Short(), otherwise=made.way,
        )  # fmt: skip
        began = time.monotonic()
        assert waiting.wait(began + DEADLINE) == set()
        assert time.monotonic() < began + DEADLINE / 2


@every_module
def test_after_a_standstill_anywhere_in_a_turn_what_is_old_is_fetched_first(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world(module) as made:
        made.turn()
        standstill = time.monotonic() + LONG_TICK + 2 * STOOD_STILL
        wait_for(lambda: time.monotonic() > standstill, "the end of the standstill")
        slept: list[float] = []
        monkeypatch.setattr(time, "sleep", slept.append)
        made.turn()
        assert slept == [CATCH_UP]
        made.turn()
        assert slept == [CATCH_UP]

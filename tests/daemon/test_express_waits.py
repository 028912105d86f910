"""When the wait between two turns ends, and what it does after a standstill."""

import os
import resource
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from supplierd.daemon import express
from supplierd.daemon.precedence import Precedence
from supplierd.daemon.sessions import Sessions
from supplierd.transport.bells import Bell, Bells
from supplierd.transport.descriptors import Descriptors
from supplierd.transport.sockets import CATCH_UP, LONG_TICK, STOOD_STILL, TICK, Waiter
from tests.support.express import LIMIT, LongWay, world
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
            decoder=made.way.decoder, max_message=LIMIT, descriptors=Short(), precedence=Precedence(""),
            otherwise=made.way,
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


@every_module
def test_a_standstill_in_the_wait_is_one_not_two(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter stands still here: another thread keeps it from when the wait lets go of it."""
    begin = threading.Lock()

    def keep() -> None:
        with begin:
            end = time.monotonic() + LONG_TICK + 2 * STOOD_STILL
            while time.monotonic() < end:
                pass

    with world(module) as made:
        made.turn()
        begin.acquire()
        keeper = threading.Thread(target=keep)
        keeper.start()
        former, slept = sys.getswitchinterval(), list[float]()
        monkeypatch.setattr(time, "sleep", slept.append)
        sys.setswitchinterval(DEADLINE)
        try:
            begin.release()
            while keeper.is_alive():
                made.turn()
        finally:
            sys.setswitchinterval(former)
            keeper.join()
        assert slept == [CATCH_UP]
        made.turn()
        assert slept == [CATCH_UP]


@every_module
def test_a_wait_ends_with_a_bells_end(module: Any, home: Path) -> None:
    """For whoever it belongs to may be gone, too."""
    bells, waiter = Bells(home / "bell.sock", 8), Waiter()
    waiter.add(bells.descriptor, patient=True)
    way = Rung(home, bells)
    waiting = module.Express(
        way.supplier, Sessions(bells), waiter, bells, [], doorbells=None, parcels=way.parcels,
        decoder=way.decoder, max_message=LIMIT, descriptors=Descriptors(), precedence=Precedence(""), otherwise=way,
    )  # fmt: skip

    def took() -> list[bytes]:
        waiting.wait(time.monotonic() + TICK)
        for bell, packet in bells.take(time.monotonic()):
            way.rung(bell, packet, 0.0)
        return way.packets

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.connect(str(bells.path))
        wait_for(lambda: took() or bells.connections, "the connection")
        peer.send(b"x")
        assert wait_for(took, "a packet") == [b"x"]
    began = time.monotonic()
    waiting.wait(began + DEADLINE)
    assert time.monotonic() < began + DEADLINE / 2
    assert wait_for(lambda: took()[1:], "the end") == [b""]
    bells.shut()


class Rung(LongWay):
    """It keeps what the bells had."""

    def __init__(self, home: Path, bells: Bells) -> None:
        super().__init__(home)
        self._bells = bells
        self.packets: list[bytes] = []

    def rung(self, bell: Bell, packet: bytes, _: float) -> None:
        self.packets.append(packet)
        if not packet:
            self._bells.close(bell)

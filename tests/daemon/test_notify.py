"""What the daemon tells systemd, heard at the other end of $NOTIFY_SOCKET."""

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from supplierd.core.service import Settings
from supplierd.core.supplier import Supplier
from supplierd.daemon.notify import status
from supplierd.notify import Notifier
from tests.support.daemon import Daemon
from tests.support.manager import Manager
from tests.support.waiting import wait_for

# --- the line itself ------------------------------------------------------------------------------------------------


def test_a_sign_of_life_each_quarter_of_the_period(manager: Manager) -> None:
    notifier = Notifier(manager.environ(watchdog=4.0, pid=os.getpid()))
    assert notifier.interval == 1.0
    for now in (100.0, 100.5, 100.9, 101.0, 101.1, 103.0):
        notifier.alive(now)
    assert manager.heard() == ["WATCHDOG=1"] * 3
    assert notifier.next_at == 104.0


def test_ready_is_said_once_and_a_status_when_it_changes(manager: Manager) -> None:
    notifier = Notifier(manager.environ())
    for text in ("1 worker", "1 worker", "2\nworkers"):
        notifier.ready()
        notifier.status(text)
    notifier.stopping()
    assert manager.heard() == ["READY=1", "STATUS=1 worker", "STATUS=2 workers", "STOPPING=1"]


def test_a_child_that_inherited_the_environment_says_nothing(manager: Manager) -> None:
    notifier = Notifier(manager.environ(watchdog=4.0, pid=os.getpid() + 1))
    notifier.ready()
    notifier.alive(100.0)
    assert manager.heard() == []


@pytest.mark.parametrize("period", ["", "0", "-5", "soon"])
def test_nobody_watches_without_a_period(manager: Manager, period: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": period})
    notifier.alive(100.0)
    assert notifier.next_at == float("inf")
    assert manager.heard() == []


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "@nobody-listens-here", "vsock:2:1"])
def test_without_a_listener_nothing_happens(address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})
    notifier.ready()
    notifier.alive(100.0)


def test_a_listener_in_the_abstract_namespace_hears(tmp_path: Path) -> None:
    name = f"supplierd-{os.getpid()}-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert listener.recv(100) == b"READY=1"


# --- the daemon -----------------------------------------------------------------------------------------------------


def test_the_daemon_says_when_it_is_ready_lives_and_stops(daemons: Callable[..., Daemon], manager: Manager) -> None:
    daemon = daemons("[streams.cam-1]\n", environ=manager.environ(watchdog=0.4)).start()
    wait_for(lambda: manager.heard().count("WATCHDOG=1") >= 3, "signs of life")
    daemon.stop()
    heard = manager.heard()
    assert heard[0] == "READY=1"
    assert "STATUS=1 stream, 1 silent; 0 workers" in heard
    assert heard[-1] == "STOPPING=1"


def test_a_daemon_that_cannot_bind_is_never_ready(daemons: Callable[..., Daemon], manager: Manager) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        daemon = daemons(environ=manager.environ(), metrics=address)
        daemon.launch()
        assert daemon.wait() != 0
    assert manager.heard() == []


def test_a_daemon_that_stands_still_gives_no_sign_of_life(daemons: Callable[..., Daemon], manager: Manager) -> None:
    daemon = daemons(environ=manager.environ(watchdog=0.2)).start()
    wait_for(lambda: "WATCHDOG=1" in manager.heard(), "a sign of life")
    daemon.freeze()
    before = manager.heard()
    time.sleep(0.3)  # longer than the period: what must not come cannot be waited for
    assert manager.heard() == before
    daemon.thaw()
    wait_for(lambda: len(manager.heard()) > len(before), "signs of life again")


def test_the_status_counts_streams_and_workers() -> None:
    supplier = Supplier(Settings(streams=("cam-1", "cam-2")), bytes(16), 1)
    assert status(supplier, 10.0) == "2 streams, 2 silent; 0 workers"

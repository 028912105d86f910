"""A runtime directory that is removed under the daemon: its log says so, and its peers go on."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from supplierd_client import Publisher, Worker

from supplierd.daemon.presence import LOOK_INTERVAL, REMIND_INTERVAL, Presence
from supplierd.transport.lock import SocketLock
from tests.support.daemon import Daemon, exchange
from tests.support.waiting import wait_for


@pytest.fixture
def locks(tmp_path: Path) -> Iterator[list[SocketLock]]:
    taken = [SocketLock(tmp_path / name) for name in ("inbox.sock", "control.sock")]
    yield taken
    for lock in taken:
        lock.release()


def test_what_is_gone_is_named_once_and_again_later(
    locks: list[SocketLock], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    presence = Presence(locks)
    presence.look(0.0)
    (tmp_path / "inbox.sock.lock").unlink()
    presence.look(LOOK_INTERVAL / 2)
    assert not caplog.records
    presence.look(LOOK_INTERVAL)
    presence.look(2 * LOOK_INTERVAL)
    (said,) = caplog.records
    assert "restart it" in said.message
    assert said.__dict__["fields"] == {"sockets": str(tmp_path / "inbox.sock")}
    (tmp_path / "control.sock.lock").rename(tmp_path / "elsewhere")
    presence.look(3 * LOOK_INTERVAL)
    assert str(tmp_path / "control.sock") in caplog.records[1].__dict__["fields"]["sockets"]
    presence.look(4 * LOOK_INTERVAL + REMIND_INTERVAL)
    assert len(caplog.records) == 3


def test_a_daemon_whose_directory_is_gone_says_so_and_serves_whom_it_has(daemon: Daemon) -> None:
    with Publisher("cam-1", daemon.inbox) as publisher, Worker("w", control=daemon.control) as worker:
        exchange(publisher, worker)
        shutil.rmtree(daemon.runtime_dir)
        wait_for(lambda: daemon.logged("files were removed"), "a line of the log")
        exchange(publisher, worker)
    assert daemon.stop() < 2.0

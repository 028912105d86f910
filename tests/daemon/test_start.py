"""Who may start: one daemon for each socket and runtime directory, whatever a killed one has left."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from supplierd_client import Publisher, Worker

from tests.support.daemon import Daemon, exchange, free_port
from tests.support.waiting import wait_for

Daemons = Callable[..., Daemon]


def failed(daemon: Daemon) -> str:
    """What a daemon says that does not start; it exits with 1, in one line, at once."""
    daemon.launch()
    assert daemon.wait() == 1, daemon.log()
    assert len(daemon.log().splitlines()) == 1, daemon.log()
    return daemon.log()


def test_a_second_daemon_fails_at_once_and_says_who_is_there(daemons: Daemons, home: Path) -> None:
    first = daemons(place=home).start()
    second = daemons(place=home)
    said = failed(second)
    assert f"is in use by supplierd, pid {first.pid}: stop that daemon, or choose another --runtime-dir" in said
    assert first.running
    with Publisher("cam-1", first.inbox) as publisher, Worker("w", control=first.control) as worker:
        exchange(publisher, worker)


def test_the_sockets_of_a_killed_daemon_are_no_obstacle(daemons: Daemons) -> None:
    daemon = daemons().start()
    with Worker("w", control=daemon.control) as worker:
        daemon.let_join(worker)
        wait_for(lambda: list(daemon.runtime_dir.glob("w-*.sock")), "the worker's endpoint")
        daemon.kill()
        left = set(daemon.runtime_dir.iterdir())
        assert daemon.runtime_dir / "inbox.sock" in left
        links = {path for path in left if path.name.startswith("w-")}
        daemon.start()
        assert not links & set(daemon.runtime_dir.iterdir())


def test_a_regular_file_in_the_way_is_refused_and_kept(daemons: Daemons) -> None:
    daemon = daemons()
    daemon.runtime_dir.mkdir()
    precious = daemon.runtime_dir / "inbox.sock"
    precious.write_text("precious")
    assert "inbox.sock exists and is not a socket: move it away" in failed(daemon)
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("of", ["inbox", "control", "metrics", "push"])
def test_an_address_in_use_is_named(daemons: Daemons, of: str) -> None:
    port = free_port()
    endpoint = f'"tcp://127.0.0.1:{port}"'
    document = {
        "inbox": f"[inbox]\nendpoints = [{endpoint}]",
        "control": f"[control]\nendpoints = [{endpoint}]",
        "metrics": "",
        "push": f'[workers.plain]\ndelivery = "push"\nendpoint = {endpoint}',
    }[of]
    metrics = f"127.0.0.1:{port}" if of == "metrics" else "127.0.0.1:0"
    holder = daemons(document, metrics=metrics)
    holder.launch()
    wait_for(lambda: holder.logged("serving"), "the first daemon")
    said = failed(daemons(document, metrics=metrics))
    assert f"127.0.0.1:{port}" in said
    assert "ddress already in use" in said


def test_a_daemon_on_tcp_alone_does_not_touch_anothers_runtime_directory(daemons: Daemons, home: Path) -> None:
    """Workers' sockets and arenas lie there; a second daemon would clear them away as a dead one's."""
    first = daemons(place=home).start()
    with Worker("w", control=first.control) as worker:
        first.let_join(worker)
        links = wait_for(lambda: list(first.runtime_dir.glob("w-*.sock")), "the worker's endpoint")
        inbox, control = (f'endpoints = ["tcp://127.0.0.1:{free_port()}"]' for _ in range(2))
        second = daemons(f"[inbox]\n{inbox}\n[control]\n{control}", place=home)
        second.launch()
        wait_for(lambda: not second.running or second.logged("serving"), "the second daemon")
        assert all(link.is_socket() for link in links)
        assert not second.running
        assert f"pid {first.pid}" in second.log()


def test_the_sockets_are_for_the_user_and_the_group(daemon: Daemon) -> None:
    assert stat.S_IMODE(daemon.runtime_dir.stat().st_mode) & ~0o750 == 0
    for path in daemon.runtime_dir.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0, path


@pytest.mark.parametrize("made", ["symlink", "file"])
def test_a_runtime_directory_that_is_none_is_refused(daemons: Daemons, home: Path, made: str) -> None:
    daemon = daemons()
    if made == "symlink":
        (home / "elsewhere").mkdir()
        daemon.runtime_dir.symlink_to(home / "elsewhere")
    else:
        daemon.runtime_dir.write_text("")
    said = failed(daemon)
    assert f"the runtime directory {daemon.runtime_dir}" in said
    assert "--runtime-dir" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_runtime_directory_of_somebody_else_is_refused(daemons: Daemons) -> None:
    daemon = daemons()
    daemon.runtime_dir.mkdir()
    os.chown(daemon.runtime_dir, 12345, 12345)
    assert "must be a directory of this user's own" in failed(daemon)

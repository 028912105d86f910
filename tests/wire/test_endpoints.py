"""Where daemon and clients meet: the runtime directory by each of its rules, socket paths, the boot id."""

import grp
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from supplierd.wire import endpoints
from supplierd.wire.endpoints import (
    barred,
    check_endpoint,
    control_endpoint,
    inbox_endpoint,
    ipc,
    machine_boot_id,
    runtime_dir,
)

VARIABLE = "SUPPLIERD_RUNTIME_DIR"


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system directory that cannot be: its parent does not exist."""
    path = tmp_path / "absent" / "supplierd"
    monkeypatch.setattr(endpoints, "SYSTEM_RUNTIME_DIR", path)
    return path


def test_an_explicit_directory_wins(nowhere: Path) -> None:
    environ = {VARIABLE: "/from/environ", "XDG_RUNTIME_DIR": "/tmp"}
    assert runtime_dir("/explicit", environ) == Path("/explicit")
    assert runtime_dir(Path("/explicit"), environ) == Path("/explicit")


@pytest.mark.parametrize("explicit", [None, ""])
def test_then_the_variable(explicit: str | None, nowhere: Path) -> None:
    assert runtime_dir(explicit, {VARIABLE: "/from/environ"}) == Path("/from/environ")


def test_the_processs_own_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/from/process")
    assert runtime_dir() == Path("/from/process")
    assert runtime_dir("/explicit") == Path("/explicit")


@pytest.mark.parametrize(
    ("explicit", "environ"), [("relative", {}), (".", {}), (None, {VARIABLE: "run"}), (None, {VARIABLE: "~/run"})]
)
def test_a_relative_path_is_refused(explicit: str | None, environ: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="is not an absolute path: begin it with /"):
        runtime_dir(explicit, environ)


def test_then_the_systems_directory_where_it_is_or_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = tmp_path / "supplierd"
    monkeypatch.setattr(endpoints, "SYSTEM_RUNTIME_DIR", system)
    assert runtime_dir(None, {VARIABLE: ""}) == system
    system.mkdir()
    assert runtime_dir(None, {}) == system


def test_the_systems_directory_counts_where_a_daemon_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "SYSTEM_RUNTIME_DIR", tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as for a user who may only connect
    assert runtime_dir(None, {}) != tmp_path
    (tmp_path / "control.sock").touch()
    assert runtime_dir(None, {}) != tmp_path
    (tmp_path / "control.sock").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "control.sock"))
        assert runtime_dir(None, {}) == tmp_path


def test_then_the_users_own(tmp_path: Path, nowhere: Path) -> None:
    assert runtime_dir(None, {"XDG_RUNTIME_DIR": str(tmp_path)}) == tmp_path / "supplierd"
    private = Path(f"/dev/shm/supplierd-{os.getuid()}")
    assert runtime_dir(None, {}) == private
    for unusable in ("", "relative", str(nowhere)):
        assert runtime_dir(None, {"XDG_RUNTIME_DIR": unusable}) == private


def test_endpoints() -> None:
    assert inbox_endpoint(Path("/run/supplierd")) == "ipc:///run/supplierd/inbox.sock"
    assert control_endpoint(Path("/run/supplierd")) == "ipc:///run/supplierd/control.sock"


@pytest.mark.parametrize(
    "endpoint",
    ["ipc:///run/s.sock", "ipc://@name", "tcp://h:1", "tcp://[::1]:65535", "tcp://a;b:2", "tcp://h:00000080"],
)
def test_an_address_of_a_daemon(endpoint: str) -> None:
    check_endpoint(endpoint)


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        *(
            (endpoint, "tcp://host:port")
            for endpoint in ("", "h:1", "ipc://", "tcp://", "tcp://h", "udp://h:1", "tcp:h:1")
        ),
        *(
            (f"tcp://h:{port}", "a number from 1 to 65535")
            for port in ("", "0", "-1", "65536", "http", "٨٠", "9" * 5000)
        ),
    ],
)
def test_no_address_of_a_daemon(endpoint: str, words: str) -> None:
    with pytest.raises(ValueError, match="cannot be used") as refused:
        check_endpoint(endpoint)
    assert words in str(refused.value)


def test_a_path_longer_than_a_sockets_address() -> None:
    longest = Path("/" + "a" * 106)
    assert ipc(longest) == f"ipc://{longest}"
    with pytest.raises(ValueError, match="has 108 bytes; a Unix socket's may have 107: choose a shorter"):
        ipc(Path("/" + "a" * 107))
    with pytest.raises(ValueError, match="has 109 bytes"):
        ipc(Path("/" + "é" * 54))  # bytes count, not characters
    with pytest.raises(ValueError, match="choose a shorter runtime directory"):
        control_endpoint(Path("/" + "a" * 100))


def test_the_longest_path_can_be_bound(tmp_path: Path) -> None:
    room = endpoints.MAX_IPC_PATH_BYTES - len(os.fsencode(tmp_path)) - 1
    if room < 1:
        pytest.skip("the temporary directory's path leaves no room")
    path = tmp_path / ("s" * room)
    assert ipc(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def test_the_boot_id() -> None:
    assert len(machine_boot_id()) == 16
    assert machine_boot_id() == machine_boot_id()


@pytest.mark.parametrize("content", ["", "no boot id\n", "00112233"])
def test_a_machine_without_boot_id_gets_one_for_the_process(content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = machine_boot_id()
    monkeypatch.setattr(Path, "read_text", lambda self: content)
    assert machine_boot_id() == machine_boot_id() != known
    assert len(machine_boot_id()) == 16


def test_nor_need_it_be_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(self: Path) -> str:
        raise PermissionError

    monkeypatch.setattr(Path, "read_text", unreadable)
    assert len(machine_boot_id()) == 16


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A runtime directory that this user, who is nobody for the time of a test, may not enter, but a group; root enters
    any."""
    path = tmp_path / "supplierd"
    path.mkdir()
    (path / "control.sock").touch()
    path.chmod(0o070)
    above, root = stat.S_IMODE(tmp_path.parent.stat().st_mode), os.geteuid() == 0
    if root:
        os.chown(path, -1, 1)
        for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
            folder.chmod(0o755)
        os.seteuid(65534)
    yield path
    if root:
        os.seteuid(0)
        for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
            folder.chmod(above)


@contextmanager
def as_owner() -> Iterator[None]:
    """As who made the directory."""
    nobody = os.geteuid() != os.getuid()
    if nobody:
        os.seteuid(0)
    yield
    if nobody:
        os.seteuid(65534)


def test_who_may_not_enter_is_told_which_group_may(closed: Path, nowhere: Path) -> None:
    group = grp.getgrgid(closed.stat().st_gid).gr_name
    hint = barred(control_endpoint(closed))
    assert hint == f"this user may not open {closed}/control.sock: sudo usermod -aG {group} USER, and log in anew"


def test_a_group_without_a_name_is_told_by_its_number(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless(self: Path) -> str:
        raise KeyError

    monkeypatch.setattr(Path, "group", nameless)
    assert f"usermod -aG {closed.stat().st_gid} USER" in (barred(control_endpoint(closed)) or "")


@pytest.mark.parametrize("mode", [0o070, 0o000], ids=["of root's group", "for its owner alone"])
def test_no_group_is_named_that_cannot_help(closed: Path, mode: int) -> None:
    if mode and os.getuid():
        pytest.skip("only root can give a directory to root's group")
    with as_owner():
        closed.chmod(mode)
        if mode:
            os.chown(closed, -1, 0)
            os.setegid(1)  # this test's own group is root's
    try:
        hint = barred(control_endpoint(closed))
    finally:
        if mode:
            os.setegid(0)
    assert hint is not None
    assert f"may not open {closed}/control.sock: run this as the user whose daemon it is" in hint


def test_nor_one_that_cannot_be_seen(closed: Path) -> None:
    hint = barred(control_endpoint(closed / "deeper"))
    assert hint == f"this user may not open {closed}/deeper/control.sock: choose a runtime directory that it may enter"


def test_who_was_led_elsewhere_is_told_of_the_systems_daemon(
    closed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "SYSTEM_RUNTIME_DIR", closed)
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    hint = barred(control_endpoint(runtime_dir()))
    assert hint is not None
    assert f"this user may not open {closed}/control.sock" in hint


def test_who_chose_another_place_is_not(closed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "SYSTEM_RUNTIME_DIR", closed)
    monkeypatch.delenv(VARIABLE, raising=False)
    assert barred(control_endpoint(tmp_path / "own")) is None
    monkeypatch.setenv(VARIABLE, str(tmp_path / "own"))
    assert barred(control_endpoint(runtime_dir())) is None


def test_nothing_bars_where_there_is_no_daemon_or_an_open_one(nowhere: Path, tmp_path: Path) -> None:
    assert barred("tcp://127.0.0.1:5602") is None
    assert barred("ipc://@abstract") is None
    assert barred(control_endpoint(tmp_path)) is None
    (tmp_path / "control.sock").touch()
    assert barred(control_endpoint(tmp_path)) is None

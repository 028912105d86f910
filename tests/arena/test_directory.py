"""The arena directory: on tmpfs wherever that can be had, private, found again, and swept of what is dead."""

import os
import stat
from pathlib import Path

import pytest

from supplierd.arena import (
    ArenaUnavailableError,
    Reason,
    check_directory,
    discard_directory,
    prepare_directory,
)
from supplierd.arena.directory import on_tmpfs
from supplierd.arena.writer import ArenaWriter

from .conftest import SHM


@pytest.fixture
def on_disk(tmp_path: Path) -> Path:
    if on_tmpfs(tmp_path):
        pytest.skip(f"{tmp_path} is on tmpfs: the case of a disk cannot be tried")
    runtime_dir = tmp_path / "runtime"
    runtime_dir.mkdir(0o750)
    return runtime_dir


@pytest.fixture
def shm(directory: Path) -> Path:
    if not on_tmpfs(directory):
        pytest.skip("no tmpfs at /dev/shm")
    return directory


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_in_the_runtime_directory_when_that_is_on_tmpfs(directory: Path) -> None:
    directory.chmod(0o750)
    path, warning, _ = prepare_directory(directory)
    assert path == directory / "arena"
    assert not path.is_symlink()
    assert mode(path) == 0o3770, "the group may make arenas, and each member remove its own"
    assert warning is None
    assert check_directory(path) is None
    assert check_directory(path, write=True) is None
    assert prepare_directory(directory).path == path


def test_a_link_to_tmpfs_when_the_runtime_directory_is_on_a_disk(on_disk: Path, shm: Path) -> None:
    path, warning, _ = prepare_directory(on_disk, shm=shm)
    place = path.readlink()
    assert place.parent == shm
    assert mode(place) == 0o3770
    assert place.stat().st_gid == on_disk.stat().st_gid
    assert warning is None
    assert prepare_directory(on_disk, shm=shm).path.readlink() == place
    path.unlink()
    assert prepare_directory(on_disk, shm=shm).path.readlink() == place, "found again"
    place.rmdir()
    assert prepare_directory(on_disk, shm=shm).path.readlink() == place, "made again, as after a reboot"
    assert len(list(shm.iterdir())) == 1


def test_the_directory_on_tmpfs_goes_with_the_daemon_unless_in_use(on_disk: Path, shm: Path) -> None:
    made = prepare_directory(on_disk, shm=shm)
    path = made.path
    with ArenaWriter(path, "cam-1") as writer:
        writer.write(b"frame")
        discard_directory(made)
        assert len(list(path.iterdir())) == 1
    discard_directory(made)
    assert not path.is_symlink()
    assert not list(shm.iterdir())


def test_another_daemons_directory_stays(on_disk: Path, shm: Path) -> None:
    """Somebody removed the runtime directory, and started another daemon in a new one of its name."""
    ours = prepare_directory(on_disk, shm=shm)
    ours.path.unlink()
    (on_disk / "in its place").touch()  # else the new link might have the number of the old one
    path = prepare_directory(on_disk, shm=shm).path
    discard_directory(ours)
    assert path.exists()


def test_an_empty_directory_on_disk_gives_way_and_one_in_use_stays(on_disk: Path, shm: Path, tmp_path: Path) -> None:
    path, warning, _ = prepare_directory(on_disk, shm=tmp_path / "none")
    assert not path.is_symlink()
    assert warning
    assert "on a disk" in warning
    with ArenaWriter(path, "cam-1") as writer:
        writer.write(b"frame")
        assert not prepare_directory(on_disk, shm=shm).path.is_symlink()
    assert prepare_directory(on_disk, shm=shm).path.is_symlink()


@pytest.mark.parametrize("trap", ["link", "file", "open to all"])
def test_what_somebody_else_laid_there_is_never_used(on_disk: Path, shm: Path, tmp_path: Path, trap: str) -> None:
    place = prepare_directory(on_disk, shm=shm).path.readlink()
    (on_disk / "arena").unlink()
    place.rmdir()
    if trap == "link":
        place.symlink_to(tmp_path)
    elif trap == "file":
        place.touch()
    else:
        place.mkdir()
        place.chmod(0o777)
    path, warning, _ = prepare_directory(on_disk, shm=shm)
    assert not path.is_symlink()
    assert warning


def test_a_link_to_an_untrusted_directory_is_replaced(on_disk: Path, shm: Path, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (on_disk / "arena").symlink_to(tmp_path / "open")
    assert prepare_directory(on_disk, shm=shm).path.readlink().parent == shm


def test_dead_arenas_are_removed_at_the_start(directory: Path) -> None:
    path = prepare_directory(directory).path
    with ArenaWriter(path, "alive") as writer, ArenaWriter(path, "dead") as dead:
        living = writer.write(b"frame").arena
        copied = dead.write(b"frame").arena
        (path / copied.replace("dead", "copy")).write_bytes((path / copied).read_bytes()[:100])
        os.link(path / copied, path / "kept")
        dead.close()
        os.rename(path / "kept", path / copied)
        del dead
        (path / "README").touch()
        prepare_directory(directory)
        assert {each.name for each in path.iterdir()} == {living, "README", copied.replace("dead", "copy")}


def test_a_small_tmpfs_is_warned_of(tiny_tmpfs: Path) -> None:
    warning = prepare_directory(tiny_tmpfs).warning
    assert warning
    assert "only 4 MiB" in warning


def test_no_directory_can_be_had(tmp_path: Path) -> None:
    with pytest.raises(ArenaUnavailableError, match="cannot prepare") as caught:
        prepare_directory(tmp_path / "none")
    assert caught.value.reason is Reason.NOT_FOUND
    (tmp_path / "arena").touch()
    with pytest.raises(ArenaUnavailableError, match="Not a directory"):
        prepare_directory(tmp_path, shm=tmp_path / "none")


def test_check_says_what_is_missing(tmp_path: Path) -> None:
    for path in (tmp_path / "none", Path("/etc/passwd")):
        problem = check_directory(path)
        assert problem
        assert problem.reason is Reason.NOT_FOUND


def test_check_notices_permissions(forbidden: Path) -> None:
    assert check_directory(forbidden) is None
    problem = check_directory(forbidden, write=True)
    assert problem
    assert problem.reason is Reason.NO_PERMISSION


def test_shared_memory_is_on_tmpfs() -> None:
    if not SHM.is_dir():
        pytest.skip("no /dev/shm here")
    assert on_tmpfs(SHM)
    assert not on_tmpfs(Path("/proc"))

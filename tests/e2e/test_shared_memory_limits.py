"""Where the system refuses shared memory: a warning says why, frames go inline, nothing dies, and it can be mended."""

import logging
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from supplierd_client import Publisher, Worker

from supplierd.arena import arena_directory
from tests.e2e.lane import LaneActor, arenas, exchange, inline, read
from tests.e2e.lane_parts import is_whole, place
from tests.support.daemon import Daemon, assert_adds_up
from tests.support.waiting import wait_for

Lane = Callable[..., LaneActor]
MIB = 1 << 20


def mount(*arguments: object) -> None:
    """Mount something, or skip the test where that is not permitted."""
    if os.geteuid():
        pytest.skip("only root can mount")
    done = subprocess.run(["mount", *map(str, arguments)], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")


def unmount(path: Path) -> None:
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def cramped(home: Path, daemons: Callable[..., Daemon]) -> Iterator[Daemon]:
    """A daemon whose runtime directory is a tmpfs of 8 MiB from which nothing can be executed."""
    daemon = daemons(place=home)
    daemon.runtime_dir.mkdir()
    mount("-t", "tmpfs", "-o", "size=8m,noexec,mode=750", "tmpfs", daemon.runtime_dir)
    yield daemon.start()
    daemon.close()
    unmount(daemon.runtime_dir)


def test_a_full_tmpfs(cramped: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    assert cramped.logged("has only 8 MiB for frames, expected at least 256")
    with Publisher("cam-1", cramped.inbox) as publisher, Worker("detector", ["*"], cramped.control) as worker:
        kept = [exchange(publisher, worker, MIB) for _ in range(12)]
        assert all(map(is_whole, kept))
        shared = [frame for frame in kept if place(frame.array)]
        assert 4 <= len(shared) <= 7
        assert inline(cramped) == {"no_space": 12 - len(shared)}
        (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert "No space left on device; frames go inline until mended: free or enlarge it" in warning
        for frame in kept:
            frame.release()
        wait_for(lambda: place(exchange(publisher, worker, MIB).array), "shared memory to be used again")
        assert_adds_up(cramped.snapshot())


def test_a_tmpfs_that_others_have_filled(cramped: Daemon) -> None:
    filler = cramped.runtime_dir / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 7 * MIB + 512 * 1024)
    with Publisher("cam-1", cramped.inbox) as publisher, Worker("detector", ["*"], cramped.control) as worker:
        for _ in range(5):
            frame = exchange(publisher, worker, MIB)
            assert is_whole(frame)
            assert place(frame.array) is None
        filler.unlink()
        wait_for(lambda: place(exchange(publisher, worker, MIB).array), "shared memory to be used")


@pytest.mark.parametrize(
    ("limit", "reason", "advice"),
    [("RLIMIT_FSIZE", "file_limit", "LimitFSIZE="), ("RLIMIT_NOFILE", "too_many_files", "LimitNOFILE=")],
)
def test_a_publisher_under_a_limit(daemon: Daemon, lane: Lane, limit: str, reason: str, advice: str) -> None:
    camera = lane("camera", inbox=daemon.inbox, limit=limit)
    with Worker("detector", ["*"], daemon.control) as worker:
        for _ in range(5):
            frame = read(worker)
            assert is_whole(frame)
            assert place(frame.array) is None
    assert set(inline(daemon)) == {reason}
    (warning,) = camera.warnings
    assert "frames go inline until mended" in warning
    assert advice in warning
    assert not arenas(daemon)
    camera.end()


def test_a_worker_without_a_descriptor_to_spare(daemon: Daemon, lane: Lane) -> None:
    worker = lane("watch", control=daemon.control, name="detector", limit="RLIMIT_NOFILE")
    daemon.wait_for_state("detector", "waiting", "starved")
    worker.tell()
    wait_for(lambda: any("limited" in word for word in worker.words), "the limit")
    lane("camera", inbox=daemon.inbox)
    frames = worker.wait_frames(5)
    assert all(frame["whole"] for frame in frames)
    assert "LimitNOFILE=" in worker.warnings[0]
    found = daemon.worker("detector")
    assert found
    assert found.inline_reason == "too_many_files"
    assert not inline(daemon), "the publisher goes on as before"
    worker.end()
    assert_adds_up(daemon.snapshot())


def test_a_read_only_arena_directory(daemon: Daemon, lane: Lane) -> None:
    directory = arena_directory(daemon.runtime_dir)
    with (
        Publisher("cam-1", daemon.inbox) as publisher,
        Worker("detector", ["cam-1"], daemon.control) as worker,
        Worker("other", ["cam-2"], daemon.control) as other,
    ):
        assert place(exchange(publisher, worker).array)
        mount("--bind", directory, directory)
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", directory], check=True)
            camera = lane("camera", inbox=daemon.inbox, stream="cam-2")
            assert place(read(other).array) is None
            assert "mount it writable" in camera.warnings[0]
            assert set(inline(daemon, "cam-2")) == {"read_only"}
            assert place(exchange(publisher, worker).array), "what is open stays open"
            daemon.kill()
            daemon.start()
            assert daemon.logged("Read-only file system; frames go inline until mended")
            wait_for(lambda: publisher.connected, "the publisher to find the daemon")
            frame = exchange(publisher, worker)
            assert is_whole(frame)
            assert place(frame.array), "where no arena can be made those that are there can be read"
        finally:
            unmount(directory)
        wait_for(lambda: place(read(other).array), "shared memory to be used")

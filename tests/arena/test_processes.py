"""Leases between processes: nothing torn at full speed, and nothing left behind by whoever is killed or forks."""

import fcntl
import math
import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supplierd.arena import ArenaReader, Descriptor, Janitor, StaleDescriptorError, inspect
from supplierd.arena.layout import TABLE_OFFSET
from supplierd.arena.locks import LockFile
from supplierd.arena.writer import ArenaWriter

from .actors import LINE
from .conftest import Actor, until

Start = Callable[..., Actor]


def test_no_frame_is_torn(directory: Path, actor: Start) -> None:
    """2,000 frames of 1 MB and more at full speed; every word of each frame seen is compared, those kept also later."""
    watchers = [actor("watch", directory, 250, kept) for kept in (0, 2, 6)]
    for watcher in watchers:
        assert watcher.line() == "ready"
        assert watcher.process.stdin
        fcntl.fcntl(watcher.process.stdin, fcntl.F_SETFL, os.O_NONBLOCK)
    number = 0
    with ArenaWriter(directory, "cam-1") as writer:

        def some_frames() -> bool:
            nonlocal number
            for _ in range(20):
                number += 1
                slot = writer.acquire(1 << 20)
                slot.bytes().view(np.uint64)[:] = number
                line = " ".join(map(str, (*slot.commit(), number))).encode().ljust(LINE)
                for watcher in watchers:
                    tell(watcher, line)
            return number >= 2000 and all(watcher.process.poll() is not None for watcher in watchers)

        until(some_frames)
        assert [watcher.process.returncode for watcher in watchers] == [0, 0, 0], [w.line() for w in watchers]
        assert [watcher.line().split()[0] for watcher in watchers] == ["250", "250", "250"]
        assert writer.stats().leased == 0
        assert writer.stats().bytes < 30 << 20, "8 frames held, 3 spared, and some on their way"


def tell(watcher: Actor, line: bytes) -> None:
    assert watcher.process.stdin
    with suppress(BlockingIOError, BrokenPipeError):  # it has not read the last ones yet, or all that it wanted
        os.write(watcher.process.stdin.fileno(), line)


def test_a_killed_reader_holds_nothing(writer: ArenaWriter, actor: Start, directory: Path) -> None:
    descriptor = writer.write(b"\5" * 5000)
    holders = [actor("hold", directory, *descriptor) for _ in range(2)]
    for holder in holders:
        assert holder.line() == "holding 5"
    assert writer.stats().leased == 1
    holders[0].kill()
    assert writer.stats().leased == 1
    holders[1].kill()
    until(lambda: writer.stats().leased == 0)


def test_a_reader_that_ends_holds_nothing(writer: ArenaWriter, actor: Start, directory: Path) -> None:
    holder = actor("hold", directory, *writer.write(b"\5" * 5000))
    assert holder.line() == "holding 5"
    assert holder.end() == 0
    assert writer.stats().leased == 0


def test_the_arena_of_a_killed_writer_is_removed(reader: ArenaReader, actor: Start, directory: Path) -> None:
    publisher = actor("publish", directory, 100_000)
    descriptor = publisher.descriptor()
    lease = reader.lease(descriptor)
    info = inspect(directory / descriptor.arena)
    assert (info.stream, info.pid, info.living, info.leased) == ("cam-1", publisher.process.pid, True, 1)
    assert not Janitor(directory).sweep(math.inf)
    publisher.kill()
    until(lambda: not inspect(directory / descriptor.arena).living)
    assert Janitor(directory).sweep(math.inf) == [descriptor.arena]
    assert not list(directory.iterdir())
    assert set(lease.data) == {7}
    lease.release()
    reader.prune()
    with pytest.raises(StaleDescriptorError, match="gone"):
        reader.lease(descriptor)


def test_a_writer_that_ends_leaves_no_file(actor: Start, directory: Path) -> None:
    publisher = actor("publish", directory, 1000)
    publisher.descriptor()
    assert publisher.end() == 0
    assert not list(directory.iterdir())


def test_native_code_that_writes_to_a_frame_dies_alone(
    writer: ArenaWriter, reader: ArenaReader, actor: Start, directory: Path
) -> None:
    lease = reader.lease(writer.write(b"\5" * 5000))
    careless = actor("poke", directory, *lease.descriptor)
    assert careless.line() == "reading 5"
    assert careless.end() == -signal.SIGSEGV
    assert set(lease.data) == {5}


def test_a_fork_neither_drops_nor_prolongs_locks(actor: Start, directory: Path) -> None:
    forking = actor("fork", directory)
    assert forking.line() == "ok"
    until(lambda: forking.process.poll() == 0)
    (arena,) = directory.iterdir()
    until(lambda: not inspect(arena).living)  # as soon as the child, which goes on living, has run at all
    info = inspect(arena)
    assert (info.leased, info.writing) == (1, 0), "what the child has to hold, and nothing of its parent's"
    assert forking.process.stdout
    assert not select.select([forking.process.stdout], [], [], 0)[0], "the child has ended"
    forking.tell()
    assert forking.line() == "let go"
    assert inspect(arena).leased == 0
    assert Janitor(directory).sweep(math.inf) == [arena.name]


@pytest.mark.parametrize("let_go", [False, True], ids=["held", "let go"])
def test_a_forked_child_holds_the_frames_that_it_has(writer: ArenaWriter, reader: ArenaReader, let_go: bool) -> None:
    """Whatever its parent does, which here lets go of them, and sees them replaced."""
    array = reader.frame(writer.write(b"\1" * 5000))
    kept = reader.frame(writer.write(b"\2" * 5000))
    said, to_parent = os.pipe()
    to_child, tell = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if let_go:
                del array
            os.write(to_parent, b"x")
            os.read(to_child, 1)
            code = set(kept) != {2} or (not let_go and set(array) != {1})
        finally:
            os._exit(code)
    assert os.read(said, 1)
    del array, kept
    assert reader.leases_held == 0
    assert writer.stats().leased == (1 if let_go else 2)
    for _ in range(3 * writer.stats().slots):
        writer.write(b"\3" * 5000)
    os.write(tell, b"x")
    assert os.waitpid(child, 0)[1] == 0
    assert writer.stats().leased == 0, "they end with it"
    for end in (said, to_parent, to_child, tell):
        os.close(end)


def test_a_forked_child_can_look_at_a_frame_that_another_thread_was_about_to_map(
    writer: ArenaWriter, reader: ArenaReader
) -> None:
    lease = reader.lease(writer.write(b"\1" * 5000))
    arena = next(iter(reader.arenas.values()))
    with arena._mapping_lock:
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            os._exit(set(lease.data) != {1})
    assert os.waitpid(child, 0)[1] == 0


def test_a_forked_child_lets_go_of_all_its_parents_locks_before_it_takes_one(directory: Path) -> None:
    """For the end of a hold on one arena may drop the lock of another."""

    class Heir:
        def has_to_hold(self) -> bool:
            return True

        def hold_again(self) -> None:
            held_again.append(all(one.fd != parents for one, parents in zip(files, inherited, strict=True)))

    held_again: list[bool] = []
    files = [LockFile(os.open(directory / str(i), os.O_RDWR | os.O_CREAT)) for i in range(3)]
    for one in files:
        one.heir = Heir()
    inherited = [one.fd for one in files]
    child = os.fork()
    if child == 0:
        os._exit(held_again != [True] * 3)
    assert os.waitpid(child, 0)[1] == 0
    for one in files:
        one.close()


def test_a_forked_child_that_cannot_hold_its_frames_says_so(
    writer: ArenaWriter, reader: ArenaReader, caplog: pytest.LogCaptureFixture
) -> None:
    array = reader.frame(writer.write(b"\1" * 5000))
    arena = next(iter(reader.arenas.values()))
    arena.locks.heir = Late(arena)
    said, to_parent = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(to_parent, caplog.text.encode())
        os._exit(0)
    os.close(to_parent)
    with open(said) as log:
        assert "frames that this forked process has of its parent may change: " in log.read()
    assert os.waitpid(child, 0)[1] == 0
    assert array[0] == 1


class Late:
    """One that runs when its frame has been replaced."""

    def __init__(self, arena: Any) -> None:
        self._arena = arena

    def has_to_hold(self) -> bool:
        return True

    def hold_again(self) -> None:
        os.pwrite(os.open(self._arena_path(), os.O_RDWR), bytes(8), TABLE_OFFSET)
        self._arena.hold_again()

    def _arena_path(self) -> str:
        return f"/proc/self/fd/{self._arena.locks.fd}"


def test_descriptors_cross_processes_unchanged(actor: Start, directory: Path, reader: ArenaReader) -> None:
    descriptor = actor("publish", directory, 123_456).descriptor()
    assert descriptor == Descriptor(descriptor.arena, 0, 2, descriptor.offset, 123_456)
    assert len(reader.lease(descriptor).data) == 123_456

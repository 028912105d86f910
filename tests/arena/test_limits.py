"""Where the system refuses: each error says what failed and what to do, nothing dies, and frames flow again later."""

import errno
import os
import resource
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from supplierd.arena import (
    ArenaReader,
    ArenaUnavailableError,
    Descriptor,
    NoFreeSlotError,
    Reason,
    StaleDescriptorError,
)
from supplierd.arena.errors import unavailable
from supplierd.arena.writer import ArenaWriter

Limit = Callable[[int, int], AbstractContextManager[None]]
FRAME = 1 << 20


def refusal(action: Callable[[], object]) -> Reason:
    with pytest.raises(ArenaUnavailableError, match="inline until mended: ") as caught:
        action()
    return caught.value.reason


def test_a_full_tmpfs(tiny_tmpfs: Path) -> None:
    with ArenaWriter(tiny_tmpfs, "cam-1", slots=8) as writer, ArenaReader(tiny_tmpfs) as reader:
        held = [reader.lease(writer.write(bytes([number]) * FRAME)) for number in range(3)]
        for _ in range(3):
            assert refusal(lambda: writer.write(bytes(FRAME))) is Reason.NO_SPACE
        assert writer.stats()[:5] == (1, 8, 5, 3, 0)
        assert [lease.data[FRAME - 1] for lease in held] == [0, 1, 2]
        assert bytes(reader.lease(writer.write(b"small")).data) == b"small"


def test_a_full_tmpfs_has_no_room_even_for_an_empty_arena(tiny_tmpfs: Path) -> None:
    (tiny_tmpfs / "filler").write_bytes(bytes(4 << 20))
    with ArenaWriter(tiny_tmpfs, "cam-1") as writer:
        assert refusal(lambda: writer.write(b"frame")) is Reason.NO_SPACE
        (tiny_tmpfs / "filler").unlink()
        writer.write(b"frame")


def test_an_old_arena_makes_room_for_its_successor(tiny_tmpfs: Path) -> None:
    with ArenaWriter(tiny_tmpfs, "cam-1") as writer:
        for _ in range(6):
            writer.write(bytes(FRAME // 2))
        writer.write(bytes(3 * FRAME))
        assert writer.stats().arenas == 1


def test_a_read_only_file_system(tiny_tmpfs: Path) -> None:
    with ArenaReader(tiny_tmpfs) as reader, ArenaWriter(tiny_tmpfs, "cam-1") as writer:
        descriptor = writer.write(b"frame")
        with ArenaWriter(tiny_tmpfs, "cam-2") as second:
            lazy = subprocess.run(["mount", "-o", "remount,ro", tiny_tmpfs], capture_output=True, check=False)
            if lazy.returncode:  # a file is open for writing: then as a second mount of the same
                subprocess.run(["mount", "--bind", tiny_tmpfs, tiny_tmpfs], check=True)
                subprocess.run(["mount", "-o", "remount,bind,ro", tiny_tmpfs], check=True)
            assert refusal(lambda: second.write(b"frame")) is Reason.READ_ONLY
            assert bytes(reader.lease(descriptor).data) == b"frame"
            subprocess.run(["umount", "--lazy", tiny_tmpfs], check=True)


def test_no_permission_to_write(forbidden: Path) -> None:
    with ArenaWriter(forbidden, "cam-1") as writer:
        assert refusal(lambda: writer.write(b"frame")) is Reason.NO_PERMISSION


@pytest.fixture
def secret(directory: Path, writer: ArenaWriter) -> Descriptor:
    descriptor = writer.write(b"frame")
    (directory / descriptor.arena).chmod(0)
    return descriptor


def test_no_permission_to_read(secret: Descriptor, reader: ArenaReader, forbidden: Path) -> None:
    assert refusal(lambda: reader.lease(secret)) is Reason.NO_PERMISSION


def test_files_are_for_the_group_whatever_the_umask(directory: Path, writer: ArenaWriter) -> None:
    before = os.umask(0o077)
    try:
        assert (directory / writer.write(b"frame").arena).stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


def test_no_directory(tmp_path: Path, writer: ArenaWriter) -> None:
    with ArenaWriter(tmp_path / "none", "cam-1") as lost, ArenaReader(tmp_path / "none") as reader:
        assert refusal(lambda: lost.write(b"frame")) is Reason.NOT_FOUND
        assert refusal(lambda: reader.lease(writer.write(b"frame"))) is Reason.NOT_FOUND
        (tmp_path / "none").mkdir()
        with pytest.raises(StaleDescriptorError, match="gone"):
            reader.lease(writer.write(b"frame"))
        assert bytes(reader.lease(lost.write(b"frame")).data) == b"frame"


@pytest.mark.parametrize("spare", [0, 1])
def test_too_many_open_files(
    directory: Path, writer: ArenaWriter, reader: ArenaReader, limit: Limit, spare: int
) -> None:
    descriptor = writer.write(b"frame")
    free = os.dup(0)
    os.close(free)
    with limit(resource.RLIMIT_NOFILE, free + spare), ArenaWriter(directory, "cam-2") as other:
        assert refusal(lambda: other.write(b"frame")) is Reason.TOO_MANY_FILES
    assert os.dup(0) == free, "nothing was left open"
    os.close(free)
    with limit(resource.RLIMIT_NOFILE, free + spare):
        assert refusal(lambda: reader.lease(descriptor).data) is Reason.TOO_MANY_FILES
    assert bytes(reader.lease(descriptor).data) == b"frame"


def test_a_limit_of_file_sizes(directory: Path, limit: Limit) -> None:
    with limit(resource.RLIMIT_FSIZE, 100_000), ArenaWriter(directory, "cam-1") as writer:
        assert refusal(lambda: writer.write(b"frame")) is Reason.FILE_LIMIT
        assert not list(directory.iterdir())


def test_a_limit_of_address_space(directory: Path, writer: ArenaWriter, reader: ArenaReader, limit: Limit) -> None:
    descriptor = writer.acquire(64 << 20).commit()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    with limit(resource.RLIMIT_AS, pages * resource.getpagesize() + (32 << 20)):
        with ArenaWriter(directory, "cam-2") as other:
            assert refusal(lambda: other.acquire(64 << 20)) is Reason.NO_MEMORY
        lease = reader.lease(descriptor)
        assert refusal(lambda: lease.data) is Reason.NO_MEMORY
    assert len(lease.data) == 64 << 20
    assert [path.name for path in directory.iterdir()] == [descriptor.arena]


@pytest.mark.parametrize("number", [*errno.errorcode, 0])
def test_every_error_has_a_reason_and_advice(number: int) -> None:
    error = unavailable(number, "cannot share")
    assert isinstance(error.reason, Reason)
    assert str(error).startswith(f"cannot share: {os.strerror(number)}; frames go inline until mended: ")


def test_a_hoarder_leaves_the_writer_without_a_slot_and_unharmed(writer: ArenaWriter, reader: ArenaReader) -> None:
    hoard = [reader.lease(writer.write(bytes([number]))) for number in range(8)]
    for _ in range(5):
        with pytest.raises(NoFreeSlotError):
            writer.acquire(1)
    assert [lease.data[0] for lease in hoard] == list(range(8))

"""Section 11 of docs/wire.md is enough: a reader and a writer made from it alone get on with ours.

Nothing here uses supplierd.arena but for the other side of each test; numbers are those of the page.
"""

import fcntl
import mmap
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from supplierd.arena import ArenaReader, Descriptor, NoFreeSlotError, StaleDescriptorError, inspect
from supplierd.arena.writer import ArenaWriter

F_OFD_SETLK: Final = 37
FLOCK: Final = struct.Struct("@hhqqi0q")
FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}-[0-9a-f]{16}\.arena")


class Reference(NamedTuple):
    """What a frame message says in `arena`."""

    file: str
    slot: int
    generation: int
    offset: int
    size: int


def lock(fd: int, kind: int, byte: int) -> bool:
    """Take or drop a lock on one byte, without waiting."""
    try:
        fcntl.fcntl(fd, F_OFD_SETLK, FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True


@contextmanager
def held(directory: Path, reference: Reference) -> Iterator[bytes | None]:
    """The frame's bytes while they are held, as the page's reader gets them; None: stale."""
    name, slot, generation, offset, size = reference
    assert FILE_NAME.fullmatch(name)
    fd = os.open(directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        magic, version, reserved, slots, slot_size, slots_offset, _ = struct.unpack("<8sHHIQQI", os.pread(fd, 36, 0))
        assert (magic, version, reserved) == (b"SDARENA\0", 1, 0)
        assert 4 <= slots <= 1024
        assert slot_size % mmap.PAGESIZE == 0
        assert slots_offset == -(-(4096 + 8 * slots) // mmap.PAGESIZE) * mmap.PAGESIZE
        assert os.fstat(fd).st_size == slots_offset + slots * slot_size
        assert slot < slots
        assert offset == slots_offset + slot * slot_size
        assert 1 <= size <= slot_size
        assert generation
        assert generation % 2 == 0
        fresh = lock(fd, fcntl.F_RDLCK, 2 + 2 * slot) and (
            struct.unpack("=Q", os.pread(fd, 8, 4096 + 8 * slot)) == (generation,)
        )
        yield os.pread(fd, size, offset) if fresh else None
    finally:
        os.close(fd)


def test_a_reader_made_from_the_page(tmp_path: Path) -> None:
    with ArenaWriter(tmp_path, "cam-1", slots=4, spare=0) as writer:
        first = writer.write(b"first")
        with held(tmp_path, Reference(*first)) as data:
            assert data == b"first"
            others = [writer.write(b"%d" % i) for i in range(8)]  # the slot that is held is not used again
            assert first.slot not in {other.slot for other in others}
        with held(tmp_path, Reference(*others[-1])):
            assert writer.write(b"newer").slot == first.slot
        with held(tmp_path, Reference(*first)) as data:
            assert data is None


def test_leases_of_the_page_keep_a_slot(tmp_path: Path) -> None:
    with ArenaWriter(tmp_path, "cam-1", slots=4, spare=0) as writer:
        with (
            held(tmp_path, Reference(*writer.write(b"1"))),
            held(tmp_path, Reference(*writer.write(b"2"))),
            held(tmp_path, Reference(*writer.write(b"3"))),
            held(tmp_path, Reference(*writer.write(b"4"))),
            pytest.raises(NoFreeSlotError),
        ):
            writer.write(b"5")
        writer.write(b"5")


def test_a_writer_made_from_the_page(tmp_path: Path) -> None:
    slots, slot_size = 4, mmap.PAGESIZE
    slots_offset = -(-(4096 + 8 * slots) // mmap.PAGESIZE) * mmap.PAGESIZE
    name = "cam-1-0123456789abcdef.arena"
    fd = os.open(tmp_path, os.O_TMPFILE | os.O_RDWR, 0o640)
    try:
        os.ftruncate(fd, slots_offset + slots * slot_size)
        os.posix_fallocate(fd, 0, slots_offset)
        os.pwrite(fd, struct.pack("<8sHHIQQI", b"SDARENA\0", 1, 0, slots, slot_size, slots_offset, os.getpid()), 0)
        assert lock(fd, fcntl.F_WRLCK, 0)
        os.link(f"/proc/self/fd/{fd}", tmp_path / name, src_dir_fd=fd, follow_symlinks=True)
        slot = 2
        offset = slots_offset + slot * slot_size

        def publish(content: bytes, generation: int) -> Descriptor:
            assert lock(fd, fcntl.F_WRLCK, 2 + 2 * slot)
            os.posix_fallocate(fd, offset, slot_size)
            os.pwrite(fd, struct.pack("=Q", generation - 1), 4096 + 8 * slot)
            os.pwrite(fd, content, offset)
            os.pwrite(fd, struct.pack("=Q", generation), 4096 + 8 * slot)
            assert lock(fd, fcntl.F_UNLCK, 2 + 2 * slot)
            return Descriptor(name, slot, generation, offset, len(content))

        with ArenaReader(tmp_path) as reader:
            first = publish(b"first", 2)
            with reader.lease(first) as lease:
                assert bytes(lease.data) == b"first"
                assert not lock(fd, fcntl.F_WRLCK, 2 + 2 * slot)
            second = publish(b"second", 4)
            assert bytes(reader.lease(second).data) == b"second"
            with pytest.raises(StaleDescriptorError):
                reader.lease(first)
        info = inspect(tmp_path / name)
        assert (info.stream, info.living, info.slots) == ("cam-1", True, 4)
    finally:
        os.close(fd)
    assert not inspect(tmp_path / name).living

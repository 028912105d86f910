"""Descriptors and files that no writer of ours made are refused with a reason; nothing dies of them."""

import math
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supplierd.arena import (
    MAX_FRAME,
    MAX_SLOTS,
    MIN_SLOTS,
    ArenaReader,
    ArenaUnavailableError,
    Descriptor,
    Janitor,
    Reason,
    StaleDescriptorError,
    inspect,
)
from supplierd.arena.layout import TABLE_OFFSET, Header
from supplierd.arena.locks import LockFile
from supplierd.arena.writer import HEADROOM, ArenaWriter

NAME = "cam-1-0123456789abcdef.arena"
FORGED = Descriptor(NAME, 0, 2, Header.plan(4, 1).offset(0), 10)
in_one_directory = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200
)
integers = st.one_of(st.integers(-2, 10), st.integers(), st.sampled_from([2**31, 2**32, 2**63, 2**64]))


def forge(path: Path, header: bytes, size: int, generation: int = 2) -> None:
    with path.open("wb") as file:
        file.truncate(size)
        file.write(header)
        file.seek(TABLE_OFFSET)
        file.write(generation.to_bytes(8, "little"))


NAMES = ["", ".", "..", "/etc/passwd", f"../{NAME}", f"a/{NAME}", f"{NAME}\n", f"{NAME}\0", "cam-1.arena", f"é{NAME}"]
NAMES += [f"-{NAME}", f".{NAME}", NAME.upper(), "x" * 65 + NAME[5:]]


def link_to_an_arena(path: Path) -> None:
    header = Header.plan(4, 4096)
    (path.parent / "elsewhere").mkdir()
    forge(path.parent / "elsewhere" / NAME, header.pack(), header.file_size)
    path.symlink_to(path.parent / "elsewhere" / NAME)


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_elsewhere_are_refused(reader: ArenaReader, name: str) -> None:
    with pytest.raises(ArenaUnavailableError, match="expected the file name of an arena") as caught:
        reader.lease(FORGED._replace(arena=name))
    assert caught.value.reason is Reason.BAD_DESCRIPTOR


@in_one_directory
@given(numbers=st.tuples(integers, integers, integers, integers))
def test_any_descriptor_is_refused_or_stays_in_its_slot(
    writer: ArenaWriter, reader: ArenaReader, numbers: tuple[int, int, int, int]
) -> None:
    real = writer.write(b"frame")
    for wrong in (
        Descriptor(real.arena, *numbers),
        real._replace(size=numbers[0]),
        real._replace(generation=numbers[1]),
    ):
        with suppress(ArenaUnavailableError, StaleDescriptorError), reader.lease(wrong) as lease:
            assert wrong[:4] == real[:4]
            assert len(bytes(lease.data)) == wrong.size
    assert reader.leases_held == 0


@pytest.mark.parametrize(
    "change",
    [{"slot": 8}, {"slot": -1}, {"offset": 0}, {"size": 0}, {"size": 1 << 40}, {"generation": 3}, {"generation": 0}],
)
def test_descriptors_that_leave_their_slot_are_refused(
    writer: ArenaWriter, reader: ArenaReader, change: dict[str, int]
) -> None:
    with pytest.raises(ArenaUnavailableError, match="refused descriptor") as caught:
        reader.lease(writer.write(b"frame")._replace(**change))  # type: ignore[arg-type]
    assert caught.value.reason is Reason.BAD_DESCRIPTOR


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"x" * 50_000),
        lambda path: path.mkdir(),
        os.mkfifo,
        link_to_an_arena,
        lambda path: forge(path, Header.plan(4, 4096).pack(), 10_000),
        lambda path: forge(path, Header.plan(4, 4096).pack()[:20], Header.plan(4, 4096).file_size),
        lambda path: forge(path, Header(4, 4096, 4096, 1).pack(), 5 * 4096),
        lambda path: forge(path, Header(4, 1000, 8192, 1).pack(), 8192 + 4000),
        lambda path: forge(path, Header(3, 4096, 8192, 1).pack(), 5 * 4096),
    ],
    ids=["empty", "garbage", "directory", "pipe", "link", "cut", "half a header", "table", "odd slots", "few slots"],
)
def test_files_that_are_no_arena_are_refused(
    reader: ArenaReader, directory: Path, make: Callable[[Path], object]
) -> None:
    make(directory / NAME)
    with pytest.raises(ArenaUnavailableError, match="inline") as caught:
        reader.lease(FORGED)
    assert caught.value.reason is Reason.BAD_ARENA
    assert not Janitor(directory).sweep(math.inf)
    assert os.path.lexists(directory / NAME), "what is not ours is left alone"


@given(claims=st.tuples(integers, integers, integers), size=integers, honest=st.booleans())
def test_no_header_is_believed_that_leads_out_of_its_file(
    claims: tuple[int, int, int], size: int, honest: bool
) -> None:
    slots, slot_size, slots_offset = (value % 2**bits for value, bits in zip(claims, (32, 64, 64), strict=True))
    header = Header.plan(slots, slot_size) if honest else Header(slots, slot_size, slots_offset, 1)
    file_size = header.file_size if honest else size
    with suppress(ArenaUnavailableError, struct.error):
        found = Header.parse(header.pack(), file_size)
        assert TABLE_OFFSET + 8 * found.slots <= found.slots_offset
        assert found.offset(found.slots - 1) + found.slot_size <= file_size


def test_what_a_writer_makes_for_the_largest_frame_is_read() -> None:
    header = Header.plan(MAX_SLOTS, MAX_FRAME * HEADROOM)
    assert Header.parse(header.pack(), header.file_size) == header
    beyond = Header.plan(MIN_SLOTS, MAX_FRAME * HEADROOM + 1)
    with pytest.raises(ArenaUnavailableError, match="expected at most"):
        Header.parse(beyond.pack(), beyond.file_size)


@in_one_directory
@given(start=st.binary(max_size=36), size=st.integers(0, 1 << 18))
def test_a_damaged_header_is_refused_or_harmless(directory: Path, start: bytes, size: int) -> None:
    header = Header.plan(4, 4096)
    for length in (size, header.file_size):
        forge(directory / NAME, start + header.pack()[len(start) :], length)
        with ArenaReader(directory) as reader, suppress(ArenaUnavailableError, StaleDescriptorError):
            assert bytes(reader.lease(FORGED).data) == bytes(10)


def test_the_smallest_forged_arena_that_is_right_is_readable(directory: Path, reader: ArenaReader) -> None:
    header = Header.plan(4, 4096)
    forge(directory / NAME, header.pack(), header.file_size)
    assert bytes(reader.lease(FORGED).data) == bytes(10)
    assert not inspect(directory / NAME).living


def test_a_hole_in_a_full_tmpfs_is_an_error_and_not_a_bus_error(tiny_tmpfs: Path) -> None:
    header = Header.plan(4, 1 << 20)
    forge(tiny_tmpfs / NAME, header.pack(), header.file_size)
    with (tiny_tmpfs / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    with ArenaReader(tiny_tmpfs) as reader:
        lease = reader.lease(FORGED._replace(size=1 << 20))
        with pytest.raises(ArenaUnavailableError, match="lacks memory") as caught:
            lease.as_array(np.uint8, (1 << 20,))
        assert caught.value.reason is Reason.BAD_ARENA


def test_a_file_cut_short_while_leased_harms_nobody_who_has_not_mapped_it(directory: Path, reader: ArenaReader) -> None:
    header = Header.plan(4, 4096)
    forge(directory / NAME, header.pack(), header.file_size)
    lease = reader.lease(FORGED)
    os.truncate(directory / NAME, 4096)
    with pytest.raises(ArenaUnavailableError, match="cannot read a frame") as caught:
        lease.read_into(bytearray(10))
    assert caught.value.reason is Reason.BAD_ARENA
    with pytest.raises(StaleDescriptorError):
        reader.lease(FORGED)


def test_dead_arenas_are_removed_a_few_at_a_time(directory: Path) -> None:
    header = Header.plan(4, 4096)
    dead = [directory / f"cam-{number}-0123456789abcdef.arena" for number in range(5)]
    for path in dead:
        forge(path, header.pack(), header.file_size)
    for number in range(3):
        (directory / f"none-{number}-0123456789abcdef.arena").write_bytes(b"")
    janitor = Janitor(directory)
    with ArenaWriter(directory, "living") as writer:
        removed = [janitor.sweep(0.0) for _ in range(20)]
        assert writer.write(b"frame")
    assert max(map(len, removed)) == 1
    assert sorted(name for names in removed for name in names) == sorted(path.name for path in dead)
    forge(dead[0], header.pack(), header.file_size)
    assert janitor.sweep(0.0) + janitor.sweep(60.0) + janitor.sweep(60.0) == [dead[0].name]


def test_a_reader_cannot_pass_for_an_owner(directory: Path) -> None:
    header = Header.plan(4, 4096)
    forge(directory / NAME, header.pack(), header.file_size)
    locks = LockFile(os.open(directory / NAME, os.O_RDONLY))
    assert locks.try_read(-1), "the byte of the life lock"
    assert locks.try_read(2)
    with pytest.raises(OSError, match="Bad file descriptor"):
        locks.hold_life()
    info = inspect(directory / NAME)
    assert (info.living, info.free, info.leased) == (False, 3, 1)
    assert Janitor(directory).sweep(math.inf) == [NAME]

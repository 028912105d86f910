"""The writer: which slot it takes, how much memory that costs, and how loans and moves end."""

import gc
import time
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from supplierd.arena import (
    MAX_FRAME,
    ArenaClosedError,
    ArenaReader,
    NoFreeSlotError,
    StaleDescriptorError,
    pool,
    usual,
)
from supplierd.arena import writer as writer_module
from supplierd.arena.locks import LockFile
from supplierd.arena.writer import KEEP_WARM, LOOK_EVERY, SPARED, TRIM_EVERY, ArenaWriter
from tests.support.twins import in_python

FRAME = 1 << 20


def taken(directory: Path) -> int:
    """Frames' worth of memory that the file really has."""
    return sum(path.stat().st_blocks * 512 for path in directory.iterdir()) // FRAME


def test_fast_readers_are_served_by_a_few_warm_slots(writer: ArenaWriter, directory: Path) -> None:
    slots = {writer.acquire(FRAME).commit().slot for _ in range(200)}
    assert len(slots) == SPARED + 1
    assert taken(directory) == SPARED + 1
    assert writer.stats().bytes // FRAME == SPARED + 1


def test_memory_follows_the_frames_really_held(directory: Path) -> None:
    """It grows with the frames held, stays while they change hands, and goes back when they are let go."""
    with ArenaWriter(directory, "cam-1") as writer, ArenaReader(directory) as reader:
        held = deque(reader.lease(writer.acquire(FRAME).commit()) for _ in range(20))
        assert taken(directory) == 20
        for _ in range(100):
            held.append(reader.lease(writer.acquire(FRAME).commit()))
            held.popleft()
        assert taken(directory) <= 20 + SPARED
        assert writer.stats().leased == 20
        held.clear()
        for _ in range(KEEP_WARM + 21 * TRIM_EVERY):
            writer.acquire(FRAME).commit()
        assert taken(directory) == SPARED + 1


@pytest.mark.parametrize("held", [0, 1, 64])
def test_a_free_slot_is_found_with_few_tries(directory: Path, monkeypatch: pytest.MonkeyPatch, held: int) -> None:
    tries = 0
    lock = LockFile.try_write

    def counted(locks: LockFile, slot: int) -> bool:
        nonlocal tries
        tries += 1
        return lock(locks, slot)

    monkeypatch.setattr(LockFile, "try_write", counted)
    monkeypatch.setattr(writer_module, "usual", in_python(usual))  # in C a lock is tried without it
    with ArenaWriter(directory, "cam-1") as writer, ArenaReader(directory) as reader:
        leases = deque(reader.lease(writer.acquire(1000).commit()) for _ in range(held))
        frames = 3 * KEEP_WARM
        for frame in range(-100, frames):
            if frame == 0:
                tries = 0
            leases.append(reader.lease(writer.acquire(1000).commit()))
            leases.popleft()
        reviews = frames // TRIM_EVERY
        assert frames <= tries <= 2 * frames + reviews * held


def test_a_slot_whose_memory_was_given_back_is_stale_and_usable(writer: ArenaWriter, reader: ArenaReader) -> None:
    descriptors = [writer.acquire(FRAME).commit() for _ in range(SPARED + 1)]
    lease = reader.lease(descriptors[0])
    for _ in range(10):
        writer.acquire(FRAME).commit()
    lease.release()
    for _ in range(KEEP_WARM + 2 * TRIM_EVERY):
        writer.acquire(FRAME).commit()
    for descriptor in descriptors:
        with pytest.raises(StaleDescriptorError):
            reader.lease(descriptor)
    held = [reader.lease(writer.write(bytes([number]) * FRAME)) for number in range(5)]
    assert [lease.data[FRAME - 1] for lease in held] == [0, 1, 2, 3, 4]


def test_the_newest_frames_are_spared(writer: ArenaWriter, reader: ArenaReader) -> None:
    descriptors: deque[tuple[int, object]] = deque(maxlen=SPARED)
    for number in range(50):
        slot = writer.acquire(10)
        for expected, descriptor in descriptors:
            assert reader.lease(descriptor).data[0] == expected  # type: ignore[arg-type]
        slot.memory[0] = number
        descriptors.append((number, slot.commit()))


def test_no_free_slot(writer: ArenaWriter, reader: ArenaReader) -> None:
    held = [reader.lease(writer.write(b"frame")) for _ in range(8)]
    with pytest.raises(NoFreeSlotError, match=r"all 8 slots .* inline"):
        writer.write(b"frame")
    assert writer.stats()[:5] == (1, 8, 0, 8, 0)
    held.pop(0).release()
    assert bytes(reader.lease(writer.write(b"new")).data) == b"new"


def test_a_loan_is_written_in_place(writer: ArenaWriter, reader: ArenaReader) -> None:
    slot = writer.acquire(24)
    slot.as_array(np.int32, (2, 3))[:] = 5
    assert writer.stats().writing == 1
    with reader.lease(slot.commit()) as lease:
        assert (lease.as_array(np.int32, (2, 3)) == 5).all()
    with pytest.raises(ArenaClosedError, match="acquire another"):
        slot.commit()
    with pytest.raises(ArenaClosedError):
        _ = slot.memory


def test_less_than_acquired_can_be_committed(writer: ArenaWriter, reader: ArenaReader) -> None:
    slot = writer.acquire(100)
    slot.memory[:3] = b"abc"
    for wrong in (0, 101, -1):
        with pytest.raises(ValueError, match="expected 1 to 100"):
            slot.commit(wrong)
    assert bytes(reader.lease(slot.commit(3)).data) == b"abc"


def test_abandoned_and_forgotten_loans_come_back(writer: ArenaWriter) -> None:
    slot = writer.acquire(10)
    index = slot._index
    slot.abandon()
    slot.abandon()
    assert writer.stats().writing == 0
    ring: list[object] = [writer.acquire(10)]
    ring.append(ring)
    assert writer.stats().writing == 1
    del ring
    gc.collect()
    assert writer.stats().writing == 0
    assert writer.acquire(10)._index == index, "the warm slot is taken again"


def test_an_array_of_an_abandoned_loan_keeps_its_slot(writer: ArenaWriter) -> None:
    slot = writer.acquire(10)
    array = slot.bytes()[2:]
    slot.abandon()
    assert writer.stats().writing == 1
    array[:] = 1
    del array
    assert writer.stats().writing == 0


def test_an_array_of_a_committed_loan_outlives_the_writer(directory: Path) -> None:
    with ArenaWriter(directory, "cam-1") as writer:
        slot = writer.acquire(FRAME)
        array = slot.bytes()
        slot.commit()
    del slot, writer
    gc.collect()
    array[:] = 3
    assert array[-1] == 3


def test_larger_frames_move_to_a_new_arena(writer: ArenaWriter, reader: ArenaReader, directory: Path) -> None:
    small = [writer.write(bytes([number]) * 1000) for number in range(SPARED)]
    held = reader.lease(small[0])
    large = writer.write(b"\7" * FRAME)
    assert large.arena != small[0].arena
    assert reader.lease(large).data[-1] == 7
    assert [reader.lease(each).data[0] for each in small] == [0, 1, 2], "those under way can still be read"
    while len(list(directory.iterdir())) > 1:
        large = writer.write(b"\7" * FRAME)
    assert writer.stats().arenas == 1
    assert reader.lease(large).data[0] == 7
    assert held.data[0] == 0
    with pytest.raises(StaleDescriptorError, match="gone"):
        reader.lease(small[-1])


def test_a_loan_from_before_a_move_can_be_committed(writer: ArenaWriter, reader: ArenaReader) -> None:
    slot = writer.acquire(4)
    for _ in range(10):
        writer.acquire(FRAME).commit()
    assert writer.stats().arenas == 2
    slot.memory[:] = b"late"
    assert bytes(reader.lease(slot.commit()).data) == b"late"
    for _ in range(SPARED):
        writer.acquire(FRAME).commit()
    assert writer.stats().arenas == 1


def test_much_smaller_frames_move_to_a_smaller_arena(writer: ArenaWriter, directory: Path) -> None:
    before = writer.acquire(FRAME).commit().arena
    after = {writer.acquire(1000).commit().arena for _ in range(2 * KEEP_WARM + SPARED)}
    assert len(after) == 2
    assert before not in {path.name for path in directory.iterdir()}
    assert taken(directory) == 0


def test_frames_of_changing_size_stay_where_they_are(writer: ArenaWriter) -> None:
    sizes = np.random.default_rng(1).integers(30_000, 200_000, 600)
    assert len({writer.acquire(int(size)).commit().arena for size in sizes}) == 1


def test_a_file_that_somebody_removed_is_replaced(
    writer: ArenaWriter, reader: ArenaReader, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within LOOK_EVERY seconds; who has it open reads on until then."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    held = reader.lease(writer.write(b"frame"))
    for path in directory.iterdir():
        path.unlink()
    now += LOOK_EVERY - 0.01
    last = writer.write(b"still")
    assert last.arena == held.descriptor.arena
    assert bytes(reader.lease(last).data) == b"still"
    now += 0.01
    with ArenaReader(directory) as newcomer:
        assert bytes(newcomer.lease(writer.write(b"again")).data) == b"again"


def test_stored_arrays_of_changing_kinds(writer: ArenaWriter, reader: ArenaReader) -> None:
    """A slot takes now this shape and dtype, now that, of any layout."""
    picture = np.arange(24, dtype=np.uint16).reshape(4, 6)
    arrays = [picture, picture + 1, picture.astype(">u2"), picture.T, picture[:, ::-2], picture.view(np.uint8)]
    for array in arrays * 4:
        descriptor = writer.store(array)
        assert descriptor.size == array.nbytes
        assert bytes(reader.lease(descriptor).data) == array.tobytes()


def test_objects_are_not_stored(writer: ArenaWriter) -> None:
    with pytest.raises(ValueError, match="Python objects"):
        writer.store(np.array([None, "text"], object))
    assert writer.stats()[:5] == (1, 8, 8, 0, 0)


def test_a_slot_that_cannot_be_filled_comes_back(writer: ArenaWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.zeros(10, np.uint8)
    before = writer.store(array)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pool, "np", SimpleNamespace(ndarray=interrupted))
        with pytest.raises(KeyboardInterrupt):
            writer.store(array)
    assert writer.stats().writing == 0
    assert writer.stats().free == 8
    assert writer.store(array).arena == before.arena


def test_close_removes_the_files(writer: ArenaWriter, directory: Path) -> None:
    writer.write(b"frame")
    slot = writer.acquire(10)
    writer.close()
    writer.close()
    assert not list(directory.iterdir())
    for use in (lambda: writer.acquire(1), writer.stats, slot.commit):
        with pytest.raises(ArenaClosedError):
            use()


def test_a_forgotten_writer_removes_its_files(directory: Path) -> None:
    ArenaWriter(directory, "cam-1").write(b"frame")
    gc.collect()
    assert not list(directory.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stream": "a/b"}, "cannot name an arena"),
        ({"stream": ""}, "cannot name an arena"),
        ({"slots": 3}, "expected 4 to 1024"),
        ({"slots": 1025}, "expected 4 to 1024"),
        ({"slots": 4, "spare": 4}, "expected 0 to 3"),
    ],
)
def test_impossible_writers(directory: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ArenaWriter(directory, **{"stream": "cam-1", **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, -1, MAX_FRAME + 1, 1 << 70])
def test_impossible_sizes(writer: ArenaWriter, size: int) -> None:
    with pytest.raises(ValueError, match="expected 1 to"):
        writer.acquire(size)

"""Leases: only the very frame that was named, read-only, and unchanged for as long as anybody can see it."""

import gc
import threading
from pathlib import Path

import numpy as np
import pytest

from supplierd.arena import ArenaClosedError, ArenaReader, Descriptor, Lease, StaleDescriptorError, holding
from supplierd.arena.locks import LockFile
from supplierd.arena.writer import ArenaWriter


def array_of(lease: Lease) -> np.ndarray:
    return lease.as_array(np.uint8, (lease.descriptor.size,))


def test_a_frame_arrives_as_it_was_written(writer: ArenaWriter, reader: ArenaReader) -> None:
    image = np.arange(2 * 30 * 40, dtype=np.uint16).reshape(30, 40, 2)
    with reader.lease(writer.write(image)) as lease:
        assert (lease.as_array("<u2", (30, 40, 2)) == image).all()
        assert bytes(lease.data) == image.tobytes()
        assert lease.data.readonly


def test_a_frame_can_be_copied_without_mapping_it(writer: ArenaWriter, reader: ArenaReader, directory: Path) -> None:
    message = bytearray(b"head.....")
    with reader.lease(writer.write(b"frame")) as lease:
        lease.read_into(memoryview(message)[4:])
        with pytest.raises(ValueError, match="5 bytes cannot be copied into 4"):
            lease.read_into(bytearray(4))
    assert message == b"headframe"
    assert f"{directory.name}/cam-1-" not in Path("/proc/self/maps").read_text()
    with pytest.raises(ArenaClosedError):
        lease.read_into(message)


def test_parts_and_strided_arrays_are_joined(writer: ArenaWriter, reader: ArenaReader) -> None:
    image = np.arange(60, dtype=np.float64).reshape(6, 10)[::2, ::-1]
    with reader.lease(writer.write(b"abc", bytearray(b"d"), b"", image, memoryview(b"xyz"))) as lease:
        assert bytes(lease.data) == b"abcd" + image.tobytes() + b"xyz"


def test_a_replaced_frame_is_stale(writer: ArenaWriter, reader: ArenaReader) -> None:
    first = writer.write(b"first")
    while writer.write(b"later").slot != first.slot:
        pass
    with pytest.raises(StaleDescriptorError, match="newer frame"):
        reader.lease(first)
    assert reader.leases_held == 0
    assert writer.stats().leased == 0


@pytest.mark.skipif(holding.__file__.endswith(".so"), reason="the lock is taken in C, and nothing comes between")
def test_a_frame_replaced_just_before_the_lock_is_stale(
    writer: ArenaWriter, reader: ArenaReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = writer.write(b"first")
    lock = LockFile.try_read

    def late(locks: LockFile, slot: int) -> bool:
        while writer.write(b"later").slot != first.slot:
            pass
        return lock(locks, slot)

    monkeypatch.setattr(LockFile, "try_read", late)
    with pytest.raises(StaleDescriptorError):
        reader.lease(first)
    assert writer.stats().leased == 0


def test_a_frame_being_replaced_is_stale(writer: ArenaWriter, reader: ArenaReader) -> None:
    descriptors: dict[int, Descriptor] = {}
    slot = writer.acquire(5)
    while (descriptor := slot.commit()).slot not in descriptors:
        descriptors[descriptor.slot] = descriptor
        slot = writer.acquire(5)
    writing = writer.acquire(5)
    stale = next(descriptor for descriptor in descriptors.values() if descriptor.slot == writing._index)
    with pytest.raises(StaleDescriptorError):
        reader.lease(stale)


def test_views_prolong_a_lease(writer: ArenaWriter, reader: ArenaReader) -> None:
    lease = reader.lease(writer.write(bytes(range(200))))
    view = array_of(lease).reshape(10, 20)[3:5, ::2]
    memory = memoryview(lease.data)[7:9]
    lease.release()
    lease.release()
    assert reader.leases_held == 1
    assert writer.stats().leased == 1
    assert view[0, 0] == 60
    del view
    assert reader.leases_held == 1
    assert bytes(memory) == b"\x07\x08"
    memory.release()
    assert reader.leases_held == 0
    assert writer.stats().leased == 0
    with pytest.raises(ArenaClosedError, match="released"):
        _ = lease.data


def test_a_held_frame_never_changes(writer: ArenaWriter, reader: ArenaReader) -> None:
    held = [array_of(reader.lease(writer.write(bytes([number]) * 5000))) for number in range(4)]
    for number in range(100):
        writer.write(bytes([100 + number]) * 5000)
    assert [set(array.tolist()) for array in held] == [{number} for number in range(4)]


def test_leases_of_one_slot_are_counted(writer: ArenaWriter, reader: ArenaReader) -> None:
    descriptor = writer.write(b"frame")
    leases = [reader.lease(descriptor) for _ in range(3)]
    assert reader.leases_held == 3
    while leases:
        assert writer.stats().leased == 1
        leases.pop().release()
    assert writer.stats().leased == 0


def test_a_lost_lease_ends_with_its_garbage(writer: ArenaWriter, reader: ArenaReader) -> None:
    ring: list[object] = [array_of(reader.lease(writer.write(b"frame")))]
    ring.append(ring)
    assert reader.leases_held == 1
    del ring
    gc.collect()
    assert reader.leases_held == 0
    assert writer.stats().leased == 0


def test_frames_are_read_only(writer: ArenaWriter, reader: ArenaReader) -> None:
    lease = reader.lease(writer.write(bytes(64)))
    array = lease.as_array(np.uint8, (8, 8))
    for each in (array, array[1:], array.view(np.uint16), np.asarray(lease.data)):
        with pytest.raises(ValueError, match="read-only"):
            each[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            each.setflags(write=True)
    with pytest.raises(TypeError):
        lease.data[0] = 1


def test_bytes_never_become_objects_or_another_size(writer: ArenaWriter, reader: ArenaReader) -> None:
    lease = reader.lease(writer.write(bytes(64)))
    with pytest.raises(TypeError):
        lease.as_array(object, (8,))
    with pytest.raises(ValueError, match="reshape"):
        lease.as_array(np.uint8, (8, 9))
    with pytest.raises(ValueError, match="Python objects"):
        writer.write(np.array([object()]))


def test_frames_outlive_reader_writer_and_file(directory: Path) -> None:
    with ArenaWriter(directory, "cam-1") as writer, ArenaReader(directory) as reader:
        array = array_of(reader.lease(writer.write(b"\5" * 10_000)))
    del writer, reader
    assert not list(directory.iterdir())
    assert set(array.tolist()) == {5}


def test_a_closed_reader_says_so(writer: ArenaWriter, reader: ArenaReader) -> None:
    lease = reader.lease(writer.write(b"frame"))
    reader.close()
    reader.close()
    assert bytes(lease.data) == b"frame"
    with pytest.raises(ArenaClosedError, match="make a new one"):
        reader.lease(lease.descriptor)
    lease.release()
    assert writer.stats().leased == 0


def test_a_reader_lets_go_of_old_arenas(directory: Path, reader: ArenaReader) -> None:
    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count(f"{directory.name}/cam-1-")

    for number in range(3):
        with ArenaWriter(directory, "cam-1") as writer:
            assert reader.lease(writer.write(bytes([number]))).data[0] == number
            assert mapped() == 1, "the writer maps its file before that has a name"
        del writer
    reader.prune()
    assert mapped() == 0


def test_threads_and_finalisers_at_any_moment_keep_the_count(directory: Path) -> None:
    """Every allocation may run a finaliser, in the middle of any line of any thread."""
    reader, writer = ArenaReader(directory), ArenaWriter(directory, "cam-1", slots=16)
    descriptors = [writer.write(bytes([number]) * 100) for number in range(3)]
    wrong: list[object] = []

    def churn() -> None:
        for turn in range(400):
            descriptor = descriptors[turn % 3]
            ring: list[object] = [array_of(reader.lease(descriptor)), reader.lease(descriptor)]
            ring.append(ring)
            if reader.lease(descriptor).data[0] != descriptor.slot:
                wrong.append(descriptor)

    before = gc.get_threshold()
    gc.set_threshold(5)
    try:
        threads = [threading.Thread(target=churn) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert not wrong
    assert reader.leases_held == 0
    assert writer.stats().leased == 0
    writer.close()

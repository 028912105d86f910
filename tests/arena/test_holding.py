"""Holds, in Python and, where it is compiled, in C: both must say the same of any place, and keep the same counts."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supplierd.arena import holding
from supplierd.arena.arrays import UINT8
from supplierd.arena.layout import Place, open_arena
from supplierd.arena.locks import LockFile
from supplierd.arena.memory import Mapping
from supplierd.arena.writer import ArenaWriter
from tests.support.twins import both, is_compiled

SLOTS = 6
SIZE = 5000
COMPILED = is_compiled(holding)

MODULES = both(holding)
every_module = pytest.mark.parametrize("module", MODULES)


class Reading:
    """One arena of a writer, opened with the holds of a module."""

    def __init__(self, module: Any, directory: Path) -> None:
        self.writer = ArenaWriter(directory, "cam-1", slots=SLOTS, spare=0)
        loans = [self.writer.acquire(SIZE) for _ in range(3)]
        for number, loan in enumerate(loans):
            loan.bytes()[:] = number
        self.frames = [loan.commit() for loan in loans]
        fd, header = open_arena(directory / self.frames[0].arena)
        self.locks = LockFile(fd)
        self.tally = module.Tally()
        self.slots = module.Slots(self.tally, self.locks, header)
        self.module = module

    def show(self) -> None:
        """Have all frames in memory."""
        mapping = Mapping(self.locks.fd, self.slots.header.file_size)
        for frame in self.frames:
            self.slots.show(mapping, frame.slot, frame.size)

    def array(self, place: Place, shape: tuple[int, ...] = (SIZE,)) -> Any:
        return self.slots.array(place, UINT8, shape)

    @property
    def locked(self) -> int:
        return self.writer.stats().leased


@pytest.fixture
def reading(module: Any, directory: Path) -> Reading:
    return Reading(module, directory)


@pytest.fixture
def pair(directory: Path) -> list[Reading]:
    """One for each implementation, with frames of its own in memory."""
    pair = [Reading(parameter.values[0], directory) for parameter in MODULES]
    for reading in pair:
        reading.show()
    return pair


@every_module
def test_a_hold_lasts_as_long_as_any_view(reading: Reading) -> None:
    reading.show()
    array = reading.array(reading.frames[1])
    view = memoryview(array[10:20])
    del array
    assert (bytes(view), reading.tally.held, reading.locked) == (b"\1" * 10, 1, 1)
    assert view.readonly
    view.release()
    assert (reading.tally.held, reading.locked) == (0, 0)


@every_module
def test_what_is_not_shown_or_held_already_goes_another_way(reading: Reading) -> None:
    frame, other, _ = reading.frames
    assert reading.array(frame) is None
    reading.show()
    array = reading.array(frame)
    assert reading.array(frame) is None, "a second hold is counted on the general way"
    assert reading.slots.take(frame.slot, frame.generation)
    second = reading.slots.view(frame.slot, SIZE, UINT8, (50, 100))
    assert (second == array.reshape(50, 100)).all()
    assert (reading.tally.held, reading.locked) == (2, 1)
    del array
    assert (reading.tally.held, reading.locked) == (1, 1)
    assert not reading.slots.take(other.slot, other.generation + 2)
    del second
    assert (reading.tally.held, reading.locked) == (0, 0)


@every_module
@pytest.mark.parametrize("shape", [(SIZE - 1,), (2, SIZE), (SIZE + 1,), (-2,), ()])
def test_a_shape_of_another_size_is_refused_and_nothing_is_held(reading: Reading, shape: tuple[int, ...]) -> None:
    reading.show()
    frame = reading.frames[2]
    with pytest.raises((ValueError, TypeError)):
        reading.array(frame, shape)
    assert (reading.tally.held, reading.locked) == (0, 0)
    assert reading.slots.take(frame.slot, frame.generation)
    with pytest.raises((ValueError, TypeError)):
        reading.slots.view(frame.slot, SIZE, UINT8, shape)
    assert (reading.tally.held, reading.locked) == (0, 0)


@pytest.mark.skipif(not COMPILED, reason="in Python its base is an array, which copies itself")
def test_a_hold_cannot_be_copied(directory: Path) -> None:
    """A copy would be a hold that nobody counted."""
    reading = Reading(holding, directory)
    reading.show()
    hold = reading.array(reading.frames[0]).base
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot pickle"):
            attempt(hold)


@every_module
def test_a_slot_that_is_being_written_cannot_be_had(reading: Reading) -> None:
    reading.show()
    before = {frame.slot: frame for frame in reading.frames}
    loans = [reading.writer.acquire(SIZE) for _ in range(SLOTS - 2)]
    frame = next(before[loan._index] for loan in loans if loan._index in before)
    assert reading.array(frame) is None
    assert not reading.slots.take(frame.slot, frame.generation)
    assert reading.tally.held == 0


@every_module
def test_an_error_that_is_being_raised_survives_the_end_of_a_hold(reading: Reading) -> None:
    """Also where the file is closed, as in a forked child."""
    reading.show()
    for closed in (False, True):
        array = reading.array(reading.frames[0])
        if closed:
            reading.locks.close()
        with pytest.raises(KeyError, match="mine"):
            _raise_holding([array])
        del array
        assert reading.tally.held == 0


def _raise_holding(arrays: list[Any]) -> None:
    keep = arrays.pop()
    if keep is not None:
        raise KeyError("mine")


@every_module
def test_numbers_of_slots_are_checked(reading: Reading) -> None:
    for slot in (-SLOTS - 1, SLOTS):
        for call in (reading.slots.take, reading.slots.view):
            with pytest.raises((IndexError, AssertionError)):
                call(*((slot, 2) if call == reading.slots.take else (slot, SIZE, UINT8, (SIZE,))))


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled here: there is one implementation")
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    frame=st.integers(0, 2),
    changes=st.dictionaries(
        st.integers(1, 4),
        st.one_of(st.integers(-3, 8), st.integers(-(1 << 66), 1 << 66), st.sampled_from([1 << 63, (1 << 64) - 2])),
    ),
    add=st.booleans(),
)
def test_both_say_the_same_of_any_place(pair: list[Reading], frame: int, changes: dict[int, int], add: bool) -> None:
    """Whatever a publisher or a daemon may claim: only the frame itself can be had."""
    answers = []
    for reading in pair:
        place: list[Any] = list(reading.frames[frame])
        for item, value in changes.items():
            place[item] = place[item] + value if add else value
        array = reading.array(tuple(place), (SIZE,) if not 0 < place[4] < 2 * SIZE else (place[4],))
        assert array is not None or tuple(place) != tuple(reading.frames[frame])
        answers.append(None if array is None else array.tolist())
        del array
        assert reading.tally.held == 0
    assert answers[0] == answers[1]

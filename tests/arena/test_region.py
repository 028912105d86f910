"""A lent slot's memory, in Python and, where it is compiled, in C: who sees it, and when its end is told."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supplierd.arena import region
from supplierd.arena.memory import Mapping
from tests.support.twins import both

SIZE = 4096
PART = 100

every_module = pytest.mark.parametrize("module", both(region))


@pytest.fixture
def mapping(tmp_path: Path) -> Iterator[Mapping]:
    path = tmp_path / "file"
    path.write_bytes(bytes(SIZE))
    with path.open("r+b") as file:
        yield Mapping(file.fileno(), SIZE, writable=True)


@every_module
def test_its_arrays_are_the_memory(module: Any, mapping: Mapping) -> None:
    array = module.Region(print, 0, mapping, 8, PART).array(np.uint16, (5, 10))
    assert (array.dtype, array.shape) == (np.dtype(np.uint16), (5, 10))
    assert array.flags.writeable
    array[4, 9] = 0x0102
    assert bytes(mapping.buffer[8 : 8 + PART]) == bytes(PART - 2) + b"\x02\x01"
    assert mapping.buffer[8 + PART] == 0


@every_module
def test_its_end_is_told_once_when_nobody_sees_it(module: Any, mapping: Mapping) -> None:
    told: list[str] = []
    lent = module.Region(told.append, "it", mapping, 0, PART)
    array = lent.array(np.uint8, (PART,))
    view = array.view()[10:20].reshape(2, 5)
    del lent
    assert told == []
    del array
    assert told == []
    memory = view.data
    del view
    assert told == []
    del memory
    assert told == ["it"]


@every_module
def test_a_disarmed_one_tells_nothing(module: Any, mapping: Mapping) -> None:
    told: list[str] = []
    lent = module.Region(told.append, "it", mapping, 0, PART)
    array = lent.array(np.uint8, (PART,))
    lent.disarm()
    del lent, array
    assert told == []


@every_module
def test_it_keeps_the_memory(module: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(SIZE))
    with (tmp_path / "file").open("r+b") as file:
        array = module.Region(print, 0, Mapping(file.fileno(), SIZE, writable=True), 0, PART).array(np.uint8, (PART,))
    gc.collect()
    array[:] = 7
    assert array.sum() == 7 * PART


@every_module
@pytest.mark.parametrize("dtype", [object, [("number", "<u4"), ("object", "O")]], ids=["object", "record"])
def test_bytes_never_become_objects(module: Any, mapping: Mapping, dtype: Any) -> None:
    with pytest.raises(TypeError):
        module.Region(print, 0, mapping, 0, 96).array(dtype, (96 // np.dtype(dtype).itemsize,))


@every_module
@pytest.mark.parametrize("shape", [(-1,), (-1, 10), (-10, -10)])
def test_no_dimension_is_left_to_be_found(module: Any, mapping: Mapping, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="not one of 100 bytes"):
        module.Region(print, 0, mapping, 0, PART).array(np.uint8, shape)


@every_module
@pytest.mark.parametrize(
    ("dtype", "shape"), [(np.uint8, (PART - 1,)), (np.uint8, (PART + 1,)), (np.uint16, (PART,)), (np.uint64, (13,))]
)
def test_arrays_of_another_size_are_refused(module: Any, mapping: Mapping, dtype: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises((ValueError, TypeError)):
        module.Region(print, 0, mapping, 0, PART).array(dtype, shape)

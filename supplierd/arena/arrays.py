"""Arrays of mapped memory, and how they tell that they are gone.

A `Root` is the base of every array and view of one frame. CPython frees it with the last of them, and at that moment
whatever it keeps calls back: so a lock can last exactly as long as somebody can see the frame, without a sweep or a
weak reference.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .memory import Mapping

UINT8: Final = np.dtype(np.uint8)


class Root(np.ndarray[tuple[int, ...], np.dtype[Any]]):
    """What all arrays and views of one frame have as their base: NumPy does not look through it to the memory below, as
    it is of another type than they are. So it lives as long as any of them, and keeps its `owner` alive."""

    __slots__ = ("owner",)
    owner: object


def rooted(owner: object, mapping: Mapping, offset: int, size: int) -> npt.NDArray[np.uint8]:
    """Bytes of a mapping as an array, which keeps the owner alive, as does all that is derived from that."""
    root = Root((size,), UINT8, mapping.buffer, offset)
    root.owner = owner
    return root.view(np.ndarray)


def plain_array(part: object) -> npt.NDArray[np.generic]:
    """An array of any layout as it is, any other contiguous buffer as its bytes, without a copy.

    Raises TypeError or ValueError for what is no plain data.
    """
    array = part if isinstance(part, np.ndarray) else np.frombuffer(memoryview(part), np.uint8)  # type: ignore[arg-type]
    if array.dtype.hasobject:
        raise ValueError(f"an array of {array.dtype} holds Python objects: expected numbers or bytes")
    return array


def copy(source: npt.NDArray[np.generic], target: npt.NDArray[np.uint8]) -> None:
    """Copy an array of any layout into as many bytes; the interpreter's lock is free meanwhile."""
    np.copyto(target.view(source.dtype).reshape(source.shape), source)

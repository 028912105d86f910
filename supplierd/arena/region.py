"""A slot's memory while it is lent: arrays of it, and word of the end of the last one.

Each loan comes through here, so there is the same in C, `region.pyx`, which is imported in place of this file where it
was compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import rooted
from .memory import Mapping


class Region:
    """`size` bytes of a mapping; `ended(what)` is called once, when it and the last array of it have died, in whatever
    thread.

    That may be in the middle of any line, so `ended` must neither wait for a lock nor raise.
    """

    __slots__ = ("_ended", "_mapping", "_offset", "_size", "_what")

    def __init__(self, ended: Callable[[Any], object], what: object, mapping: Mapping, offset: int, size: int) -> None:
        self._ended: Callable[[Any], object] | None = ended
        self._what, self._mapping, self._offset, self._size = what, mapping, offset, size

    def disarm(self) -> None:
        """Never call `ended`."""
        self._ended = None

    def array(self, dtype: npt.DTypeLike, shape: Sequence[int]) -> npt.NDArray[Any]:
        """All of it as a writable array, which keeps it alive, as does all that is derived from that.

        Raises ValueError or TypeError when there are not as many bytes in such an array.
        """
        shape = tuple(shape)
        if min(shape, default=0) < 0:  # NumPy would find out what they have to be
            raise ValueError(f"an array of shape {shape} and {dtype} is not one of {self._size} bytes")
        whole: npt.NDArray[np.uint8] = rooted(self, self._mapping, self._offset, self._size)
        return whole.view(dtype).reshape(shape)

    def __del__(self) -> None:
        if self._ended is not None:
            self._ended(self._what)

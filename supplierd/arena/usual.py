"""What a writer does for nearly every frame, in one go: compiled only (usual.pyx).

In Python nothing is shorter than the writer's own way, which can do it all; so here nothing is usual.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from .layout import Descriptor

if TYPE_CHECKING:
    from .pool import Arena
    from .writer import ArenaWriter


def store(writer: ArenaWriter, array: npt.NDArray[Any]) -> Descriptor | None:
    """As ArenaWriter.store; None, and nothing was done, where that is not as simple. For who has the writer's lock."""
    return None


def take(writer: ArenaWriter, size: int) -> tuple[Arena, int] | None:
    """The writer's present arena and a slot of it, as ArenaWriter.acquire lends it; None, and nothing was done, where
    that is not as simple. For who has the writer's lock."""
    return None


def publish(writer: ArenaWriter, arena: Arena, slot: int, size: int) -> Descriptor | None:
    """The frame in a slot that was lent, as Slot.commit makes it; None, and nothing was done, where that is not as
    simple. For who has the writer's lock."""
    return None

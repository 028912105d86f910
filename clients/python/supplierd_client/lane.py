"""The publisher's way into shared memory: which payloads go there, loans, and what happens where it cannot be had.

Nothing here raises for want of shared memory: the frame goes inline, the reason travels with it and is counted by the
daemon, and a warning says once what is wrong. After an error that concerns the place, not one frame, it is tried again
a second later.
"""

import logging
import math
import time
from operator import index
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from supplierd.arena import (
    ArenaUnavailableError,
    Descriptor,
    NoFreeSlotError,
    Reason,
    arena_directory,
    check_directory,
)
from supplierd.arena.writer import ArenaWriter, Slot
from supplierd_client.errors import LoanError
from supplierd_client.sockets import local_directory

SHARED_FROM: Final = 4 * 1024
"""Bytes from which a payload goes through shared memory by default: those of a page. That costs less than inline from
16 KiB on (`python benchmarks/lanes.py --only sizes`), and libzmq's conflated inbox, which now and then loses the newest
of larger messages (docs/adr/0004), gets only what it takes in one piece."""
RETRY_AFTER: Final = 1.0

log = logging.getLogger("supplierd_client")


@final
class Loan:
    """A writable array to be filled and published without a copy; forgotten or released, its slot is free again.

    Attributes:
        array: of the shape and dtype asked for; what is in it is undefined. After publishing it must not be written to.
    """

    def __init__(self, lane: "Lane", slot: Slot | None, array: npt.NDArray[Any], reason: str) -> None:
        self._lane = lane
        self._slot = slot
        self._array: npt.NDArray[Any] | None = array
        self._reason = reason

    @property
    def array(self) -> npt.NDArray[Any]:
        """The array. Raises LoanError after publishing or releasing."""
        if self._array is None:
            raise LoanError("this loan was published or released: take another one")
        return self._array

    def release(self) -> None:
        """Give the loan back without publishing. May be repeated."""
        self._slot = self._array = None

    def redeem(self, lane: "Lane") -> tuple[Slot | None, str]:
        """End the loan: its slot, or why there is none. For the publisher.

        Raises:
            LoanError: it is another publisher's, or was used already.
        """
        if lane is not self._lane:
            raise LoanError("this loan belongs to another publisher: publish it there")
        slot, array = self._slot, self.array
        array.flags.writeable = False  # who kept it had better read only
        self._slot = self._array = None
        return slot, self._reason


class Lane:
    """The shared memory of one publisher.

    Args:
        stream: its name.
        endpoint: of the daemon's inbox; the arena directory is beside an ipc one.
        mode: "auto", "on" or "off".
        slots: of an arena.

    Raises:
        ValueError: mode or slots is not allowed.
    """

    def __init__(self, stream: str, endpoint: str, mode: str, slots: int) -> None:
        if mode not in ("auto", "on", "off"):
            raise ValueError(f'shared_memory is {mode!r}: give "auto", "on" or "off"')
        self._smallest = SHARED_FROM if mode == "auto" else 1
        self._stream, self._slots = stream, slots
        base = local_directory(endpoint)
        self._never = "off" if mode == "off" else "remote" if base is None else ""
        self._directory = arena_directory(base) if base is not None else None
        self._writer: ArenaWriter | None = None
        self._retry_at = float("-inf")
        self._problem = ""
        # What the last loan was asked for, and what that means: the next is nearly always the same.
        self._lent_shape: tuple[int, ...] | None = None
        self._lent_dtype: npt.DTypeLike | None = None
        self._lent: tuple[np.dtype[Any], int] = np.dtype(np.uint8), 0
        if self._directory is not None:
            self._writer = ArenaWriter(self._directory, stream, slots=slots)

    def store(self, array: npt.NDArray[Any]) -> tuple[Descriptor | None, str]:
        """Copy an array into a slot: where it is, or None and the reason for which it goes inline."""
        reason = self._reason(array.nbytes)
        if reason or self._writer is None:
            return None, reason
        try:
            descriptor = self._writer.store(array)
        except (NoFreeSlotError, ArenaUnavailableError) as error:
            return None, self._failed(error)
        self._mended()
        return descriptor, ""

    def redeem(self, loan: Loan) -> tuple[Descriptor | None, str]:
        """The same of a loan, which ends.

        Raises:
            LoanError: it is not valid here.
        """
        slot, reason = loan.redeem(self)
        return (None, reason) if slot is None else (slot.commit(), "")

    def loan(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Loan:
        """A loan of an array of this shape and dtype; of private memory where there is no slot."""
        if shape != self._lent_shape or dtype is not self._lent_dtype:
            wanted = np.dtype(dtype)
            size = math.prod(map(index, shape)) * wanted.itemsize
            if size <= 0 or wanted.kind not in "biufc":
                text = f"a loan of shape {shape} and dtype {wanted} is not possible: use plain numbers, and some"
                raise ValueError(text)
            self._lent_shape, self._lent_dtype, self._lent = shape, dtype, (wanted, size)
        wanted, size = self._lent
        slot, reason = self._acquire(size)
        array = np.empty(shape, wanted) if slot is None else slot.as_array(wanted, shape)
        return Loan(self, slot, array, reason)

    def close(self) -> None:
        """Unlink the arena; workers keep the frames that they hold."""
        if self._writer is not None:
            self._writer.close()

    def _acquire(self, size: int) -> tuple[Slot | None, str]:
        """A slot, or why there is none."""
        reason = self._reason(size)
        if reason or self._writer is None:
            return None, reason
        try:
            slot = self._writer.acquire(size)
        except (NoFreeSlotError, ArenaUnavailableError) as error:
            return None, self._failed(error)
        self._mended()
        return slot, ""

    def _reason(self, size: int) -> str:
        """Why a payload of this size does not even try for a slot; "" where it does."""
        if self._never:
            return self._never
        if size < self._smallest:
            return "small"
        return self._problem if self._problem and time.monotonic() < self._retry_at else ""

    def _mended(self) -> None:
        """There was a slot."""
        if self._problem:
            self._problem = ""
            log.info("stream %s: frames go through shared memory again", self._stream)

    def _failed(self, error: NoFreeSlotError | ArenaUnavailableError) -> str:
        """The reason that an error stands for."""
        if isinstance(error, NoFreeSlotError):
            return "no_slot"
        if self._problem != error.reason.value:
            log.warning("stream %s: %s", self._stream, error)
        self._problem, self._retry_at = error.reason.value, time.monotonic() + RETRY_AFTER
        return self._problem


class ArenaAccess:
    """Whether a worker can read arenas. Warns of each reason why not once, but for those that nobody need mend.

    Args:
        worker: its name.
        endpoint: of the control channel that it talks to.
    """

    def __init__(self, worker: str, endpoint: str) -> None:
        self._worker = worker
        self._base = local_directory(endpoint)
        self._warned = ""

    def why_not(self) -> str:
        """The reason; "" where it can."""
        if self._base is None:
            return "remote"
        problem = check_directory(arena_directory(self._base))
        if problem is None:
            return ""
        if problem.reason is not Reason.NOT_FOUND:  # the daemon is still to come
            self.warn(problem)
        return problem.reason.value

    def warn(self, problem: ArenaUnavailableError) -> None:
        """Say what is wrong, unless it was said last."""
        if problem.reason.value != self._warned:
            self._warned = problem.reason.value
            log.warning("worker %s: %s", self._worker, problem)

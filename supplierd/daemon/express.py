"""Between two turns of the loop: the wait for something to happen, and the passing of time.

Compiled (express.pyx), it does meanwhile what happens nearly always: a frame in shared memory arrives, and workers on
this machine ask for the next one over their bells. It decides nothing: that is the supplier's. Whatever is not usual is
left to `Otherwise`, which can do it all, and does where nothing is compiled.
"""

import time
from collections.abc import Sequence
from typing import Protocol

from supplierd.core.refusals import FrameRefusedError
from supplierd.core.supplier import Delivery, Reply, Supplier
from supplierd.daemon.parcels import Parcels
from supplierd.daemon.precedence import Precedence
from supplierd.daemon.sessions import Sessions
from supplierd.transport.bells import Bell, Bells
from supplierd.transport.descriptors import Descriptors
from supplierd.transport.doorbells import Doorbells
from supplierd.transport.inbox import Inbox
from supplierd.transport.sockets import (
    CATCH_UP,
    GATHER_MS,
    LONG_TICK,
    SERVED_LATELY,
    STOOD_STILL,
    TICK,
    Message,
    Socket,
    Waiter,
)  # fmt: skip
from supplierd.wire.bell import Demand
from supplierd.wire.frame import Decoder


class Otherwise(Protocol):
    """What does all that the express way leaves."""

    def deliver(self, delivery: Delivery, now: float) -> None:
        """Send the frame that the supplier has moved under way."""

    def take(self, inbox: Inbox, message: Message, now: float) -> None:
        """Distribute a message that a conflated inbox had, or its doorbell."""

    def refuse_parts(self, inbox: Inbox, now: float) -> None:
        """A message of several parts was received."""

    def refuse_frame(self, stream: str, refused: FrameRefusedError, now: float) -> None:
        """The supplier refused a frame."""

    def rung(self, bell: Bell, packet: bytes, now: float) -> None:
        """A bell had a packet; b"" where it has ended."""

    def answer(self, bell: Bell, demand: Demand, reply: Reply, now: float) -> None:
        """Tell a worker that asked by a bell what it is told in place of a frame."""


class Express:
    """The wait of one loop.

    Args:
        supplier: decides and counts.
        sessions: with the bells of the workers.
        waiter: waits for all that the loop waits for.
        bells: of the workers on this machine; None: there are none.
        inboxes: the frames'.
        doorbells: of those; None: they have none.
        parcels: leases frames in shared memory.
        decoder: reads them.
        max_message: largest accepted frame message, bytes.
        descriptors: watched, so that they don't run out.
        precedence: of this loop's thread.
        otherwise: does what is left.
    """

    def __init__(
        self,
        supplier: Supplier,
        sessions: Sessions,
        waiter: Waiter,
        bells: Bells | None,
        inboxes: Sequence[Inbox],
        *,
        doorbells: Doorbells | None,
        parcels: Parcels,
        decoder: Decoder,
        max_message: int,
        descriptors: Descriptors,
        precedence: Precedence,
        otherwise: Otherwise,
    ) -> None:
        self._supplier = supplier
        self._waiter = waiter
        self._descriptors = descriptors
        self._precedence = precedence
        self._otherwise = otherwise
        self._gathers = False  # whether the demands that the last frame brings are gathered
        self._ticked_at = self._served_at = time.monotonic()
        self._tick_after = TICK

    def wait(self, until: float) -> set[Socket | int]:
        """Wait for something to happen: what may be read then, see Waiter.wait. It ends at a time, or when descriptors
        have become short."""
        while True:
            awaited = min(until, self._ticked_at + self._tick_after)
            ready = self._waiter.wait(awaited - time.monotonic())
            now = time.monotonic()
            if now - awaited >= STOOD_STILL:
                time.sleep(CATCH_UP)
                ready |= self._waiter.wait(0.0)
                now = time.monotonic()
            if self._gathers and now - self._served_at < SERVED_LATELY:
                self._waiter.gather(ready, GATHER_MS)
                now = time.monotonic()
            over = now >= until
            if now - self._ticked_at >= self._tick_after:
                over |= self._tick(now)
            if ready or over:
                return ready

    def served(self, deliveries: int, arrived: float) -> None:
        """A frame that arrived at a time has gone out to so many workers."""
        self._served_at = now = time.monotonic()
        workers = self._supplier.workers
        self._gathers = deliveries > 1 and (
            deliveries == len(workers) or not any(worker.expected(now) for worker in workers.values())
        )
        self._supplier.distribution.observe(self._served_at - arrived)
        self._precedence.served(deliveries, now)

    def hurry(self) -> None:
        """A frame could not be sent: it is tried again soon."""
        self._tick_after = TICK

    def _tick(self, now: float) -> bool:
        """Time has passed; whether descriptors are short."""
        self._ticked_at = now
        promised = any(worker.target_fps is not None for worker in self._supplier.workers.values())
        self._tick_after = TICK if promised else LONG_TICK
        for delivery in self._supplier.tick(now):
            self._otherwise.deliver(delivery, now)
        return self._descriptors.look()

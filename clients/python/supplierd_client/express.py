"""The shortest way from a demand to its frame: by a bell, where nothing is out of the ordinary.

A worker that waits for its next frame has been off the processor for most of a frame's interval, and all that it
touches comes from memory: what a frame costs is how much code and data that is. So what happens with nearly every frame
is one function here, and whatever is unusual is left to `Channel.step`, which finds everything as if nobody had looked.

There is the same in C, `express.pyx`, which is imported in place of this file where it was compiled.
"""

import math
import select
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from supplierd.arena import ArenaError, ArenaReader
from supplierd.wire.bell import FRAME, FRAME_KIND, HEAD, HEAD_KIND, MAX_HEADS, encode_demand
from supplierd.wire.errors import WireError
from supplierd.wire.frame import Header
from supplierd_client.bell import NEVER_WAIT, Bell
from supplierd_client.frame import Frame, is_ours
from supplierd_client.session import Session
from supplierd_client.sockets import LONGEST_WAIT, Source

_Head = tuple[Header, str, "np.dtype[Any]", tuple[int, ...], bool]
"""What the frames of one head have in common: header, arena, dtype and shape, and whether their clock is ours."""


class Express:
    """One worker's.

    Args:
        session, bell, arenas: of its channel.
        others: the sources that frames or messages may come by, too.
        descriptors: of all that the worker is woken by, for `frame` to wait for.
    """

    __slots__ = ("_arenas", "_bell", "_expected", "_heads", "_others", "_poll", "_receive", "_send", "_session")

    def __init__(
        self, session: Session, bell: Bell, arenas: ArenaReader, others: Sequence[Source], descriptors: Sequence[int]
    ) -> None:
        poll = select.poll()
        for descriptor in descriptors:
            poll.register(descriptor, select.POLLIN)
        self._session = session
        self._bell = bell
        self._others = others
        self._arenas = arenas
        self._poll = poll.poll
        self._receive, self._send = bell.receive_into, bell.write
        self._expected = [(bell.descriptor, select.POLLIN)]
        self._heads: dict[int, _Head] = {}  # what was worked out from those of the bell

    def frame(self, now: float, until: float) -> Frame | None:
        """As `ask`, waiting until a time, and `take`; seconds, monotonic."""
        if not self.ask(now):
            return None
        wait = min(until, self._session.next_at) - now
        if self._poll(min(math.ceil(wait * 1e3), LONGEST_WAIT) if wait > 0.0 else 0) != self._expected:
            return None
        try:
            size = self._receive(self._bell.buffer)
        except OSError:
            self._session.next_at = now
            return None
        return self._take(size)

    def ask(self, now: float) -> bool:
        """Ask for a frame. False where something else is the matter: then look at everything.

        Args:
            now: seconds, monotonic.
        """
        session = self._session
        if self._disturbed() or not session.begin(now):
            return False
        assert session.identity is not None
        report = (*session.identity, session.outcome, session.age, session.processing)
        demand = encode_demand(session.session, session.number, report, self._arenas.leases_held)
        try:
            self._send(demand, NEVER_WAIT)
        except OSError:  # the daemon is gone, or has too much to do: whoever looks next is told
            session.next_at = now
            return False
        return True

    def take(self) -> Frame | None:
        """The frame that was asked for, which the bell has fetched; None where something is out of the ordinary."""
        return None if self._disturbed() else self._take(self._bell.fetched())

    def _take(self, size: int) -> Frame | None:
        """The same, of a packet in the bell's buffer."""
        session = self._session
        told = self._told(size)
        head = None if told is None else self._heads.get(told[0]) or self._learn(told[0])
        if told is None or head is None or not head[-1]:
            self._bell.put_back(size)
            return None
        _, seq, wall, mono, generation, offset, length, slot = told
        header, file, dtype, shape, _ = head
        arrived = time.monotonic_ns()
        age = (arrived - mono) / 1e9
        try:
            array = self._arenas.array((file, slot, generation, offset, length), dtype, shape or (length,))
        except (ArenaError, ValueError, TypeError):
            array = None
        if array is None or not session.take((header.stream, header.epoch, seq), mono, age, arrived / 1e9):
            self._bell.put_back(size)
            return None
        return Frame(header, (seq, wall, mono), array, age)

    def _disturbed(self) -> bool:
        """Whether another source may have something, whose descriptor tells of nothing new before that was taken."""
        return any(other.more for other in self._others)

    def _told(self, size: int) -> tuple[int, ...] | None:
        """The numbers of a FRAME, or of one that comes with a new head: should that be heard again, it is the same."""
        buffer = self._bell.buffer
        if size == FRAME.size and buffer[0] == FRAME_KIND:
            return FRAME.unpack_from(buffer)[1:]
        if not size or buffer[0] != HEAD_KIND:
            return None
        try:
            _, moment, (_, slot, generation, offset, length) = self._bell.frame(size)
        except WireError:
            return None
        number = HEAD.unpack_from(buffer)[1]
        self._heads.pop(number, None)
        return (number, *moment, generation, offset, length, slot)

    def _learn(self, number: int) -> _Head | None:
        """What holds for all frames of a head."""
        header = self._bell.hearer.heads.get(number)
        if header is None or header.arena is None:
            return None
        try:
            dtype = np.dtype(header.dtype or np.uint8)
        except TypeError:
            return None
        if len(self._heads) >= MAX_HEADS:
            self._heads.clear()
        self._heads[number] = found = (header, header.arena.file, dtype, header.shape, is_ours(header.boot))
        return found

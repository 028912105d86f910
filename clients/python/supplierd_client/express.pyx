# cython: language_level=3, boundscheck=False, wraparound=False, auto_pickle=False
"""express.py in C: see there what it is for, and supplierd.wire.bell for the packets. (docs/adr/0015-compiled.md)"""

from libc.math cimport ceil
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from supplierd.arena.holding cimport Slots, Tally
from supplierd.wire.packets cimport (
    MSG_DONTWAIT, MSG_NOSIGNAL, POLLIN, DemandPacket, FramePacket, PyErr_CheckSignals, poll, pollfd, recv, send,
)
from supplierd_client.frame cimport Frame
from supplierd_client.turn cimport Turn

import numpy as np

from supplierd.wire.bell import DEMAND, DEMAND_KIND, FRAME, FRAME_KIND, HEAD_KIND, MAX_HEADS, OUTCOME_NUMBERS
from supplierd.wire.errors import WireError
from supplierd_client.frame import is_ours
from supplierd_client.sockets import LONGEST_WAIT

cdef enum:
    _MAX_DESCRIPTORS = 8

cdef uint8_t _DEMAND_KIND = DEMAND_KIND
cdef uint8_t _FRAME_KIND = FRAME_KIND
cdef uint8_t _HEAD_KIND = HEAD_KIND
cdef dict _OUTCOMES = OUTCOME_NUMBERS
cdef Py_ssize_t _MAX_HEADS = MAX_HEADS
cdef int _LONGEST_WAIT = LONGEST_WAIT

if sizeof(DemandPacket) != DEMAND.size or sizeof(FramePacket) != FRAME.size:
    raise ImportError("the packets of supplierd.wire.bell have changed: compile this module anew")


cdef class _Head:
    """What the frames of one head have in common."""

    cdef object header, dtype, stream, epoch, file
    cdef tuple shape


cdef class Express:
    """One worker's. Arguments as of the original."""

    cdef Turn _turn
    cdef object _bell, _others
    cdef dict _arenas, _heads
    cdef Tally _tally
    cdef uint8_t[::1] _buffer
    cdef pollfd _awaited[_MAX_DESCRIPTORS]
    cdef int _count, _descriptor

    def __init__(self, Turn session not None, bell, arenas, others, descriptors):
        self._turn, self._bell, self._others = session, bell, tuple(others)
        self._arenas, self._tally, self._heads = arenas.arenas, arenas.tally, {}
        self._buffer = bell.buffer
        self._descriptor = bell.descriptor
        for descriptor in descriptors:
            if self._count == _MAX_DESCRIPTORS:
                raise ValueError(f"more than {_MAX_DESCRIPTORS} descriptors to wait for")
            self._awaited[self._count].fd, self._awaited[self._count].events = descriptor, <short>POLLIN
            self._count += 1

    def frame(self, double now, double until):
        """As `ask`, waiting until a time, and `take`; seconds, monotonic."""
        cdef double wait
        cdef int milliseconds = 0
        cdef ssize_t size
        if not self.ask(now):
            return None
        wait = min(until, self._turn.next_at) - now
        if wait > 0.0:
            milliseconds = <int>min(ceil(wait * 1e3), _LONGEST_WAIT)
        if not self._rung(milliseconds):
            return None
        size = recv(self._descriptor, &self._buffer[0], self._buffer.shape[0], MSG_DONTWAIT)
        if size < 0:
            self._turn.next_at = now
            return None
        return self._take(size)

    cpdef bint ask(self, double now) except -1:
        """Ask for a frame. False where something else is the matter: then look at everything.

        Args:
            now: seconds, monotonic.
        """
        cdef Turn turn = self._turn
        if self._disturbed() or not turn.begin(now):
            return False
        if not self._ask(turn):  # the daemon is gone, or has too much to do: whoever looks next is told
            turn.next_at = now
            return False
        return True

    cpdef Frame take(self):
        """The frame that was asked for, which the bell has fetched; None where something is out of the ordinary."""
        return None if self._disturbed() else self._take(self._bell.fetched())

    cdef Frame _take(self, ssize_t size):
        """The same, of a packet in the bell's buffer."""
        cdef Frame found = None
        if size == sizeof(FramePacket) and self._buffer[0] == _FRAME_KIND:
            found = self._open(self._turn, <FramePacket*>&self._buffer[0])
        elif size > 0 and self._buffer[0] == _HEAD_KIND:
            found = self._hear(self._turn, size)
        if found is None:
            self._bell.put_back(size)
        return found

    cdef bint _disturbed(self) except -1:
        """Whether another source may have something, whose descriptor tells of nothing new before that was taken."""
        for other in self._others:
            if other.more:
                return True
        return False

    cdef bint _ask(self, Turn turn) except -1:
        """Send the demand; whether it was."""
        cdef DemandPacket demand
        demand.kind, demand.outcome = _DEMAND_KIND, _OUTCOMES[turn.outcome]
        demand.zeros[0] = demand.zeros[1] = 0
        demand.leases = <uint32_t>self._tally.held
        demand.session, demand.number = turn.session, turn.number
        _, demand.epoch, demand.seq = turn.identity
        demand.age, demand.processing = turn.age, turn.processing
        return send(self._descriptor, &demand, sizeof(demand), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0

    cdef bint _rung(self, int milliseconds) except -1:
        """Wait; whether the bell has something, and nothing else."""
        cdef int ready, i
        PyErr_CheckSignals()  # a handler may close the worker: once it waits, a signal ends the waiting
        with nogil:
            ready = poll(self._awaited, self._count, milliseconds)
        if ready != 1:
            return False
        for i in range(self._count):
            if self._awaited[i].revents:
                return self._awaited[i].fd == self._descriptor and self._awaited[i].revents == POLLIN
        return False

    cdef Frame _hear(self, Turn turn, Py_ssize_t size):
        """The frame that a new head comes with, as `_open`; should it be heard again, it is the same one."""
        cdef FramePacket told
        told.kind, told.head = _FRAME_KIND, (<uint32_t*>&self._buffer[4])[0]
        try:
            _, (told.seq, told.captured_wall, told.captured_mono), place = self._bell.frame(size)
            _, told.slot, told.generation, told.offset, told.size = place
        except (WireError, OverflowError):
            return None
        self._heads.pop(told.head, None)
        return self._open(turn, &told)

    cdef Frame _open(self, Turn turn, FramePacket* told):
        """The frame that a packet tells of, handed out; None, and nothing has changed, where that is not as simple."""
        cdef timespec time
        cdef int64_t arrived
        cdef double age
        cdef Frame frame
        cdef _Head head = self._heads.get(told.head)
        if head is None:
            head = self._learn(told.head)
            if head is None:
                return None
        arena = self._arenas.get(head.file)
        if arena is None:
            return None
        clock_gettime(CLOCK_MONOTONIC, &time)
        arrived = <int64_t>time.tv_sec * 1_000_000_000 + time.tv_nsec
        age = (<double>arrived - <double>told.captured_mono) / 1e9
        try:
            shape = head.shape or (<object>told.size,)
            array = (<Slots?>arena).usual(told.slot, told.generation, told.offset, told.size, head.dtype, shape)
        except (ValueError, TypeError):
            return None
        if array is None:
            return None
        if not turn.take((head.stream, head.epoch, told.seq), told.captured_mono, age, arrived / 1e9):
            return None
        frame = Frame.__new__(Frame)
        frame._header, frame.array, frame.age = head.header, array, age
        frame.seq, frame._captured_wall, frame._captured_mono = told.seq, told.captured_wall, told.captured_mono
        return frame

    cdef _Head _learn(self, uint32_t number):
        """What holds for all frames of a head; None where they go another way."""
        cdef _Head head
        header = self._bell.hearer.heads.get(number)
        if header is None or header.arena is None or not is_ours(header.boot):
            return None
        head = _Head.__new__(_Head)
        try:
            head.dtype = np.dtype(header.dtype or np.uint8)
        except TypeError:
            return None
        head.header, head.stream, head.epoch = header, header.stream, header.epoch
        head.file, head.shape = header.arena.file, header.shape
        if len(self._heads) >= _MAX_HEADS:
            self._heads.clear()
        self._heads[number] = head
        return head

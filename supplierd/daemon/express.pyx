# cython: language_level=3, boundscheck=False, wraparound=False, auto_pickle=False
"""express.py in C: see there what it is for; supplierd.wire.frame and .bell for what is read and written here.
(docs/adr/0016-compiled-daemon.md)
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.errno cimport EAGAIN, ECONNRESET, EINTR, errno
from libc.math cimport ceil
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from supplierd.arena.holding cimport Hold, Slots
from supplierd.core.mailbox cimport Mailbox
from supplierd.core.supplier cimport Supplier
from supplierd.core.worker cimport Worker
from supplierd.transport.libzmq cimport (
    find_libzmq, libzmq_close, libzmq_data, libzmq_getsockopt, libzmq_init, libzmq_more, libzmq_receive, libzmq_size,
    zmq_message,
)
from supplierd.wire.packets cimport (
    MSG_DONTWAIT, MSG_NOSIGNAL, DemandPacket, FramePacket, PyErr_CheckSignals, poll, pollfd, recv, send,
)

import time

import zmq
from msgpack import packb
from zmq.backend.cython import _zmq

from supplierd.arena import Lease
from supplierd.core.mailbox import Report
from supplierd.core.stream import Frame
from supplierd.core.supplier import FrameRefusedError, Reply
from supplierd.daemon.parcels import Parcel
from supplierd.transport.sockets import (
    BURST, CATCH_UP, GATHER_MS, LONG_TICK, SERVED_LATELY, STOOD_STILL, TICK, Message,
)
from supplierd.wire import bell as _bell, frame as _wire
from supplierd.wire.control import OUTCOMES
from supplierd.wire.errors import WireError

cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        int fd
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_wait(int, epoll_event*, int, int)

cdef extern from "sys/stat.h" nogil:
    ctypedef struct stat_t "struct stat":
        long st_size
    int stat(const char*, stat_t*)

cdef enum:
    _MAX_INBOXES = 8
    _MAX_PACKET = 4096
    _EVENTS_AT_ONCE = 64
    _MAX_KNOWN = 64
    _ALIGNMENT = 64

# As in supplierd.wire. hatch_build.py compiles nothing on a machine that is not little-endian.
cdef packed struct _Prefix:
    uint8_t magic[4]
    uint8_t version
    uint8_t flags
    uint8_t header_size[2]
    uint64_t seq
    int64_t captured_wall
    int64_t captured_mono

cdef int _EVENTS = zmq.EVENTS, _POLLIN = zmq.POLLIN, _NOBLOCK = zmq.NOBLOCK
cdef bytes _MAGIC = _wire.MAGIC, _ARENA_KEY = _wire._ARENA_KEY
cdef uint8_t _VERSION = _wire.VERSION, _FLAG_ARENA = _wire.FLAG_ARENA
cdef uint8_t _DEMAND_KIND = _bell.DEMAND_KIND, _FRAME_KIND = _bell.FRAME_KIND
cdef bytes _FIVE_ITEMS = packb([None] * 5)[:1]
cdef tuple _OUTCOMES = ("", *OUTCOMES)
cdef object _NOTHING = Reply.NOTHING
cdef object _new_tuple = tuple.__new__
cdef int _BURST = BURST, _GATHER_MS = GATHER_MS
cdef double _STOOD_STILL = STOOD_STILL, _SERVED_LATELY = SERVED_LATELY, _TICK = TICK, _LONG_TICK = LONG_TICK
cdef double _NEARLY = 0.75  # of the time to a tick, after which it is done when the loop is awake anyway
cdef double _LEFT_FOR = 1.0  # seconds for which an inbox that had a long message is left to Python, which copies none

if sizeof(_Prefix) != _wire.PREFIX.size or sizeof(DemandPacket) != _bell.DEMAND.size or sizeof(FramePacket) != _bell.FRAME.size:
    raise ImportError("the formats of supplierd.wire have changed: compile this module anew")

cdef bint _has_libzmq = find_libzmq(<bytes>_zmq.__file__.encode())


cdef inline double _monotonic() noexcept:
    cdef timespec time
    clock_gettime(CLOCK_MONOTONIC, &time)
    return <double>time.tv_sec + <double>time.tv_nsec / 1e9


cdef inline const uint8_t* _number(const uint8_t* at, const uint8_t* end, uint64_t* value) noexcept:
    """Read an unsigned number of msgpack's; where it ends, NULL where it is none."""
    cdef int size, i
    if at is NULL or at >= end:
        return NULL
    if at[0] < 0x80:
        value[0] = at[0]
        return at + 1
    if not 0xcc <= at[0] <= 0xcf:
        return NULL
    size = 1 << (at[0] - 0xcc)
    if end - at <= size:
        return NULL
    value[0] = 0
    for i in range(1, size + 1):
        value[0] = value[0] << 8 | at[i]
    return at + 1 + size


@cython.final
cdef class _Known:
    """What the frames of one publisher's run in one arena have in common."""

    cdef str stream, file
    cdef bytes boot, slot_start
    cdef object epoch, unsent
    cdef uint64_t size  # of every payload; 0: any
    cdef uint32_t number  # of the head


@cython.final
cdef class _Parcel:
    """A frame on its way, as daemon.parcels.Parcel: made when more is asked of it than to be rung."""

    cdef Hold _hold
    cdef bytes _message
    cdef object _heads, _whole
    cdef FramePacket _short

    cdef object _parcel(self):
        if self._whole is None:
            message = Message(self._message)
            header = _wire.decode(message.buffer)
            self._whole = Parcel(header, message, Lease(header.arena, self._hold._slots, self._hold), self._heads)
            self._whole.head = self._short.head  # a bell that is told it is rung here from then on
            self._whole.short = (<char*>&self._short)[:sizeof(FramePacket)]
        return self._whole

    @property
    def message(self):
        """The whole message."""
        return self._parcel().message

    def ring(self, bell):
        """As the original."""
        return self._parcel().ring(bell)

    def inline(self):
        """As the original."""
        return self._parcel().inline()


cdef class Express:
    """The wait of one loop. Arguments as of the original."""

    cdef Supplier _supplier
    cdef object _waiter, _inboxes, _heads, _decoder, _descriptors, _otherwise
    cdef dict _by_worker, _connections, _arenas, _known
    cdef Py_ssize_t _max_message
    cdef bint _gathers
    cdef double _served_at, _ticked_at, _tick_after

    cdef long _changes  # of the waiter, as known here
    cdef pollfd* _awaited
    cdef int _count, _bells_fd, _bells_at
    cdef list _express_inboxes
    cdef int _inbox_at[_MAX_INBOXES]  # in _awaited
    cdef void* _sockets[_MAX_INBOXES]
    cdef double _left_until[_MAX_INBOXES]

    def __cinit__(self):
        self._awaited = NULL
        self._changes = -1

    def __init__(
        self, Supplier supplier not None, sessions, waiter, bells, inboxes, *, parcels, decoder, max_message,
        descriptors, otherwise,
    ):
        self._supplier, self._waiter, self._inboxes = supplier, waiter, tuple(inboxes)
        self._heads, self._arenas = parcels.heads, parcels.reader.arenas
        self._by_worker = sessions.by_worker
        self._connections = bells.connections if bells is not None else {}
        self._bells_fd = bells.descriptor if bells is not None else -1
        self._decoder, self._descriptors, self._otherwise = decoder, descriptors, otherwise
        self._max_message = min(max_message, _MAX_PACKET)
        self._known = {}
        self._gathers, self._tick_after = False, _TICK
        self._served_at = self._ticked_at = _monotonic()

    def __dealloc__(self):
        PyMem_Free(self._awaited)

    def wait(self, double until):
        """Wait for something to happen that is not usual: what may be read then. It ends as the original does."""
        cdef double now, awaited
        cdef int ready, i, usual
        while True:
            if self._waiter.changes != self._changes:
                self._learn_sources()
            now = _monotonic()
            if now - self._ticked_at >= _NEARLY * self._tick_after and self._tick(now):
                return self._waiter.wait(0.0)
            if now >= until or self._waiter.left:
                return self._waiter.wait(0.0)
            awaited = min(until, self._ticked_at + self._tick_after)
            with nogil:
                ready = poll(self._awaited, self._count, <int>ceil(max(awaited - now, 0.0) * 1e3))
            PyErr_CheckSignals()
            now = _monotonic()
            if now - awaited >= _STOOD_STILL:
                time.sleep(CATCH_UP)
                return self._waiter.wait(0.0)
            if ready < 0:
                continue
            if ready == 0:  # as Waiter.wait does it when the time is over
                hidden = self._waiter.wait(0.0)
                if hidden:
                    return hidden
                continue
            if (
                self._gathers and now - self._served_at < _SERVED_LATELY and ready == 1 and self._bells_at >= 0
                and self._awaited[self._bells_at].revents
            ):
                ready = 1 + self._gather()
                now = _monotonic()
            usual = self._bells_at >= 0 and self._awaited[self._bells_at].revents
            for i in range(len(self._express_inboxes)):
                usual += self._awaited[self._inbox_at[i]].revents and now >= self._left_until[i]
            if usual != ready or (self._bells_at >= 0 and self._awaited[self._bells_at].revents and not self._hear(now)):
                return self._waiter.wait(0.0)
            for i in range(len(self._express_inboxes)):
                if self._awaited[self._inbox_at[i]].revents and not self._take(i):
                    break

    def served(self, Py_ssize_t deliveries, double arrived):
        """A frame that arrived at a time has gone out to so many workers."""
        self._served(deliveries, arrived)

    cdef _served(self, Py_ssize_t deliveries, double arrived):
        cdef Worker worker
        cdef Mailbox mailbox
        self._gathers = deliveries > 1
        if deliveries != len(self._supplier.workers):
            for worker in self._supplier.workers.values():
                for mailbox in worker.mailboxes.values():
                    if mailbox.owed and mailbox.pending is not None:
                        self._gathers = False
        self._served_at = _monotonic()
        self._supplier.distribution.observe(self._served_at - arrived)

    def hurry(self):
        """A frame could not be sent: it is tried again soon."""
        self._tick_after = _TICK

    cdef bint _tick(self, double now) except -1:
        """Time has passed; whether descriptors are short."""
        cdef Worker worker
        cdef stat_t status
        cdef bint few
        self._ticked_at, self._tick_after = now, _LONG_TICK
        for worker in self._supplier.workers.values():
            if worker.target_fps is not None:
                self._tick_after = _TICK
        for delivery in self._supplier.tick(now):
            self._deliver(delivery, now)
        few = not self._descriptors.short and not stat("/proc/self/fd", &status)
        if few and 0 < status.st_size < <long>self._descriptors.limit // 2:
            return False
        return self._descriptors.look()

    # --- waiting ------------------------------------------------------------------------------------------------------

    cdef _learn_sources(self):
        """What is waited for has changed."""
        cdef dict sources = self._waiter.sources
        cdef pollfd* awaited = <pollfd*>PyMem_Realloc(self._awaited, (len(sources) + 1) * sizeof(pollfd))
        if awaited is NULL:
            raise MemoryError
        self._awaited, self._count, self._bells_at, self._express_inboxes = awaited, 0, -1, []
        own = {}
        if _has_libzmq:
            own = {inbox.socket: inbox for inbox in self._inboxes if inbox.conflate and inbox.local}
        for descriptor, source in sources.items():
            awaited[self._count].fd, awaited[self._count].events = descriptor, <short>_POLLIN
            awaited[self._count].revents = 0
            if <int>descriptor == self._bells_fd:
                self._bells_at = self._count
            inbox = own.get(source)
            i = len(self._express_inboxes)
            if inbox is not None and i < _MAX_INBOXES:
                self._inbox_at[i], self._left_until[i] = self._count, 0.0
                self._sockets[i] = <void*><uint64_t>inbox.socket.underlying
                self._express_inboxes.append(inbox)
            self._count += 1
        self._changes = self._waiter.changes

    cdef int _gather(self) except -1:
        """Let more packets come to the bells, until something else is there: how much."""
        cdef int others
        self._awaited[self._bells_at].fd = -1
        with nogil:
            others = poll(self._awaited, self._count, _GATHER_MS)
        self._awaited[self._bells_at].fd, self._awaited[self._bells_at].revents = self._bells_fd, <short>_POLLIN
        return max(others, 0)

    # --- demands ------------------------------------------------------------------------------------------------------

    cdef bint _hear(self, double now) except -1:
        """Answer what the bells have; whether that was all."""
        cdef epoll_event events[_EVENTS_AT_ONCE]
        cdef uint8_t packet[_MAX_PACKET]
        cdef ssize_t size
        cdef int i, count = epoll_wait(self._bells_fd, events, _EVENTS_AT_ONCE, 0)
        cdef bint complete = True
        for i in range(count):
            bell = self._connections.get(events[i].data.fd)
            if bell is None:  # somebody knocks, or it was closed for what was heard before
                complete = False
                continue
            size = recv(events[i].data.fd, packet, _MAX_PACKET, MSG_DONTWAIT)
            if size == sizeof(DemandPacket) and packet[0] == _DEMAND_KIND and self._demand(bell, <DemandPacket*>packet, now):
                continue
            if size < 0 and (errno == EAGAIN or errno == EINTR or errno == ECONNRESET):
                continue  # see Bells.take
            self._otherwise.rung(bell, (<char*>packet)[:size] if size > 0 else b"", now)
        return complete

    cdef bint _demand(self, bell, DemandPacket* demand, double now) except -1:
        """Answer a demand; False, and nothing was done, where that is not as simple."""
        cdef Worker worker = self._supplier.session(demand.session)
        cdef Mailbox mailbox
        if worker is None or worker.inline_reason or demand.outcome >= len(_OUTCOMES):
            return False
        session = self._by_worker.get(worker.name)
        if session is None or session.bell is not bell:
            return False
        worker.leases = demand.leases
        report = None
        if demand.outcome:
            mailbox = worker.in_flight()
            report = _new_tuple(Report, (
                "" if mailbox is None else mailbox.stream.name, demand.epoch, demand.seq, _OUTCOMES[demand.outcome],
                demand.age / 1e9, demand.processing / 1e9,
            ))
        reply = self._supplier.demand(demand.session, demand.number, report, now)
        if isinstance(reply, tuple):
            self._deliver(reply, now)
        elif reply is not _NOTHING:
            packet = _bell.decode_demand((<char*>demand)[:sizeof(DemandPacket)])
            self._otherwise.answer(bell, packet, reply, now)
        return True

    # --- frames -------------------------------------------------------------------------------------------------------

    cdef bint _take(self, int i) except -1:
        """Take what lies in an inbox; False where something has come in between that is not usual."""
        cdef zmq_message message
        cdef double now
        cdef int events, burst, received
        cdef bint parts
        cdef size_t size
        cdef bytes copy
        inbox = self._express_inboxes[i]
        for burst in range(_BURST):
            now = _monotonic()
            size = sizeof(events)
            if libzmq_getsockopt(self._sockets[i], _EVENTS, &events, &size) or not events & _POLLIN:
                return True
            libzmq_init(&message)
            received = libzmq_receive(&message, self._sockets[i], _NOBLOCK)
            if received < 0:
                libzmq_close(&message)
                if errno == EINTR:
                    continue
                return True  # when its sender disconnects in between, the message may be gone
            parts, copy = libzmq_more(&message), None
            try:
                if not parts:
                    size = libzmq_size(&message)
                    copy = PyBytes_FromStringAndSize(<char*>libzmq_data(&message), size)
            finally:
                libzmq_close(&message)
            if parts:
                self._otherwise.refuse_parts(inbox, now)
                return False
            if not self._accept(copy, now):
                if len(copy) > _MAX_PACKET:
                    self._left_until[i] = now + _LEFT_FOR
                self._otherwise.take(inbox, Message(copy), now)
                self._learn(copy)
                if self._waiter.changes != self._changes:
                    self._waiter.again(inbox.socket)
                    return False
        self._waiter.again(inbox.socket)
        return True

    cdef bint _accept(self, bytes message, double now) except -1:
        """Distribute a frame that arrived at `now`; False, and nothing was done, where that is not as simple."""
        cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(message)
        cdef const _Prefix* prefix = <const _Prefix*>data
        cdef const uint8_t* at
        cdef const uint8_t* end
        cdef Py_ssize_t size = PyBytes_GET_SIZE(message), head_size
        cdef uint64_t slot, generation, offset, length
        cdef _Known known
        cdef _Parcel parcel
        cdef Hold hold
        cdef list deliveries
        if not sizeof(_Prefix) <= <size_t>size <= <size_t>self._max_message:
            return False
        end = data + sizeof(_Prefix) + (prefix.header_size[0] | prefix.header_size[1] << 8)
        if (
            memcmp(prefix.magic, <char*>_MAGIC, 4) or prefix.version != _VERSION or prefix.flags != _FLAG_ARENA
            or not prefix.seq or (end - data + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT != size
        ):
            return False
        head_size = _head_size(data, end)
        if head_size < 0:
            return False
        known = self._known.get(PyBytes_FromStringAndSize(<char*>data + sizeof(_Prefix), head_size))
        if known is None:
            return False
        at = data + sizeof(_Prefix) + head_size + len(_ARENA_KEY)
        head_size = len(known.slot_start)
        if end - at <= head_size or memcmp(at, <char*>known.slot_start, head_size):
            return False
        slot = generation = offset = length = 0
        at = _number(at + head_size, end, &slot)
        at = _number(at, end, &generation)
        at = _number(at, end, &offset)
        at = _number(at, end, &length)
        if at != end or (known.size and length != known.size):
            return False
        hold = self._hold(known.file, slot, generation, offset, length)
        if hold is None:
            return False
        parcel = _Parcel.__new__(_Parcel)
        parcel._hold, parcel._message, parcel._heads = hold, message, self._heads
        parcel._short = FramePacket(
            _FRAME_KIND, [0, 0, 0], known.number, prefix.seq, prefix.captured_wall, prefix.captured_mono, generation,
            offset, length, <uint32_t>slot, 0,
        )
        frame = _new_tuple(Frame, (known.stream, known.boot, known.epoch, prefix.seq, known.unsent, "", parcel))
        try:
            deliveries = self._supplier.frame(frame, now)
        except FrameRefusedError as refused:
            self._otherwise.refuse_frame(known.stream, refused, now)
            return True
        for delivery in deliveries:
            self._deliver(delivery, now)
        self._served(len(deliveries), now)
        return True

    cdef Hold _hold(self, str file, uint64_t slot, uint64_t generation, uint64_t offset, uint64_t size):
        """A hold on a slot; None where it cannot be had as simply."""
        cdef Hold hold
        cdef Slots slots
        arena = self._arenas.get(file)
        if arena is None:
            return None
        slots = <Slots?>arena
        if (
            slot >= <uint64_t>slots._count or offset != slots._first + slot * slots._stride
            or not 0 < size <= slots._stride or generation % 2 or not generation
        ):
            return None
        try:
            if not slots._take(slot, generation):
                return None
        except OSError:
            return None  # it is met again, and given its meaning
        hold = Hold.__new__(Hold)
        hold._slots, hold._slot = slots, slot
        return hold

    cdef _learn(self, bytes message):
        """What the next frame like this one needs, once the decoder knows its head."""
        cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(message)
        cdef Py_ssize_t head_size
        cdef _Known known
        try:
            header = self._decoder.decode(memoryview(message))
        except WireError:
            return
        if header.arena is None or header.metadata or header.inline or len(message) > _MAX_PACKET:
            return
        stream = self._supplier.streams.get(header.stream)
        if stream is None or (stream.epoch, stream.last_seq) != (header.epoch, header.seq):
            return  # it was refused
        head_size = _head_size(data, data + sizeof(_Prefix) + (data[6] | data[7] << 8))
        if head_size < 0:
            return
        head = PyBytes_FromStringAndSize(<char*>data + sizeof(_Prefix), head_size)
        if head not in self._decoder.known:
            return
        known = _Known.__new__(_Known)
        known.stream, known.file, known.boot = header.stream, header.arena.file, header.boot
        known.epoch, known.unsent = header.epoch, header.unsent
        known.slot_start = _FIVE_ITEMS + packb(known.file)
        known.size = header.payload_size if header.shape else 0
        known.number = self._heads.number(header)
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[head] = known

    cdef _deliver(self, delivery, double now):
        """Send the frame that the supplier has moved under way."""
        cdef Worker worker = (<tuple>delivery)[0]
        cdef Mailbox mailbox = (<tuple>delivery)[1]
        cdef _Parcel parcel
        message = (<tuple>mailbox.in_flight)[6]
        session = self._by_worker.get(worker.name)
        bell = None if session is None else session.bell
        if bell is not None and type(message) is _Parcel:
            parcel = message
            descriptor = bell.descriptor
            if parcel._short.head in <set?>bell.told.numbers and self._connections.get(descriptor) is bell:
                if send(descriptor, &parcel._short, sizeof(FramePacket), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0:
                    return
        self._otherwise.deliver(delivery, now)


cdef Py_ssize_t _head_size(const uint8_t* data, const uint8_t* end) noexcept:
    """Bytes of a packed header up to the last key "arena"; -1 where there is none."""
    cdef Py_ssize_t size = len(_ARENA_KEY)
    cdef const uint8_t* first = data + sizeof(_Prefix)
    cdef const uint8_t* at = end - size
    while at >= first:
        if at[0] == <uint8_t>_ARENA_KEY[0] and not memcmp(at, <char*>_ARENA_KEY, size):
            return at - first
        at -= 1
    return -1

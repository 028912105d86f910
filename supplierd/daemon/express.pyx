# cython: language_level=3, boundscheck=False, wraparound=False, auto_pickle=False
"""express.py in C: see there what it is for, known.pyx for how a frame is read, and supplierd.wire.bell for what else is
read and written here. (docs/adr/0016-compiled-daemon.md)
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.errno cimport EAGAIN, ECONNRESET, EINTR, errno
from libc.math cimport ceil
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from posix.unistd cimport close, pread

from supplierd.arena.monotonic cimport monotonic
from supplierd.core.mailbox cimport Mailbox
from supplierd.core.stream cimport Stream
from supplierd.core.supplier cimport Supplier
from supplierd.core.worker cimport Worker
from supplierd.daemon.known cimport KnownHeads, KnownParcel
from supplierd.daemon.precedence cimport Precedence
from supplierd.transport.libzmq cimport (
    find_libzmq, libzmq_close, libzmq_data, libzmq_getsockopt, libzmq_init, libzmq_more, libzmq_receive, libzmq_size,
    zmq_message,
)
from supplierd.transport.open_files cimport are_few, open_counter
from supplierd.wire.crc32 cimport crc32
from supplierd.wire.packets cimport (
    MAX_PACKET, MSG_DONTWAIT, MSG_NOSIGNAL, DemandPacket, FramePacket, PutFile, PyErr_CheckSignals, poll, pollfd, recv,
    send,
)

import time

import zmq
from zmq.backend.cython import _zmq

from supplierd.core.mailbox import Report
from supplierd.core.refusals import FrameRefusedError
from supplierd.core.supplier import Reply
from supplierd.transport.sockets import (
    BURST, CATCH_UP, GATHER_MS, HEAR_AT_MOST, LONG_TICK, SERVED_LATELY, STOOD_STILL, TICK, Message,
)
from supplierd.wire import bell as _bell, doorbell as _doorbell
from supplierd.wire.control import OUTCOMES

cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        int fd
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_wait(int, epoll_event*, int, int)

cdef enum:
    _MAX_INBOXES = 8
    _EVENTS_AT_ONCE = 64

cdef int _EVENTS = zmq.EVENTS, _POLLIN = zmq.POLLIN, _NOBLOCK = zmq.NOBLOCK
cdef uint8_t _DEMAND_KIND = _bell.DEMAND_KIND
cdef tuple _OUTCOMES = ("", *OUTCOMES)
cdef object _NOTHING = Reply.NOTHING
cdef object _new_tuple = tuple.__new__
cdef int _BURST = BURST, _GATHER_MS = GATHER_MS
cdef double _STOOD_STILL = STOOD_STILL, _SERVED_LATELY = SERVED_LATELY, _TICK = TICK, _LONG_TICK = LONG_TICK
cdef double _HEAR_AT_MOST = HEAR_AT_MOST
cdef double _NEARLY = 0.75  # of the time to a tick, after which it is done when the loop is awake anyway, and nobody
# has just been sent a frame, who may want this core for it
cdef double _LEFT_FOR = 1.0  # seconds for which an inbox that had a long message is left to Python, which copies none

if (
    sizeof(DemandPacket) != _bell.DEMAND.size or sizeof(FramePacket) != _bell.FRAME.size
    or sizeof(PutFile) != _doorbell.SIZE or MAX_PACKET != _bell.MAX_PACKET
):
    raise ImportError("the formats of supplierd.wire have changed: compile this module anew")

cdef bint _has_libzmq = find_libzmq(<bytes>_zmq.__file__.encode())


cdef class Express:
    """The wait of one loop. Arguments as of the original."""

    cdef Supplier _supplier
    cdef KnownHeads _known
    cdef Precedence _precedence
    cdef object _waiter, _inboxes, _descriptors, _otherwise
    cdef dict _by_worker, _connections, _by_event
    cdef bint _gathers, _has_served
    cdef double _served_at, _ticked_at, _tick_after

    cdef long _changes  # of the waiter, as known here
    cdef pollfd* _awaited
    cdef int _open_files, _count, _bells_fd, _bells_at, _doorbells_fd, _doorbells_at
    cdef list _express_inboxes
    cdef int _inbox_at[_MAX_INBOXES]  # in _awaited
    cdef void* _sockets[_MAX_INBOXES]
    cdef double _left_until[_MAX_INBOXES]

    def __cinit__(self):
        self._awaited = NULL
        self._changes = self._open_files = -1

    def __init__(
        self, Supplier supplier not None, sessions, waiter, bells, inboxes, *, doorbells, parcels, decoder, max_message,
        descriptors, Precedence precedence not None, otherwise,
    ):
        self._supplier, self._waiter, self._inboxes = supplier, waiter, tuple(inboxes)
        self._known = KnownHeads(supplier, parcels, decoder, max_message)
        self._by_worker = sessions.by_worker
        self._connections = bells.connections if bells is not None else {}
        self._bells_fd = bells.descriptor if bells is not None else -1
        self._by_event = doorbells.by_event if doorbells is not None else {}
        self._doorbells_fd = doorbells.descriptor if doorbells is not None else -1
        self._descriptors, self._precedence, self._otherwise = descriptors, precedence, otherwise
        self._served_at = self._ticked_at = monotonic()
        self._tick_after, self._open_files = _TICK, open_counter()

    def __dealloc__(self):
        PyMem_Free(self._awaited)
        if self._open_files >= 0:
            close(self._open_files)

    def wait(self, double until):
        """Wait for something to happen that is not usual: what may be read then. It ends as the original does."""
        cdef double now, awaited, late
        cdef int ready
        while True:
            if self._waiter.changes != self._changes:
                self._learn_sources()
            now = monotonic()
            late = now - self._ticked_at - self._tick_after
            if late >= 0 or (late >= (_NEARLY - 1) * self._tick_after and not self._has_served):
                if late >= _STOOD_STILL:  # in the midst of a turn
                    time.sleep(CATCH_UP)
                if self._tick(now) or late >= _STOOD_STILL:
                    break
            self._has_served = False
            if now >= until or self._waiter.left:
                break
            awaited = min(until, self._ticked_at + self._tick_after)
            with nogil:
                ready = poll(self._awaited, self._count, <int>ceil(max(awaited - now, 0.0) * 1e3))
            PyErr_CheckSignals()
            now = monotonic()
            if now - awaited >= _STOOD_STILL:
                time.sleep(CATCH_UP)
                now = monotonic()
                if now - self._ticked_at >= self._tick_after:  # or it would be taken for another standstill
                    self._tick(now)
                break
            if ready == 0:  # as Waiter.wait does it when the time is over
                hidden = self._waiter.wait(0.0)
                if hidden:
                    return hidden
            elif ready > 0 and not self._serve(ready, now):
                break
        return self._waiter.wait(0.0)

    def served(self, Py_ssize_t deliveries, double arrived):
        """A frame that arrived at a time has gone out to so many workers."""
        self._served(deliveries, arrived)

    cdef _served(self, Py_ssize_t deliveries, double arrived):
        cdef Worker worker
        self._served_at, self._has_served, self._gathers = monotonic(), True, deliveries > 1
        if deliveries != len(self._supplier.workers):
            for worker in self._supplier.workers.values():
                if worker.expected(self._served_at):
                    self._gathers = False
        self._supplier.distribution.observe(self._served_at - arrived)
        self._precedence.served(deliveries, self._served_at)

    def hurry(self):
        """A frame could not be sent: it is tried again soon."""
        self._tick_after = _TICK

    cdef bint _tick(self, double now) except -1:
        """Time has passed; whether descriptors are short."""
        cdef Worker worker
        self._ticked_at, self._tick_after = now, _LONG_TICK
        for worker in self._supplier.workers.values():
            if worker.target_fps is not None:
                self._tick_after = _TICK
        for delivery in self._supplier.tick(now):
            self._deliver(delivery, now)
        return (self._descriptors.short or not are_few(self._open_files)) and self._descriptors.look()

    # --- waiting ------------------------------------------------------------------------------------------------------

    cdef _learn_sources(self):
        """What is waited for has changed."""
        cdef dict sources = self._waiter.sources
        cdef pollfd* awaited = <pollfd*>PyMem_Realloc(self._awaited, (len(sources) + 1) * sizeof(pollfd))
        if awaited is NULL:
            raise MemoryError
        self._awaited, self._count, self._bells_at, self._doorbells_at, self._express_inboxes = awaited, 0, -1, -1, []
        own = {i.socket: i for i in self._inboxes if _has_libzmq and i.conflate and i.local and not i.spent}
        for descriptor, source in sources.items():
            awaited[self._count].fd, awaited[self._count].events = descriptor, <short>_POLLIN
            awaited[self._count].revents = 0
            if <int>descriptor == self._bells_fd:
                self._bells_at = self._count
            if <int>descriptor == self._doorbells_fd:
                self._doorbells_at = self._count
            inbox = own.get(source)
            i = len(self._express_inboxes)
            if inbox is not None and i < _MAX_INBOXES:
                self._inbox_at[i], self._left_until[i] = self._count, 0.0
                self._sockets[i] = <void*><uint64_t>inbox.socket.underlying
                self._express_inboxes.append(inbox)
            self._count += 1
        self._changes = self._waiter.changes

    cdef bint _serve(self, int ready, double now) except -1:
        """Do what so many sources have; False where something of it is left, as it is not usual."""
        cdef int i
        if self._gathers and now - self._served_at < _SERVED_LATELY and ready == 1 and self._has(self._bells_at):
            ready = 1 + self._gather()
            now = monotonic()
        if self._usual(now) != ready or (self._has(self._bells_at) and not self._hear(now)):
            return False
        for i in range(len(self._express_inboxes)):
            if self._has(self._inbox_at[i]) and not self._take(i):
                return True  # something has come in between: it is looked for first
        return not self._has(self._doorbells_at) or self._answer_doorbells()

    cdef int _usual(self, double now):
        """How many of the sources that have something are usual."""
        cdef int i, count = self._has(self._bells_at) + self._has(self._doorbells_at)
        for i in range(len(self._express_inboxes)):
            count += self._has(self._inbox_at[i]) and now >= self._left_until[i]
        return count

    cdef bint _has(self, int place) noexcept:
        """Whether there is something to be read, or an error; -1 is no place."""
        return place >= 0 and self._awaited[place].revents != 0

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
        """Answer what the bells have; whether that was all, and none has ended."""
        cdef epoll_event events[_EVENTS_AT_ONCE]
        cdef uint8_t packet[MAX_PACKET]
        cdef ssize_t size
        cdef int i, count = epoll_wait(self._bells_fd, events, _EVENTS_AT_ONCE, 0)
        cdef bint complete = True
        for i in range(count):
            bell = self._connections.get(events[i].data.fd)
            if bell is None:  # somebody knocks, or it was closed for what was heard before
                complete = False
                continue
            size = recv(events[i].data.fd, packet, MAX_PACKET, MSG_DONTWAIT)
            if size == sizeof(DemandPacket) and packet[0] == _DEMAND_KIND and self._demand(bell, <DemandPacket*>packet, now):
                continue
            if size < 0 and (errno == EAGAIN or errno == EINTR or errno == ECONNRESET):
                continue  # see Bells.take
            self._otherwise.rung(bell, (<char*>packet)[:size] if size > 0 else b"", now)
            complete &= size > 0
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
        cdef double now, began = monotonic()
        cdef int events, burst, received
        cdef bint parts
        cdef size_t size
        cdef bytes copy
        inbox = self._express_inboxes[i]
        for burst in range(_BURST):
            now = monotonic()
            if now - began >= _HEAR_AT_MOST:
                break
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
            if len(copy) > MAX_PACKET:
                self._left_until[i] = now + _LEFT_FOR
            if not self._accept(copy, now):
                self._otherwise.take(inbox, Message(copy), now)
                self._known.learn(copy)
            if self._waiter.changes != self._changes:
                self._waiter.again(inbox.socket)
                return False
        self._waiter.again(inbox.socket)
        return True

    cdef bint _answer_doorbells(self) except -1:
        """Take what lies behind the doorbells; whether that was all."""
        cdef epoll_event events[_EVENTS_AT_ONCE]
        cdef PutFile put
        cdef ssize_t prefix = sizeof(put) - sizeof(put.message), size
        cdef int i, count = epoll_wait(self._doorbells_fd, events, _EVENTS_AT_ONCE, 0)
        cdef double now
        cdef bytes message
        cdef bint complete = True
        for i in range(count):
            doorbell = self._by_event.get(events[i].data.fd)
            if doorbell is None:  # somebody comes, or goes
                complete = False
                continue
            size = pread(doorbell.file, &put, sizeof(put), 0) - prefix
            if size <= 0 or not 0 < put.length <= <size_t>size:
                continue  # it was taken back
            if doorbell.number == put.number:
                continue
            if crc32(<uint8_t*>&put + sizeof(put.checksum), prefix - sizeof(put.checksum) + put.length) != put.checksum:
                continue  # it is just being replaced, of which we are told
            doorbell.number = put.number
            now, message = monotonic(), (<char*>put.message)[:put.length]
            if not self._accept(message, now):
                self._otherwise.take(doorbell.inbox, Message(message), now)
                self._known.learn(message)
        return complete

    cdef bint _accept(self, bytes message, double now) except -1:
        """Distribute a frame that arrived at `now`; False, and nothing was done, where that is not as simple."""
        cdef list deliveries
        cdef Stream stream
        frame = self._known.frame(message)
        if frame is None:
            return False
        stream = self._supplier.streams.get((<tuple>frame)[0])
        former = None if stream is None else stream.newest  # whose hold ends when this one is on its way
        try:
            deliveries = self._supplier.frame(frame, now)
        except FrameRefusedError as refused:
            self._otherwise.refuse_frame(frame[0], refused, now)
            return True
        for delivery in deliveries:
            self._deliver(delivery, now)
        self._served(len(deliveries), now)
        return True

    cdef _deliver(self, delivery, double now):
        """Send the frame that the supplier has moved under way."""
        cdef Worker worker = (<tuple>delivery)[0]
        cdef Mailbox mailbox = (<tuple>delivery)[1]
        cdef KnownParcel parcel
        message = (<tuple>mailbox.in_flight)[6]
        session = self._by_worker.get(worker.name)
        bell = None if session is None else session.bell
        if bell is not None and type(message) is KnownParcel:
            parcel = message
            descriptor = bell.descriptor
            if parcel.short.head in <set?>bell.told.numbers and self._connections.get(descriptor) is bell:
                if send(descriptor, &parcel.short, sizeof(FramePacket), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0:
                    return
        self._otherwise.deliver(delivery, now)

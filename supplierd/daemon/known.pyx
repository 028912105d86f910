# cython: language_level=3, boundscheck=False, wraparound=False, auto_pickle=False
"""A frame in shared memory like one that was taken before, read and leased in C, for express.pyx.

It has no twin in Python: there `Distribution` and `Parcels` read every frame, as they do here with all that is not
known. (docs/adr/0016-compiled-daemon.md)
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

from supplierd.arena.holding cimport Hold, Slots
from supplierd.wire.packets cimport MAX_PACKET, FramePacket, FramePrefix

from msgpack import packb

from supplierd.arena import Lease
from supplierd.core.stream import Frame
from supplierd.daemon.parcels import Parcel
from supplierd.transport.sockets import Message
from supplierd.wire import bell as _bell, frame as _wire
from supplierd.wire.errors import WireError

cdef enum:
    _MAX_KNOWN = 64

cdef bytes _MAGIC = _wire.MAGIC, _ARENA_KEY = _wire.ARENA_KEY
cdef uint8_t _VERSION = _wire.VERSION, _FLAG_ARENA = _wire.FLAG_ARENA, _FRAME_KIND = _bell.FRAME_KIND
cdef Py_ssize_t _ALIGNMENT = _wire.ALIGNMENT
cdef bytes _FIVE_ITEMS = packb([None] * 5)[:1]
cdef object _new_tuple = tuple.__new__

if sizeof(FramePrefix) != _wire.PREFIX.size:
    raise ImportError("the format of supplierd.wire has changed: compile this module anew")


@cython.final
cdef class _Known:
    """What the frames of one publisher's run in one arena have in common."""

    cdef str stream, file
    cdef bytes boot, slot_start
    cdef object epoch, unsent
    cdef uint64_t size  # of every payload; 0: any
    cdef uint32_t number  # of the head


@cython.final
cdef class KnownParcel:
    """A frame on its way, as daemon.parcels.Parcel: made when more is asked of it than to be rung."""

    cdef object _parcel(self):
        if self._whole is None:
            message = Message(self._message)
            header = _wire.decode(message.buffer)
            self._whole = Parcel(header, message, Lease(header.arena, self._hold._slots, self._hold), self._heads)
            self._whole.head = self.short.head  # a bell that is told it is rung here from then on
            self._whole.short = (<char*>&self.short)[:sizeof(FramePacket)]
        return self._whole

    @property
    def message(self):
        """The whole message."""
        return self._parcel().message

    def ring(self, bell):
        """As the original."""
        return self._parcel().ring(bell)

    def inline(self, most):
        """As the original."""
        return self._parcel().inline(most)


@cython.final
cdef class KnownHeads:
    """The heads of frames that were taken.

    Args:
        supplier, parcels, decoder, max_message: as of Express.
    """

    def __init__(self, supplier, parcels, decoder, max_message):
        self._heads, self._arenas = parcels.heads, parcels.reader.arenas
        self._decoder, self._supplier = decoder, supplier
        self._max_message = min(max_message, MAX_PACKET)
        self._known = {}

    cdef object frame(self, bytes message):
        """The frame of a message, leased; None, and nothing was done, where that is not as simple."""
        cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(message)
        cdef const FramePrefix* prefix = <const FramePrefix*>data
        cdef const uint8_t* at
        cdef const uint8_t* end
        cdef Py_ssize_t size = PyBytes_GET_SIZE(message), head_size
        cdef uint64_t slot, generation, offset, length
        cdef _Known known
        cdef KnownParcel parcel
        cdef Hold hold
        if not sizeof(FramePrefix) <= <size_t>size <= <size_t>self._max_message:
            return None
        end = data + sizeof(FramePrefix) + (prefix.header_size[0] | prefix.header_size[1] << 8)
        if (
            memcmp(prefix.magic, <char*>_MAGIC, 4) or prefix.version != _VERSION or prefix.flags != _FLAG_ARENA
            or not prefix.seq or (end - data + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT != size
        ):
            return None
        head_size = _head_size(data, end)
        if head_size < 0:
            return None
        known = self._known.get(PyBytes_FromStringAndSize(<char*>data + sizeof(FramePrefix), head_size))
        if known is None:
            return None
        at = data + sizeof(FramePrefix) + head_size + len(_ARENA_KEY)
        head_size = len(known.slot_start)
        if end - at <= head_size or memcmp(at, <char*>known.slot_start, head_size):
            return None
        slot = generation = offset = length = 0
        at = _number(at + head_size, end, &slot)
        at = _number(at, end, &generation)
        at = _number(at, end, &offset)
        at = _number(at, end, &length)
        if at != end or (known.size and length != known.size):
            return None
        hold = self._take(known.file, slot, generation, offset, length)
        if hold is None:
            return None
        parcel = KnownParcel.__new__(KnownParcel)
        parcel._hold, parcel._message, parcel._heads = hold, message, self._heads
        parcel.short = FramePacket(
            _FRAME_KIND, [0, 0, 0], known.number, prefix.seq, prefix.captured_wall, prefix.captured_mono, generation,
            offset, length, <uint32_t>slot, 0,
        )
        return _new_tuple(Frame, (known.stream, known.boot, known.epoch, prefix.seq, known.unsent, "", parcel))

    cdef Hold _take(self, str file, uint64_t slot, uint64_t generation, uint64_t offset, uint64_t size):
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

    cdef learn(self, bytes message):
        """What the next frame like this one needs, once the decoder knows its head."""
        cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(message)
        cdef Py_ssize_t head_size
        cdef _Known known
        if not <Py_ssize_t>sizeof(FramePrefix) < len(message) <= MAX_PACKET:
            return
        head_size = _head_size(data, data + min(sizeof(FramePrefix) + (data[6] | data[7] << 8), <size_t>len(message)))
        if head_size < 0:
            return
        head = PyBytes_FromStringAndSize(<char*>data + sizeof(FramePrefix), head_size)
        if head not in self._decoder.known:
            return
        try:
            header = self._decoder.decode(memoryview(message))
        except WireError:
            return
        if header.arena is None or header.inline:
            return
        stream = self._supplier.streams.get(header.stream)
        if stream is None or (stream.epoch, stream.last_seq) != (header.epoch, header.seq):
            return  # it was refused
        known = _Known.__new__(_Known)
        known.stream, known.file, known.boot = header.stream, header.arena.file, header.boot
        known.epoch, known.unsent = header.epoch, header.unsent
        known.slot_start = _FIVE_ITEMS + packb(known.file)
        known.size = header.payload_size if header.shape else 0
        known.number = self._heads.number(header)
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[head] = known


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


cdef Py_ssize_t _head_size(const uint8_t* data, const uint8_t* end) noexcept:
    """Bytes of a packed header up to the last key "arena"; -1 where there is none."""
    cdef Py_ssize_t size = len(_ARENA_KEY)
    cdef const uint8_t* first = data + sizeof(FramePrefix)
    cdef const uint8_t* at = end - size
    while at >= first:
        if at[0] == <uint8_t>_ARENA_KEY[0] and not memcmp(at, <char*>_ARENA_KEY, size):
            return at - first
        at -= 1
    return -1

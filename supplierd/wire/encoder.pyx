# cython: language_level=3, boundscheck=False, wraparound=False, auto_pickle=False
"""encoder.py in C: see there, and supplierd.wire.frame for what is written. (docs/adr/0018-compiled-publisher.md)"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memset

from supplierd.wire.packets cimport FramePrefix

from msgpack import packb

from supplierd.wire.frame import (
    ALIGNMENT, ARENA_KEY, FLAG_ARENA, MAGIC, MAX_HEADER_BYTES, PREFIX, VERSION, pack_header, whole_head,
)

cdef bytes _MAGIC = MAGIC, _ARENA_KEY = ARENA_KEY
cdef uint8_t _VERSION = VERSION, _FLAG_ARENA = FLAG_ARENA, _FIVE_ITEMS = packb([None] * 5)[0]
cdef Py_ssize_t _ALIGNMENT = ALIGNMENT, _MAX_HEADER_BYTES = MAX_HEADER_BYTES

cdef enum:
    _LONGEST_NAME = 255  # that is packed here
    _LONGEST_SLOT = 1 + 2 + _LONGEST_NAME + 4 * 9

if sizeof(FramePrefix) != PREFIX.size:
    raise ImportError("the format of supplierd.wire.frame has changed: compile this module anew")


cdef inline uint8_t* _number(uint8_t* at, uint64_t value) noexcept:
    """Write an unsigned number as msgpack does, in as few bytes as it takes; where it ends."""
    cdef int size, i
    if value < 0x80:
        at[0] = <uint8_t>value
        return at + 1
    size = 0 if value < 1 << 8 else 1 if value < 1 << 16 else 2 if value < <uint64_t>1 << 32 else 3
    at[0] = <uint8_t>(0xcc + size)
    size = 1 << size
    for i in range(size):
        at[size - i] = <uint8_t>(value >> 8 * i)
    return at + 1 + size


cdef class Encoder:
    """As the original."""

    cdef readonly object header
    cdef bytes _start

    def __init__(self, header):
        self.header = header._replace(arena=None)
        packed = pack_header(self.header)
        whole_head(0, 1, 0, 0, packed)  # refuses what is too long
        self._start = bytes((packed[0] + 1,)) + packed[1:] + _ARENA_KEY

    def encode(self, seq, captured_wall, captured_mono, arena):
        """As the original."""
        cdef uint8_t slot[_LONGEST_SLOT]
        cdef uint8_t* at = slot
        cdef FramePrefix prefix
        cdef Py_ssize_t length, size, whole, start = PyBytes_GET_SIZE(self._start)
        cdef uint64_t number, generation, offset, payload
        cdef const char* name
        cdef char* data
        file, number, generation, offset, payload = arena
        name = PyUnicode_AsUTF8AndSize(file, &length)
        if length > _LONGEST_NAME:
            return whole_head(_FLAG_ARENA, seq, captured_wall, captured_mono, self._start + packb(arena))
        try:
            prefix.seq, prefix.captured_wall, prefix.captured_mono = seq, captured_wall, captured_mono
        except OverflowError:
            return whole_head(_FLAG_ARENA, seq, captured_wall, captured_mono, b"")  # says what is wrong
        at[0], at = _FIVE_ITEMS, at + 1
        if length < 32:
            at[0], at = <uint8_t>(0xa0 | length), at + 1
        else:
            at[0], at[1], at = 0xd9, <uint8_t>length, at + 2
        memcpy(at, name, length)
        at = _number(at + length, number)
        at = _number(at, generation)
        at = _number(at, offset)
        at = _number(at, payload)
        size = start + (at - slot)
        if size > _MAX_HEADER_BYTES:
            return whole_head(_FLAG_ARENA, seq, captured_wall, captured_mono, bytes(size))  # says what is wrong
        memcpy(prefix.magic, <char*>_MAGIC, sizeof(prefix.magic))
        prefix.version, prefix.flags = _VERSION, _FLAG_ARENA
        prefix.header_size[0], prefix.header_size[1] = <uint8_t>size, <uint8_t>(size >> 8)
        whole = (<Py_ssize_t>sizeof(FramePrefix) + size + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT
        message = PyBytes_FromStringAndSize(NULL, whole)
        data = PyBytes_AS_STRING(message)
        memcpy(data, &prefix, sizeof(FramePrefix))
        memcpy(data + sizeof(FramePrefix), PyBytes_AS_STRING(self._start), start)
        memcpy(data + sizeof(FramePrefix) + start, slot, at - slot)
        memset(data + sizeof(FramePrefix) + size, 0, whole - sizeof(FramePrefix) - size)
        return message

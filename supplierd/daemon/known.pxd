"""What express.pyx uses of `known`."""

from libc.stdint cimport uint64_t

from supplierd.arena.holding cimport Hold
from supplierd.wire.packets cimport FramePacket


cdef class KnownParcel:
    cdef Hold _hold
    cdef bytes _message
    cdef object _heads, _whole
    cdef FramePacket short
    cdef object _parcel(self)


cdef class KnownHeads:
    cdef object _heads, _decoder, _supplier
    cdef dict _arenas, _known
    cdef Py_ssize_t _max_message
    cdef object frame(self, bytes message)
    cdef learn(self, bytes message)
    cdef Hold _take(self, str file, uint64_t slot, uint64_t generation, uint64_t offset, uint64_t size)

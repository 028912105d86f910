"""What other compiled modules may use of `holding`."""

from cpython.buffer cimport Py_buffer
from libc.stdint cimport uint64_t


cdef class Tally:
    cdef readonly Py_ssize_t held


cdef class Slots:
    cdef readonly object locks, header, mapping
    cdef Tally _tally
    cdef Py_ssize_t _count
    cdef uint64_t _first, _stride
    cdef Py_ssize_t* _holds
    cdef uint64_t* _shown
    cdef uint64_t* _taken
    cdef Py_buffer _memory
    cdef const uint64_t* _generations
    cdef object usual(
        self, uint64_t slot, uint64_t generation, uint64_t offset, uint64_t size, object dtype, tuple shape
    )
    cdef bint _take(self, Py_ssize_t slot, uint64_t generation) except -1
    cdef int _drop(self, Py_ssize_t slot) noexcept
    cdef _check(self, Py_ssize_t slot)
    cdef object _array(self, Py_ssize_t slot, uint64_t size, object dtype, tuple shape)


cdef class Hold:
    cdef Slots _slots
    cdef Py_ssize_t _slot

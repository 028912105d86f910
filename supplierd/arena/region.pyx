# cython: language_level=3, boundscheck=False, wraparound=False, auto_pickle=False
"""region.py in C: see there. (docs/adr/0018-compiled-publisher.md)"""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer

from supplierd.arena.ndarray cimport array_at


@cython.no_gc  # what it refers to never refers to it, and it must find that when it ends
cdef class Region:
    """As the original."""

    cdef object _ended, _what
    cdef Py_buffer _mapping
    cdef char* _start
    cdef Py_ssize_t _size

    def __cinit__(self, ended, what, mapping, Py_ssize_t offset, Py_ssize_t size):
        PyObject_GetBuffer(mapping.buffer, &self._mapping, PyBUF_WRITABLE)
        if not 0 <= offset <= offset + size <= self._mapping.len:
            raise ValueError(f"{size} bytes at {offset} are not in the mapping")
        self._ended, self._what = ended, what
        self._start, self._size = <char*>self._mapping.buf + offset, size

    def disarm(self):
        """As the original."""
        self._ended = None

    def array(self, dtype, shape):
        """As the original."""
        return array_at(self._start, self._size, dtype, tuple(shape), True, self)

    def __getbuffer__(self, Py_buffer* view, int flags):
        """NumPy asks its arrays' base when somebody wants to write to them again."""
        PyBuffer_FillInfo(view, self, self._start, self._size, False, flags)

    def __dealloc__(self):
        if self._mapping.buf is not NULL:
            PyBuffer_Release(&self._mapping)
        if self._ended is not None:
            self._ended(self._what)

# cython: language_level=3, boundscheck=False, wraparound=False, auto_pickle=False
"""region.py in C: see there. (docs/adr/0018-compiled-publisher.md)"""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer

from supplierd.arena.bytes_view cimport show_bytes

import numpy as np

cdef object _ndarray = np.ndarray, _dtype = np.dtype


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
        dtype = _dtype(dtype)
        if dtype.hasobject:
            raise TypeError(f"an array of {dtype} holds Python objects: expected numbers")
        shape = tuple(shape)
        if min(shape, default=0) < 0:
            raise ValueError(f"negative dimensions are not allowed, as in {shape}")
        array = _ndarray(shape, dtype, self)
        if <Py_ssize_t>array.nbytes != self._size:
            raise ValueError(f"an array of {array.dtype} and shape {array.shape} is not one of {self._size} bytes")
        return array

    def __getbuffer__(self, Py_buffer* view, int flags):
        view.obj = self
        show_bytes(view, self._start, &self._size, False, flags)

    def __dealloc__(self):
        if self._mapping.buf is not NULL:
            PyBuffer_Release(&self._mapping)
        if self._ended is not None:
            self._ended(self._what)

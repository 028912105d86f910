"""What an object that shows bytes of shared memory answers to who asks for a buffer."""

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES

cdef extern from *:
    char* BYTES_FORMAT "(char*)\"B\""  # as the struct module names them


cdef inline void show_bytes(Py_buffer* view, char* start, Py_ssize_t* size, bint readonly, int flags) noexcept:
    """All of a view but its `obj`. `size` must last as long as that does."""
    view.buf, view.len = start, size[0]
    view.readonly, view.itemsize, view.ndim = readonly, 1, 1
    view.format = BYTES_FORMAT if flags & PyBUF_FORMAT else NULL
    view.shape = size if flags & PyBUF_ND else NULL
    view.strides = &view.itemsize if flags & PyBUF_STRIDES == PyBUF_STRIDES else NULL
    view.suboffsets, view.internal = NULL, NULL

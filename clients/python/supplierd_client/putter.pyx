# cython: language_level=3, boundscheck=False, wraparound=False, auto_pickle=False
"""putter.py in C: see there, and supplierd.wire.doorbell for what is written. (docs/adr/0018-compiled-publisher.md)"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport EINTR, errno
from libc.stdint cimport uint64_t
from libc.string cimport memcpy
from posix.unistd cimport pwrite, write

from supplierd.wire.crc32 cimport crc32
from supplierd.wire.packets cimport MAX_PACKET, POLLIN, PutFile, poll, pollfd

from supplierd.wire import bell, doorbell

if sizeof(PutFile) != doorbell.SIZE or MAX_PACKET != bell.MAX_PACKET:
    raise ImportError("the format of supplierd.wire.doorbell has changed: compile this module anew")

cdef uint64_t _ONCE = 1


cdef class Putter:
    """As the original."""

    cdef int _line, _file, _event
    cdef uint64_t _number

    def __init__(self, int line, int file, int event):
        self._line, self._file, self._event, self._number = line, file, event, 0

    def put(self, bytes message not None):
        """As the original."""
        cdef PutFile put
        cdef bint is_put
        cdef Py_ssize_t length = PyBytes_GET_SIZE(message), size = sizeof(put) - sizeof(put.message) + length
        if length > <Py_ssize_t>sizeof(put.message):
            raise ValueError(f"a message of {length} bytes: expected at most {MAX_PACKET}")
        self._number += 1
        put.length, put.number = <unsigned>length, self._number
        memcpy(put.message, PyBytes_AS_STRING(message), length)
        put.checksum = crc32(<unsigned char*>&put + sizeof(put.checksum), size - sizeof(put.checksum))
        with nogil:  # the kernel may let the daemon run first
            is_put = (
                self._is_there() and pwrite(self._file, &put, size, 0) == size
                and write(self._event, &_ONCE, sizeof(_ONCE)) == sizeof(_ONCE)
            )
        return is_put

    def take_back(self):
        """As the original."""
        cdef PutFile nothing
        cdef Py_ssize_t size = sizeof(nothing) - sizeof(nothing.message)
        nothing.checksum = nothing.length = nothing.number = 0
        return self._is_there() and pwrite(self._file, &nothing, size, 0) == size

    cdef bint _is_there(self) noexcept nogil:
        cdef pollfd line
        cdef int said
        line.fd, line.events = self._line, <short>POLLIN
        while True:
            said = poll(&line, 1, 0)
            if said >= 0 or errno != EINTR:
                return said == 0

"""A slot's lock in C, as LockFile takes and drops it."""

from libc.errno cimport errno

cdef extern from "fcntl.h" nogil:
    struct flock:
        short l_type
        short l_whence
        long long l_start
        long long l_len
        int l_pid
    int fcntl(int, int, ...)
    int F_OFD_SETLK, F_RDLCK, F_UNLCK, F_WRLCK

cdef extern from "unistd.h":
    int SEEK_SET


cdef inline int lock_slot(int fd, int kind, Py_ssize_t slot) noexcept:
    """Errno where it cannot be done."""
    cdef flock request
    request.l_type, request.l_whence = <short>kind, <short>SEEK_SET
    request.l_start, request.l_len, request.l_pid = 2 + 2 * slot, 1, 0
    return 0 if fcntl(fd, F_OFD_SETLK, &request) == 0 else errno

"""How many files this process has open, for compiled modules; descriptors.py is for all others."""

cdef extern from "fcntl.h" nogil:
    enum:
        O_CLOEXEC, O_PATH
    int open(const char*, int)

cdef extern from "sys/resource.h" nogil:
    enum:
        RLIMIT_NOFILE
    struct rlimit_t "rlimit":
        unsigned long rlim_cur
    int getrlimit(int, rlimit_t*)

cdef extern from "sys/stat.h" nogil:
    struct stat_t "stat":
        long st_size
    int fstat(int, stat_t*)


cdef inline int open_counter() noexcept nogil:
    """A descriptor for `are_few`, -1 where there is none: to ask it costs a third of looking for the folder each time."""
    return open("/proc/self/fd", O_PATH | O_CLOEXEC)


cdef inline bint are_few(int counter) noexcept nogil:
    """Whether there are less than half of what is allowed now. Where that cannot be told, as before Linux 6.2, there
    are not."""
    cdef rlimit_t limit
    cdef stat_t status
    if fstat(counter, &status) or getrlimit(RLIMIT_NOFILE, &limit):
        return False
    return 0 < status.st_size and <unsigned long>status.st_size < limit.rlim_cur // 2

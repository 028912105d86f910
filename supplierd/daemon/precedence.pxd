cimport cython

cdef class Precedence:
    cdef str _schedstat
    cdef int _file
    cdef bint _gives_way
    cdef long long _waited
    cdef double _usually_late
    cdef double _insists_until, _insisted_for, _gives_way_since

    @cython.locals(waited=cython.longlong, late=cython.longlong)
    cpdef served(self, Py_ssize_t deliveries, double now)
    cdef _give_way(self, double now)
    cdef _insist(self, double now)
    cdef _take_precedence(self)
    cdef long long _waited_for_cores(self) except? -2

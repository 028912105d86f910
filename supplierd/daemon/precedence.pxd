cdef class Precedence:
    cdef str _schedstat
    cdef int _file
    cdef bint _gives_way
    cdef long long _waited
    cdef double _insists_until

    cpdef served(self, Py_ssize_t deliveries, double now)
    cdef _give_way(self)
    cdef _insist(self, double until)
    cdef long long _waited_for_cores(self) except? -2

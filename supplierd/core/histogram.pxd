cdef class Histogram:
    cdef public tuple bounds
    cdef public list counts
    cdef public double total

    cpdef observe(self, double value)

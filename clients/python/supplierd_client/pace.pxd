cdef class Pace:
    cdef public object epoch
    cdef public unsigned long long seq
    cdef public long long captured
    cdef public double interval, age, deviation

    cpdef bint suspects(self, double age)
    cpdef learn(self, object epoch, unsigned long long seq, long long captured, double age)

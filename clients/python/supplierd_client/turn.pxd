cimport cython

from supplierd_client.pace cimport Pace


cdef class Turn:
    cdef public object state, released, identity, outcome, held, session, number
    cdef public long long age, processing
    cdef public double next_at, max_age, handed_at, under_way_since, lost_after, repeat_after
    cdef public bint asked
    cdef public dict paces

    cpdef ask(self, double now)
    cpdef bint begin(self, double now)
    @cython.locals(pace=Pace)
    cpdef bint take(self, object identity, long long captured, double age, double now)
    cpdef hand_out(self, object identity, double age, double now)
    cpdef demand(self, double now)
    cpdef finish_processing(self, double now)

cpdef long long nanoseconds(double seconds)

cdef object _IDLE, _ASKING
cdef double _NEVER
cdef long long _LONGEST

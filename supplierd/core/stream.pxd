cimport cython
from supplierd.core.ledger cimport StreamLedger

cdef class _Run:
    cdef public bytes boot
    cdef public object epoch, unsent
    cdef public long long seq

cdef class Stream:
    cdef public str name
    cdef public object newest, last_frame_at, inline, _arrived_at
    cdef public double interval
    cdef public StreamLedger ledger
    cdef public _Run _run
    cdef public list _retired

    @cython.locals(run=_Run)
    cpdef str accept(self, object frame, double now, bint born_here)
    cdef _Run _begin(self, object frame, bint born_here)
    cdef _count_gap(self, _Run run, long long seq, object unsent)
    cdef _pace(self, double now, long long ahead)

cimport cython
from supplierd.core.histogram cimport Histogram
from supplierd.core.mailbox cimport Mailbox

cdef class Worker:
    cdef public bint any_stream, following, open_demand
    cdef public double asking_since, departed_at, last_taken_at, owed_from
    cdef public object attempt, client, inline_reason, instance, leases, name, number, pid, policy, replaced, session
    cdef public object state, target_fps
    cdef public dict mailboxes
    cdef public Histogram processing

    cpdef on(self, object event)
    cpdef bint begins(self, double now)
    @cython.locals(mailbox=Mailbox)
    cpdef bint expected(self, double now)
    @cython.locals(mailbox=Mailbox)
    cpdef Mailbox in_flight(self)
    @cython.locals(mailbox=Mailbox, chosen=Mailbox)
    cpdef Mailbox best(self, double now)


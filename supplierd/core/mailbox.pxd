cimport cython
from supplierd.core.histogram cimport Histogram
from supplierd.core.ledger cimport MailboxLedger
from supplierd.core.stream cimport Stream

cdef class Mailbox:
    cdef public Stream stream
    cdef public MailboxLedger ledger
    cdef public bint followed, owed
    cdef public object pending, in_flight, last_consumed_at, last_consumed_seq, _period, _window
    cdef public tuple _served, _before, _greeting
    cdef public double pending_since, last_served_at, _due
    cdef public long long consecutive_drops
    cdef public Histogram age

    @cython.locals(ledger=MailboxLedger)
    cpdef offer(self, object frame, double now)
    cpdef keep(self)
    cpdef miss(self, object frame, double now)
    cpdef bint ready(self, double now)
    cpdef take(self, double now)
    cpdef bint holds(self, object report)
    cpdef settle(self, str outcome)
    cpdef forget(self)
    cdef double _interval(self)
    cdef _spare(self)
    cdef _discard(self, str reason)

cdef class MailboxLedger:
    cdef public long long consumed, decimated, in_flight, offered, overwritten, pending
    cdef public dict discarded

    cpdef discard(self, str reason)

cdef class StreamLedger:
    cdef public long long published, received
    cdef public dict dropped

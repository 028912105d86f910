cimport cython
from supplierd.core.histogram cimport Histogram
from supplierd.core.mailbox cimport Mailbox
from supplierd.core.stream cimport Stream
from supplierd.core.worker cimport Worker

cdef class Supplier:
    cdef public object settings, rejected
    cdef public dict streams, workers, _followers, _sessions
    cdef public Histogram distribution
    cdef public object _boot, _started
    cdef public double _sampled_at

    @cython.locals(worker=Worker, mailbox=Mailbox, served=list)
    cpdef list tick(self, double now)
    @cython.locals(stream=Stream, worker=Worker, mailbox=Mailbox, served=list)
    cpdef list frame(self, object frame, double now)
    cpdef Worker session(self, object session)
    @cython.locals(worker=Worker)
    cpdef demand(self, object session, object number, object report, double now)
    @cython.locals(mailbox=Mailbox)
    cdef _serve(self, Worker worker, double now)
    cdef _take(self, Worker worker, Mailbox mailbox, double now)
    @cython.locals(mailbox=Mailbox)
    cpdef _settle(self, Worker worker, object report, str otherwise, double now)

cdef class Frame:
    cdef readonly object _header
    cdef object _metadata
    cdef readonly long long _captured_wall, _captured_mono
    cdef public unsigned long long seq
    cdef public double age
    cdef public object array

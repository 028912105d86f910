# cython: language_level=3, boundscheck=False, wraparound=False, auto_pickle=False
"""holding.py in C: see there for what each class is for. (docs/adr/0015-compiled.md)

All of it runs under the interpreter's lock from end to end, which stands for the lock and the queue of the original: no
line here gives it up, but for an import before anything is shown, and a finaliser that runs between two lines of Python
finds the counts whole.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.errno cimport EACCES, EAGAIN, errno
from libc.stdint cimport uint64_t
from posix.unistd cimport pread

from supplierd.arena.ndarray cimport array_at, load_numpy
from supplierd.arena.slot_lock cimport F_RDLCK, F_UNLCK, lock_slot

from .layout import TABLE_OFFSET

cdef extern from "Python.h":
    object PyErr_SetFromErrno(object)

cdef uint64_t _TABLE_OFFSET = TABLE_OFFSET


cdef class Tally:
    """How many frames the process of one reader holds: `held`."""


cdef class Slots:
    """The slots of one open arena. Safe to use from several threads."""

    def __cinit__(self, Tally tally not None, locks, header):
        self.locks, self.header, self._tally = locks, header, tally
        self._count, self._first, self._stride = header.slots, header.slots_offset, header.slot_size
        self._holds = <Py_ssize_t*>PyMem_Calloc(self._count, sizeof(Py_ssize_t))
        self._shown = <uint64_t*>PyMem_Calloc(self._count, sizeof(uint64_t))
        self._taken = <uint64_t*>PyMem_Calloc(self._count, sizeof(uint64_t))  # the generations of those that are held
        if self._holds is NULL or self._shown is NULL or self._taken is NULL:
            raise MemoryError

    def __init__(self, tally, locks, header):
        pass

    def __dealloc__(self):
        PyMem_Free(self._holds)
        PyMem_Free(self._shown)
        PyMem_Free(self._taken)
        PyBuffer_Release(&self._memory)

    def take(self, Py_ssize_t slot, uint64_t generation):
        """Hold a slot, once more, unless it is being written or has another generation. Raises OSError."""
        self._check(slot)
        return self._take(slot, generation)

    def drop(self, Py_ssize_t slot):
        """End one hold."""
        self._check(slot)
        self._drop(slot)

    def held(self):
        """The slots that are held, each with its frame's generation."""
        return [(slot, self._taken[slot]) for slot in range(self._count) if self._holds[slot]]

    def settle_anew(self):
        """In a forked child: there is nothing to settle here."""

    def show(self, mapping, Py_ssize_t slot, uint64_t size):
        """The first bytes of a slot are in memory: they may be handed out."""
        self._check(slot)
        if self.mapping is None:
            load_numpy()  # here, before anything is changed
            PyObject_GetBuffer(mapping.buffer, &self._memory, PyBUF_SIMPLE)
            self._generations = <const uint64_t*>(<char*>self._memory.buf + _TABLE_OFFSET)
            self.mapping = mapping
        self._shown[slot] = size

    def shown(self, Py_ssize_t slot):
        """How many bytes of a slot are."""
        self._check(slot)
        return self._shown[slot]

    def array(self, place, dtype, tuple shape not None):
        """Hold a slot for as long as the array, or any view of it, lives; None, and nothing has changed, where it is
        not in memory yet, or held already, or cannot be had. Raises ValueError and TypeError as `view` does."""
        _, slot, generation, offset, size = place
        try:
            return self.usual(slot, generation, offset, size, dtype, shape)
        except OverflowError:
            return None

    def view(self, Py_ssize_t slot, uint64_t size, dtype, tuple shape not None):
        """An array of a slot that is held and shown: with it, the hold ends.

        Raises:
            ValueError, TypeError: type and shape do not make the size; the hold has ended.
        """
        self._check(slot)
        try:
            return self._array(slot, size, dtype, shape)
        except BaseException:
            self._drop(slot)
            raise

    cdef object usual(
        self, uint64_t slot, uint64_t generation, uint64_t offset, uint64_t size, object dtype, tuple shape
    ):
        """`array`, for numbers."""
        cdef int fd
        if (
            slot >= <uint64_t>self._count or self._holds[slot] or offset != self._first + slot * self._stride
            or not 0 < size <= self._shown[slot] or generation % 2 or not generation
        ):
            return None
        fd = self.locks.fd
        if lock_slot(fd, F_RDLCK, slot):
            return None  # it is met again, and given its meaning
        if self._generations[slot] != generation:
            lock_slot(fd, F_UNLCK, slot)
            return None
        self._taken[slot] = generation
        self._holds[slot] += 1
        self._tally.held += 1
        try:
            return self._array(slot, size, dtype, shape)
        except BaseException:
            self._drop(slot)
            raise

    cdef object _array(self, Py_ssize_t slot, uint64_t size, object dtype, tuple shape):
        cdef Hold hold = Hold.__new__(Hold)
        hold._slot = slot  # it ends nothing before it has its slots
        if self._memory.buf is NULL or size > self._shown[slot]:
            raise ValueError("the slot is not in memory")
        array = array_at(<char*>self._memory.buf + self._first + slot * self._stride, size, dtype, shape, False, hold)
        hold._slots = self
        return array

    cdef bint _take(self, Py_ssize_t slot, uint64_t generation) except -1:
        cdef int fd = self.locks.fd, problem
        cdef bint first = not self._holds[slot]
        cdef uint64_t found = 0
        if first:
            problem = lock_slot(fd, F_RDLCK, slot)
            if problem == EAGAIN or problem == EACCES:
                return False
            if problem:
                PyErr_SetFromErrno(OSError)
        if self._generations is not NULL:
            found = self._generations[slot]
        elif pread(fd, &found, sizeof(found), _TABLE_OFFSET + 8 * slot) < 0:  # nothing is mapped before it is looked at
            try:
                PyErr_SetFromErrno(OSError)
            finally:
                if first:
                    lock_slot(fd, F_UNLCK, slot)
        if found == generation:
            self._taken[slot] = generation
            self._holds[slot] += 1
            self._tally.held += 1
        elif first:
            lock_slot(fd, F_UNLCK, slot)
        return found == generation

    cdef int _drop(self, Py_ssize_t slot) noexcept:
        cdef int fd
        self._tally.held -= 1
        self._holds[slot] -= 1
        if not self._holds[slot]:
            fd = self.locks.fd
            if fd >= 0:  # else it is closed, and the kernel has unlocked all
                lock_slot(fd, F_UNLCK, slot)
        return 0

    cdef _check(self, Py_ssize_t slot):
        if not 0 <= slot < self._count:
            raise IndexError(f"slot {slot} of {self._count}")


@cython.no_gc  # what it refers to never refers to it, and it must find that when it ends
cdef class Hold:
    """One hold on a slot that was taken: it ends with this object, which is what the arrays of `Slots` have as base."""

    def __init__(self, Slots slots not None, Py_ssize_t slot):
        slots._check(slot)
        self._slots, self._slot = slots, slot

    def __dealloc__(self):
        if self._slots is not None:
            self._slots._drop(self._slot)

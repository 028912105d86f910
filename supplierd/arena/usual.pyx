# cython: language_level=3, boundscheck=False, wraparound=False, auto_pickle=False
"""What a writer does for nearly every frame, in one go: see usual.py, writer.py and pool.py for what each step means.
(docs/adr/0018-compiled-publisher.md)

The writer's state stays where it is, and changes as in Arena.take, Arena.publish and ArenaWriter._publish. Whatever is
found to be unusual is found before anything is changed.
"""

from cpython.memoryview cimport PyMemoryView_Check, PyMemoryView_GET_BUFFER
from libc.stdint cimport uint64_t
from libc.string cimport memmove
from posix.unistd cimport getpid

from supplierd.arena.monotonic cimport monotonic
from supplierd.arena.ndarray cimport (
    ARRAY, NPY_ITEM_REFCOUNT, PyArray_Check, PyArray_DATA, PyArray_DESCR, PyArray_IS_C_CONTIGUOUS, PyArray_NBYTES,
    PyDataType_FLAGCHK, load_numpy,
)
from supplierd.arena.slot_lock cimport F_UNLCK, F_WRLCK, lock_slot

from .layout import MAX_FRAME, TABLE_OFFSET, Descriptor

cdef uint64_t _TABLE_OFFSET = TABLE_OFFSET
cdef object _new_tuple = tuple.__new__

cdef enum:
    _LONG_COPY = 262144  # bytes, from which on others may run meanwhile; to let them costs more than to copy less


cdef struct _Slot:
    Py_ssize_t number
    char* start
    uint64_t* generation
    uint64_t offset  # in the arena's file


def store(writer, array):
    """As the original."""
    cdef _Slot slot
    cdef void* content
    cdef Py_ssize_t size
    load_numpy()
    if (
        not PyArray_Check(array) or not PyArray_IS_C_CONTIGUOUS(ARRAY(array))
        or PyDataType_FLAGCHK(PyArray_DESCR(ARRAY(array)), NPY_ITEM_REFCOUNT)
    ):
        return None
    content, size = PyArray_DATA(ARRAY(array)), PyArray_NBYTES(ARRAY(array))
    if not _take(writer, size, &slot):
        return None
    if size < _LONG_COPY:
        memmove(slot.start, content, size)  # it may be an array of this very slot
    else:
        with nogil:
            memmove(slot.start, content, size)
    return _publish(writer, writer._arena, &slot, size)


def take(writer, size):
    """As the original."""
    cdef _Slot slot
    if type(size) is int and 0 < size <= MAX_FRAME and _take(writer, size, &slot):
        return writer._arena, slot.number
    return None


def publish(writer, arena, Py_ssize_t number, Py_ssize_t size):
    """As the original."""
    cdef _Slot slot
    if writer._retired or writer._closed or writer._published + 1 >= writer._review_at:
        return None
    _find(arena, number, &slot)
    return _publish(writer, arena, &slot, size)


cdef int _find(arena, Py_ssize_t number, _Slot* slot) except -1:
    """Where a slot is, as long as the arena lives: its table is a view of the mapping."""
    table, header = arena.table, arena.header
    if not PyMemoryView_Check(table):
        raise TypeError("the arena has no table of generations")
    slot.number = number
    slot.offset = <uint64_t>header.slots_offset + <uint64_t>number * <uint64_t>header.slot_size
    slot.generation = <uint64_t*>PyMemoryView_GET_BUFFER(table).buf + number
    slot.start = <char*>PyMemoryView_GET_BUFFER(table).buf - _TABLE_OFFSET + slot.offset
    return 0


cdef bint _take(writer, Py_ssize_t size, _Slot* slot) except -1:
    """Lend a slot of the present arena; False, and nothing was done, where that is not as simple."""
    cdef Py_ssize_t number
    cdef list warm
    arena = writer._arena
    if (
        arena is None or writer._closed or writer._returned or writer._retired or <long>writer._pid != getpid()
        or monotonic() >= <double>writer._look_at or <long>writer._published + 1 >= <long>writer._review_at
        or arena.depth or not 0 < size <= <Py_ssize_t>arena.header.slot_size
    ):
        return False
    warm = arena.warm
    if not warm:
        return False
    number = warm[len(warm) - 1]
    if <Py_ssize_t>(<list>arena.allocated)[number] < size:
        return False
    _find(arena, number, slot)
    if lock_slot(arena.locks.fd, F_WRLCK, number):
        return False
    del warm[len(warm) - 1]
    arena.generation += 2
    arena.lent += 1
    slot.generation[0] = <uint64_t>arena.generation - 1
    return True


cdef object _publish(writer, arena, _Slot* slot, Py_ssize_t size):
    """End a loan with a frame, where nothing stands against it."""
    spared = arena.spared
    arena.lent -= 1
    writer._published += 1
    arena.last_published = writer._published
    (<list>arena.published_at)[slot.number] = writer._published
    spared.append(slot.number)
    if len(spared) > writer._spare:
        (<list>arena.warm).append(spared.popleft())
    if size > <Py_ssize_t>arena.largest:
        arena.largest = size
    slot.generation[0] += 1
    lock_slot(arena.locks.fd, F_UNLCK, slot.number)
    return _new_tuple(Descriptor, (arena.name, slot.number, slot.generation[0], slot.offset, size))

# cython: language_level=3, boundscheck=False, wraparound=False, auto_pickle=False
"""What a writer does for nearly every frame, in one go: see usual.py, writer.py and pool.py for what each step means.
(docs/adr/0018-compiled-publisher.md)

The writer's state stays where it is, and changes as in Arena.take, Arena.publish and ArenaWriter._publish. Whatever is
found to be unusual is found before anything is changed.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint64_t
from libc.string cimport memmove
from posix.unistd cimport getpid

from supplierd.arena.monotonic cimport monotonic
from supplierd.arena.slot_lock cimport F_UNLCK, F_WRLCK, lock_slot

from .layout import MAX_FRAME, TABLE_OFFSET, Descriptor

cdef uint64_t _TABLE_OFFSET = TABLE_OFFSET
cdef object _new_tuple = tuple.__new__

cdef enum:
    _LONG_COPY = 262144  # bytes, from which on others may run meanwhile; to let them costs more than to copy less


cdef struct _Memory:
    char* start
    uint64_t* generation
    uint64_t offset  # of the slot, from the start


cdef void _map_slot(object arena, Py_ssize_t slot, Py_buffer* view, _Memory* memory) except *:
    """Where a slot is, as long as the view is not released."""
    header = arena.header
    PyObject_GetBuffer(arena.mapping.buffer, view, PyBUF_WRITABLE)
    memory.start = <char*>view.buf
    memory.generation = <uint64_t*>(memory.start + _TABLE_OFFSET) + slot
    memory.offset = <uint64_t>header.slots_offset + <uint64_t>slot * <uint64_t>header.slot_size


def store(writer, array):
    """As the original."""
    cdef Py_buffer content, view
    cdef _Memory memory
    cdef Py_ssize_t slot
    if array.dtype.hasobject:
        return None
    try:
        PyObject_GetBuffer(array, &content, PyBUF_SIMPLE)
    except (BufferError, ValueError):  # it is not in one piece, or of a type that buffers do not know
        return None
    try:
        slot = _take(writer, content.len)
        if slot < 0:
            return None
        arena = writer._arena
        _map_slot(arena, slot, &view, &memory)
        if content.len < _LONG_COPY:
            memmove(memory.start + memory.offset, content.buf, content.len)  # it may be an array of this very slot
        else:
            with nogil:
                memmove(memory.start + memory.offset, content.buf, content.len)
        PyBuffer_Release(&view)
        return publish(writer, arena, slot, content.len)
    finally:
        PyBuffer_Release(&content)


def take(writer, size):
    """As the original."""
    cdef Py_ssize_t slot = -1
    if type(size) is int and 0 < size <= MAX_FRAME:
        slot = _take(writer, size)
    return None if slot < 0 else (writer._arena, slot)


cdef Py_ssize_t _take(writer, Py_ssize_t size) except -2:
    """A slot of the present arena; -1, and nothing was done, where that is not as simple."""
    cdef Py_buffer view
    cdef _Memory memory
    cdef Py_ssize_t slot
    cdef list warm
    arena = writer._arena
    if (
        arena is None or writer._closed or writer._returned or writer._retired or <long>writer._pid != getpid()
        or monotonic() >= <double>writer._look_at or <long>writer._published + 1 >= <long>writer._review_at
        or arena.depth or not 0 < size <= <Py_ssize_t>arena.header.slot_size
    ):
        return -1
    warm = arena.warm
    if not warm:
        return -1
    slot = warm[len(warm) - 1]
    if <Py_ssize_t>(<list>arena.allocated)[slot] < size or lock_slot(arena.locks.fd, F_WRLCK, slot):
        return -1
    del warm[len(warm) - 1]
    arena.generation += 2
    arena.lent += 1
    _map_slot(arena, slot, &view, &memory)
    memory.generation[0] = <uint64_t>arena.generation - 1
    PyBuffer_Release(&view)
    return slot


cpdef publish(writer, arena, Py_ssize_t slot, Py_ssize_t size):
    """As the original."""
    cdef Py_buffer view
    cdef _Memory memory
    cdef uint64_t generation
    number = writer._published + 1
    if writer._retired or writer._closed or number >= writer._review_at:
        return None
    spared = arena.spared
    arena.lent -= 1
    (<list>arena.published_at)[slot] = number
    arena.last_published = writer._published = number
    spared.append(slot)
    if len(spared) > writer._spare:
        (<list>arena.warm).append(spared.popleft())
    if size > <Py_ssize_t>arena.largest:
        arena.largest = size
    _map_slot(arena, slot, &view, &memory)
    generation = memory.generation[0] + 1
    memory.generation[0] = generation
    PyBuffer_Release(&view)
    lock_slot(arena.locks.fd, F_UNLCK, slot)
    return _new_tuple(Descriptor, (arena.name, slot, generation, memory.offset, size))

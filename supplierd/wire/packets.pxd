"""What both ends share in C: a frame message's prefix (supplierd.wire.frame), the packets of supplierd.wire.bell, the
file of supplierd.wire.doorbell, and the system calls they go by.

hatch_build.py compiles nothing on a machine that is not little-endian.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1

cdef extern from "poll.h" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd*, unsigned long, int)
    int POLLIN

cdef extern from "sys/socket.h" nogil:
    ssize_t send(int, const void*, size_t, int)
    ssize_t recv(int, void*, size_t, int)
    int MSG_DONTWAIT, MSG_NOSIGNAL

cdef packed struct FramePrefix:
    uint8_t magic[4]
    uint8_t version
    uint8_t flags
    uint8_t header_size[2]
    uint64_t seq
    int64_t captured_wall
    int64_t captured_mono

cdef enum:
    MAX_PACKET = 4096

cdef packed struct DemandPacket:
    uint8_t kind
    uint8_t outcome
    uint8_t zeros[2]
    uint32_t leases
    uint64_t session
    uint64_t number
    uint64_t epoch
    uint64_t seq
    int64_t age
    int64_t processing

cdef packed struct PutFile:
    uint32_t checksum
    uint32_t length
    uint64_t number
    uint8_t message[MAX_PACKET]

cdef packed struct FramePacket:
    uint8_t kind
    uint8_t zeros[3]
    uint32_t head
    uint64_t seq
    int64_t captured_wall
    int64_t captured_mono
    uint64_t generation
    uint64_t offset
    uint64_t size
    uint32_t slot
    uint32_t more_zeros

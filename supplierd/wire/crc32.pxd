"""zlib.crc32 in C, for the some hundred bytes of a put, whose reader and writer have been idle: its table is one line of
the cache. The longest put, 4 KiB, takes 16 µs."""

from libc.stdint cimport uint8_t, uint32_t

cdef extern from *:
    """
    static const uint32_t supplierd_crc32_of_nibble[16] __attribute__((aligned(64))) = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    """
    const uint32_t* _of_nibble "supplierd_crc32_of_nibble"


cdef inline uint32_t crc32(const uint8_t* content, size_t size) noexcept nogil:
    cdef uint32_t checksum = 0xffffffff
    cdef size_t i
    for i in range(size):
        checksum ^= content[i]
        checksum = (checksum >> 4) ^ _of_nibble[checksum & 15]
        checksum = (checksum >> 4) ^ _of_nibble[checksum & 15]
    return ~checksum

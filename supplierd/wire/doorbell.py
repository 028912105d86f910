"""The doorbell of an inbox: by which a publisher on the daemon's machine puts a reference to shared memory.

It is a place for one message: a file in memory, which the publisher writes over and over, and an eventfd, by which it
says that it has. So the newest message replaces the one before, as it does in a conflated socket. The messages are
those of supplierd.wire.frame, up to bell.MAX_PACKET bytes long; what is longer, as a frame with much metadata is, goes
over ZeroMQ.

    offset  size  little-endian
         0     4  checksum     CRC-32 of all that follows, up to the message's end
         4     4  length       of the message
         8     8  number       of the put, another one than that of the last
        16        the message

Who reads while it is written finds a wrong checksum, and is told again when it is written. A publisher takes back
what was not read by writing zeros there.

Who connects to the doorbell's path is sent GREETING, and with it the descriptors of the file and of the eventfd. The
connection says nothing more; as long as it lasts, the daemon does.
"""

import os
import struct
import zlib
from typing import Final

from supplierd.wire.bell import MAX_PACKET
from supplierd.wire.endpoints import MAX_IPC_PATH_BYTES
from supplierd.wire.frame import MAGIC, VERSION

GREETING: Final = MAGIC + bytes([VERSION])
PUT: Final = struct.Struct("<IIQ")
SIZE: Final = PUT.size + MAX_PACKET
"""Bytes of the file."""
NOTHING: Final = bytes(PUT.size)
_CHECKED: Final = struct.Struct("<IQ")
_IPC: Final = "ipc://"
_SUFFIX: Final = ".doorbell"


def doorbell_path(inbox: str) -> str:
    """Where the doorbell of an inbox is, by its endpoint; "" for one that can have none: it is not on this machine, or
    its path leaves no room for another."""
    path = inbox.removeprefix(_IPC) + _SUFFIX
    return path if inbox.startswith(_IPC) and len(os.fsencode(path)) <= MAX_IPC_PATH_BYTES else ""


def encode_put(number: int, message: bytes) -> bytes:
    """What the file has after a put. `message` has at most MAX_PACKET bytes."""
    checked = _CHECKED.pack(len(message), number) + message
    return zlib.crc32(checked).to_bytes(4, "little") + checked


def decode_put(content: bytes) -> tuple[int, bytes] | None:
    """The number and the message of a put; None where nothing is there, or it is just being written."""
    if len(content) < PUT.size:
        return None
    checksum, length, number = PUT.unpack_from(content)
    end = PUT.size + length
    if end > len(content) or not length or zlib.crc32(content[4:end]) != checksum:
        return None
    return number, content[PUT.size : end]

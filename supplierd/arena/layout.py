"""What an arena file looks like and what names a frame in it: pure checks, and the one way to open a file of others.

    0     8       10    12      16          24             32    36      4096                 slots_offset
    | magic | version | 0 | slots | slot_size | slots_offset | pid | 0 …   | generation × slots | slot 0 | slot 1 …
      8s      u16      u16  u32     u64         u64            u32           native u64           page-aligned

Little-endian, but for the generations (native: both sides are on one machine). A generation is 0 or odd while its slot
holds no frame, else even, and never comes twice. The file is sparse: a slot takes memory from its first use on.
Nothing read from a file is believed before `Header.parse` has held it against the size of the file.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import struct
from mmap import PAGESIZE
from pathlib import Path
from typing import NamedTuple

from .errors import ArenaUnavailableError, Reason

MIN_SLOTS = 4  # fewer leave nothing beside the spared ones
MAX_SLOTS = 1024  # as many as a daemon can have workers
MAX_FRAME = 1 << 30  # bytes; the largest message that a daemon can be configured to take
MAX_SLOT = 2 * MAX_FRAME  # bytes; writers leave room for larger frames
TABLE_OFFSET = 4096
_MAGIC, _VERSION = b"SDARENA\0", 1
_HEADER = struct.Struct("<8sHHIQQI")
_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})-[0-9a-f]{16}\.arena")


def whole_pages(size: int) -> int:
    """`size` bytes, rounded up to whole pages."""
    return -(-size // PAGESIZE) * PAGESIZE


def new_name(stream: str) -> str:
    """A fresh file name for an arena of `stream`. Raises ValueError when the stream's name could not be part of one."""
    name = f"{stream}-{secrets.token_hex(8)}.arena"
    if stream_of(name) != stream:
        raise ValueError(f"{stream!r} cannot name an arena: expected 1 to 64 of A-Z a-z 0-9 . _ - , no sign first")
    return name


def stream_of(name: str) -> str | None:
    """The stream whose arena has this file name; None when it is not the name of an arena."""
    match = _NAME.fullmatch(name)
    return match[1] if match else None


class Descriptor(NamedTuple):
    """Names one frame: what travels in a message instead of the pixels.

    `arena` is a plain file name in the arena directory; `offset`, from the start of that file, and `size` are in bytes.
    """

    arena: str
    slot: int
    generation: int
    offset: int
    size: int


Place = tuple[str, int, int, int, int]
"""What a Descriptor says, as a plain tuple: one is made for each frame, and costs less."""


def bad_descriptor(descriptor: object, why: str) -> ArenaUnavailableError:
    """The refusal of a descriptor that no writer of ours can have made."""
    text = f"refused descriptor {descriptor!r:.200}: {why}; its sender is broken or hostile, look at the publisher"
    return ArenaUnavailableError(Reason.BAD_DESCRIPTOR, text)


class Header(NamedTuple):
    """The fixed facts of one arena; sizes and offsets in bytes."""

    slots: int
    slot_size: int
    slots_offset: int
    pid: int

    @classmethod
    def plan(cls, slots: int, slot_size: int) -> Header:
        """The layout of a new arena of this process."""
        return cls(slots, whole_pages(slot_size), whole_pages(TABLE_OFFSET + 8 * slots), os.getpid())

    @classmethod
    def parse(cls, data: bytes, file_size: int) -> Header:
        """Read and verify the first bytes of a file of `file_size` bytes. Raises ArenaUnavailableError."""
        if len(data) < _HEADER.size:
            raise _bad_arena(f"it has {len(data)} bytes, expected a header of at least {_HEADER.size}")
        magic, version, _, slots, slot_size, slots_offset, pid = _HEADER.unpack_from(data)
        if magic != _MAGIC:
            raise _bad_arena(f"it starts with {magic!r}, expected {_MAGIC!r}")
        if version != _VERSION:
            raise _bad_arena(f"its layout has version {version}, expected {_VERSION}: update the older side")
        header = cls(slots, slot_size, slots_offset, pid)
        if not MIN_SLOTS <= slots <= MAX_SLOTS:
            raise _bad_arena(f"it claims {slots} slots, expected {MIN_SLOTS} to {MAX_SLOTS}")
        if slot_size > MAX_SLOT:
            raise _bad_arena(f"it claims slots of {slot_size} bytes, expected at most {MAX_SLOT}")
        if slots_offset != whole_pages(TABLE_OFFSET + 8 * slots) or not slot_size or slot_size % PAGESIZE:
            raise _bad_arena(f"its slots of {slot_size} bytes at {slots_offset} do not start on pages behind its table")
        if header.file_size != file_size:
            raise _bad_arena(f"it has {file_size} bytes, its header speaks of {header.file_size}")
        return header

    def pack(self) -> bytes:
        """The bytes at the start of the file."""
        return _HEADER.pack(_MAGIC, _VERSION, 0, self.slots, self.slot_size, self.slots_offset, self.pid)

    @property
    def file_size(self) -> int:
        """How long the file is."""
        return self.offset(self.slots)

    def offset(self, slot: int) -> int:
        """Where `slot` starts in the file."""
        return self.slots_offset + slot * self.slot_size


def _bad_arena(why: str) -> ArenaUnavailableError:
    return ArenaUnavailableError(Reason.BAD_ARENA, f"not an arena that can be read: {why}; frames go inline")


def open_arena(path: Path) -> tuple[int, Header]:
    """Open somebody else's arena read-only and verify it: (file descriptor, header).

    Raises OSError (a link is refused with ELOOP), and ArenaUnavailableError for what is no arena.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise _bad_arena(f"{path} is not a regular file")
        return fd, Header.parse(os.pread(fd, _HEADER.size, 0), status.st_size)
    except BaseException:
        os.close(fd)
        raise

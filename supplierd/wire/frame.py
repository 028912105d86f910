"""The frame message: one ZeroMQ part that carries one frame of one stream.

    offset  size  field            little-endian
         0     4  magic            b"SPLF"
         4     1  version          1
         5     1  flags            bit 0: the payload is in an arena and the header's `arena` names its slot
         6     2  header_size      bytes of the msgpack map that follows the prefix
         8     8  seq              unsigned; 1, 2, 3 … within an epoch
        16     8  captured_wall    signed; ns since the Unix epoch
        24     8  captured_mono    signed; ns of the publisher's CLOCK_MONOTONIC
        32     …  header           msgpack map, see Header; no list or map in it has more than 1024 items
         …     …  zeros            up to the next multiple of 64, so that an array in the payload is aligned
         …     …  payload          at least one byte; none where flag bit 0 is set

One part, because CONFLATE breaks messages of several. Decoding never copies a payload: it says where it begins.
Every length is checked before it is used; a frame that does not fit the rules raises WireError.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgpack

from supplierd.wire.errors import WireError, shown
from supplierd.wire.names import is_name

MAGIC: Final = b"SPLF"
VERSION: Final = 1
FLAG_ARENA: Final = 0x01
ALIGNMENT: Final = 64
"""A cache line, and the widest vector register's alignment."""
MAX_HEADER_BYTES: Final = 0xFFFF
"""What the prefix's length field can say."""
MAX_ITEMS: Final = 1024
"""Of one list or map in what a client sends: msgpack makes room for the length that is claimed, at up to 1024 levels,
so that 64 KiB of nested claims of 65,535 items cost 100 ms; such of 1024 cost 8."""
MAX_ENCODING_LENGTH: Final = 32
MAX_DIMENSIONS: Final = 8

PREFIX: Final = struct.Struct("<4sBBHQqq")
_FLAGS_OFFSET: Final = 5
_ZEROS: Final = bytes(ALIGNMENT)
_ITEM_SIZES: Final = {
    f"{order}{kind}{size}": size
    for kind, sizes in {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8, 16), "c": (8, 16, 32)}.items()
    for size in sizes
    for order in "<>|"
}
"""Bytes of an element by dtype: every plain number type that NumPy has."""
_UINT64_MAX: Final = (1 << 64) - 1
ARENA_KEY: Final = msgpack.packb("arena")
_NIL: Final = msgpack.packb(None)
_KNOWN_HEADERS: Final = 64
"""Headers that a decoder remembers: one for each stream and epoch, and in passing others of a stranger's making."""
_KNOWN_BYTES: Final = 1024
"""Of the longest of them."""

UNPACK_ERRORS: Final = (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException)
"""Everything that msgpack.unpackb raises for bytes that are not one msgpack object."""


def unpack_limits(items: int) -> dict[str, int]:
    """Arguments of msgpack.unpackb for what has at most so many items in one list or map."""
    return {"max_array_len": items, "max_map_len": items}


UNPACK_LIMITS: Final = unpack_limits(MAX_ITEMS)

RAW: Final = "raw"
"""Encoding of an uncompressed array; the only one that needs dtype and shape."""


class ArenaRef(NamedTuple):
    """A slot of an arena: where the payload lies instead of in the message."""

    file: str
    slot: int
    generation: int
    offset: int
    size: int


class Header(NamedTuple):
    """What a frame message says about its frame.

    Attributes:
        stream: name of the stream.
        epoch: the publisher's run, as ns of its CLOCK_MONOTONIC at its start: runs of one boot are ordered by it.
        boot: 16 bytes, the boot id of the publisher's machine: says whose CLOCK_MONOTONIC the times are.
        seq: number of the frame in its epoch, from 1.
        captured_wall: capture time, ns since the Unix epoch.
        captured_mono: capture time, ns of CLOCK_MONOTONIC.
        unsent: how many frames of this epoch the publisher could not hand to a connection so far.
        encoding: "raw", or a name like "jpeg"; supplierd itself never decodes.
        dtype: element type of a raw array as in NumPy's array interface, like "|u1"; "" otherwise.
        shape: dimensions of a raw array; () otherwise.
        metadata: the publisher's own map.
        arena: the slot that holds the payload, or None where the payload follows the header.
        inline: why a publisher that could use shared memory did not; "" where it did, or cannot.
        payload_offset: where the payload begins in the message, in bytes.
        payload_size: its length in bytes (of the slot's content, where there is one).
    """

    stream: str
    epoch: int
    boot: bytes
    seq: int
    captured_wall: int
    captured_mono: int
    unsent: int = 0
    encoding: str = RAW
    dtype: str = ""
    shape: tuple[int, ...] = ()
    metadata: Mapping[str, Any] = {}
    arena: ArenaRef | None = None
    inline: str = ""
    payload_offset: int = 0
    payload_size: int = 0


def encode_head(header: Header) -> bytes:
    """Everything of a frame message that precedes the payload; the message is this and the payload, joined.

    Raises:
        WireError: the header does not fit into MAX_HEADER_BYTES, a number does not fit into its field, or the metadata
            cannot be packed so that it can be read.
    """
    flags = FLAG_ARENA if header.arena is not None else 0
    return whole_head(flags, header.seq, header.captured_wall, header.captured_mono, pack_header(header))


def pack_header(header: Header) -> bytes:
    """The map of a head. Raises WireError: the metadata cannot be packed so that it can be read."""
    fields: dict[str, Any] = {
        "stream": header.stream,
        "epoch": header.epoch,
        "boot": header.boot,
        "encoding": header.encoding,
    }
    if header.unsent:
        fields["unsent"] = header.unsent
    if header.encoding == RAW:
        fields["dtype"] = header.dtype
        fields["shape"] = header.shape
    if header.metadata:
        fields["metadata"] = header.metadata
    if header.arena is not None:
        fields["arena"] = header.arena
    if header.inline:
        fields["inline"] = header.inline
    try:
        packed: bytes = msgpack.packb(fields)
        if header.metadata:  # what every reader would refuse, like a number as a key, is refused here
            msgpack.unpackb(packed, **UNPACK_LIMITS)
    except UNPACK_ERRORS as error:
        raise _unpackable(error) from error
    return packed


def pack_metadata(metadata: Mapping[str, Any]) -> bytes | None:
    """What a header has of it, b"" for none: the same bytes are the same metadata. None where it cannot be packed."""
    try:
        return bytes(msgpack.packb(dict(metadata))) if metadata else b""
    except (*UNPACK_ERRORS, AttributeError):
        return None


def unpack_metadata(packed: bytes) -> dict[str, Any]:
    """The metadata that has these bytes. Raises WireError: no reader would take it, as one with a number as a key."""
    try:
        return dict(msgpack.unpackb(packed, **UNPACK_LIMITS)) if packed else {}
    except UNPACK_ERRORS as error:
        raise _unpackable(error) from error


def _unpackable(error: Exception) -> WireError:
    return WireError("bad_header", f"the metadata cannot be packed as msgpack: {error}")


def whole_head(flags: int, seq: int, captured_wall: int, captured_mono: int, packed: bytes) -> bytes:
    """The head with this map. Raises WireError: the map is too long, or a number does not fit into its field."""
    size = len(packed)
    if size > MAX_HEADER_BYTES:
        text = f"the header has {size} bytes, at most {MAX_HEADER_BYTES} fit: shorten the metadata"
        raise WireError("bad_header", text)
    try:
        prefix = PREFIX.pack(MAGIC, VERSION, flags, size, seq, captured_wall, captured_mono)
    except struct.error as error:
        raise WireError("bad_header", f"seq or a capture time is out of range: {error}") from error
    return prefix + packed + _ZEROS[: -(PREFIX.size + size) % ALIGNMENT]


def inline_head(message: memoryview, header: Header) -> bytearray:
    """The head for a copy of a frame whose payload is in an arena: the same, but for the flag that says so."""
    head = bytearray(message[: header.payload_offset])
    head[_FLAGS_OFFSET] &= ~FLAG_ARENA
    return head


def decode(message: bytes | bytearray | memoryview) -> Header:
    """Read a frame message without copying its payload.

    Raises:
        WireError: the message breaks a rule of the format; `reason` says which.
    """
    size = len(message)
    if size < PREFIX.size:
        raise WireError("truncated", f"a frame message begins with {PREFIX.size} bytes, this one has {size}")
    magic, version, flags, header_size, seq, captured_wall, captured_mono = PREFIX.unpack_from(message)
    if magic != MAGIC:
        raise WireError("bad_magic", f"a frame message begins with {MAGIC!r}, this one with {magic!r}")
    if version != VERSION:
        raise WireError("bad_version", f"this side speaks frame version {VERSION}, the message has {version}")
    if flags & ~FLAG_ARENA:
        raise WireError("bad_header", f"flags {flags:#04x} have bits that version {VERSION} does not know")
    end = PREFIX.size + header_size
    offset = end + -end % ALIGNMENT
    if size < offset:
        raise WireError("truncated", f"the header ends at byte {offset}, the message at {size}")
    try:
        fields = msgpack.unpackb(message[PREFIX.size : end], **UNPACK_LIMITS)
    except UNPACK_ERRORS as error:
        raise WireError("bad_header", f"the header is not one msgpack map: {error}") from error
    if not isinstance(fields, dict):
        raise WireError("bad_header", f"the header is {shown(fields)}, not a map")
    get = fields.get
    stream: Any = get("stream")
    epoch: Any = get("epoch")
    boot, encoding = get("boot"), get("encoding")
    unsent, metadata, dtype, inline = get("unsent", 0), get("metadata", {}), get("dtype", ""), get("inline", "")
    if not is_name(stream):
        raise WireError("bad_name", f"stream {shown(stream)} is not a permitted name")
    if not (_is_count(epoch) and _is_count(unsent) and isinstance(boot, bytes) and len(boot) == 16 and seq > 0):
        raise WireError("bad_header", "epoch, boot, seq or unsent is missing or of the wrong type")
    if not (isinstance(encoding, str) and 0 < len(encoding) <= MAX_ENCODING_LENGTH and encoding.isprintable()):
        raise WireError("bad_header", f"encoding {shown(encoding)} is not a short printable string")
    if not isinstance(metadata, dict):
        raise WireError("bad_header", f"metadata is {shown(metadata)}, not a map")
    if not isinstance(inline, str):
        raise WireError("bad_header", f"inline is {shown(inline)}, not a string")
    arena = None
    payload_size = size - offset
    if flags & FLAG_ARENA:
        if payload_size:
            raise WireError("bad_payload", f"{payload_size} bytes follow a header that names an arena's slot")
        arena = _arena(get("arena"))
        payload_size = arena.size
    if payload_size <= 0:
        raise WireError("empty_payload", "the frame has no content")
    shape = _shape(get("shape"), dtype, payload_size) if encoding == RAW else ()
    return Header(
        stream, epoch, boot, seq, captured_wall, captured_mono, unsent,
        encoding, dtype if encoding == RAW else "", shape, metadata, arena, inline, offset, payload_size,
    )  # fmt: skip


class Decoder:
    """Reads the frames that one receiver gets. It says what `decode` says, for less: a header is nearly always that of
    the frame before, but for the slot at its end, and what was found in order once is not unpacked again.

    Attributes:
        known: headers by what was packed, for one with a slot up to that.
    """

    def __init__(self) -> None:
        self.known: dict[bytes, Header] = {}
        self._once: set[bytes] = set()  # what was packed with metadata, and has come once

    def decode(self, message: memoryview) -> Header:
        """Read a frame message without copying its payload. Raises as `decode` does."""
        size = len(message)
        if size < PREFIX.size:
            return decode(message)
        magic, version, flags, header_size, seq, captured_wall, captured_mono = PREFIX.unpack_from(message)
        end = PREFIX.size + header_size
        offset = end + -end % ALIGNMENT
        head, key, slot = bytes(message[PREFIX.size : end]), b"", b""
        if flags:
            head, key, slot = head.rpartition(ARENA_KEY)
        known = self.known.get(head)
        if (
            known is None or bool(flags) is (known.arena is None)  # a head without its slot is no whole header
            or magic != MAGIC or version != VERSION or flags & ~FLAG_ARENA or not seq or size < offset
        ):  # fmt: skip
            header = decode(message)
            self._learn(head, key + slot, header)
            return header
        arena, payload_size = None, size - offset
        if flags:
            try:
                arena = _arena(msgpack.unpackb(slot, **UNPACK_LIMITS))
            except UNPACK_ERRORS:
                return decode(message)
            payload_size = 0 if payload_size else arena.size
        if payload_size <= 0 or (known.shape and payload_size != known.payload_size):
            return decode(message)
        return tuple.__new__(Header, (  # as Header(…), which is a function of Python's: this is done for each frame
            known.stream, known.epoch, known.boot, seq, captured_wall, captured_mono, known.unsent,
            known.encoding, known.dtype, known.shape, known.metadata, arena, known.inline, offset, payload_size,
        ))  # fmt: skip

    def _learn(self, head: bytes, slot: bytes, header: Header) -> None:
        """Remember a header that was found in order; one with metadata when it comes again: other frames may have
        others."""
        if len(head) > _KNOWN_BYTES or (header.metadata and not self._comes_again(head)):
            return
        if header.arena is None:
            if ARENA_KEY in head:
                return  # a copy of a frame that has a slot: no two are the same
        elif not _stands_last(head, slot, header.arena):
            return
        if len(self.known) >= _KNOWN_HEADERS:
            self.known.clear()
        self.known[head] = header

    def _comes_again(self, head: bytes) -> bool:
        if head in self._once:
            return True
        if len(self._once) >= _KNOWN_HEADERS:
            self._once.clear()
        self._once.add(head)
        return False


def _stands_last(head: bytes, slot: bytes, arena: ArenaRef) -> bool:
    """Whether this slot is the last item of the map that begins with `head`, and not of something nested in it."""
    if slot != ARENA_KEY + msgpack.packb(arena):
        return False
    try:
        return msgpack.unpackb(head + ARENA_KEY + _NIL, **UNPACK_LIMITS)["arena"] is None
    except (*UNPACK_ERRORS, KeyError):
        return False


def check_array(dtype: str, shape: Sequence[int], size: int) -> None:
    """Check that a raw array of this type and shape has `size` bytes.

    Raises:
        WireError: it does not, or the type is not a plain number type.
    """
    _shape(list(shape), dtype, size)


def _shape(shape: object, dtype: object, size: int) -> tuple[int, ...]:
    item_size = _ITEM_SIZES.get(dtype) if isinstance(dtype, str) else None
    if item_size is None:
        raise WireError("bad_header", f"dtype {shown(dtype)} is not a plain number type like '|u1' or '<f4'")
    if not isinstance(shape, list) or not 0 < len(shape) <= MAX_DIMENSIONS or not all(map(_is_count, shape)):
        raise WireError("bad_header", f"shape {shown(shape)} is not a list of 1 to {MAX_DIMENSIONS} sizes")
    if math.prod(shape) * item_size != size:
        raise WireError("bad_payload", f"shape {shape} of {dtype} does not make the payload's {size} bytes")
    return tuple(shape)


def _arena(value: object) -> ArenaRef:
    if isinstance(value, list) and len(value) == 5 and isinstance(value[0], str):
        for number in value[1:]:
            if type(number) is not int or not 0 <= number <= _UINT64_MAX:
                break
        else:
            return tuple.__new__(ArenaRef, value)
    raise WireError("bad_header", "arena is not a list of file, slot, generation, offset and size")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _UINT64_MAX

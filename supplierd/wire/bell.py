"""The bell: what a daemon and a worker on one machine say for each frame in shared memory, in 64 bytes or less.

A bell is a Unix socket of packets (SOCK_SEQPACKET). RECHECK, LEAVE and the daemon's answers go over it as they are; two
messages have a short form:

    offset  size  DEMAND       little-endian        offset  size  FRAME
         0     1  b"D"                                   0     1  b"F"
         1     1  outcome      0: no report,             1     3  zeros
                  else 1 + its place in OUTCOMES         4     4  head         unsigned
         2     2  zeros                                  8     8  seq          unsigned
         4     4  leases       unsigned                 16     8  captured_wall  signed
         8     8  session      unsigned                 24     8  captured_mono  signed
        16     8  number       unsigned                 32     8  generation   unsigned
        24     8  epoch        unsigned                 40     8  offset       unsigned
        32     8  seq          unsigned                 48     8  size         unsigned
        40     8  age          signed, ns               56     4  slot         unsigned
        48     8  processing   signed, ns               60     4  zeros

What the frames of one publisher's run have in common, metadata too, is said once for each bell, in a packet HEAD: b"H",
three zeros, a number (4 bytes), and the whole frame message of the first of them. FRAME names that head by its number;
both sides forget all heads when MAX_HEADS are known and one more is told. A DEMAND's report is on the frame that came
last.
"""

import struct
from typing import Final, NamedTuple

from supplierd.wire.control import OUTCOMES
from supplierd.wire.errors import WireError
from supplierd.wire.frame import Header, decode, pack_metadata

MAX_PACKET: Final = 4096
"""Bytes. A frame whose message has more than half of it, by much metadata, goes by the worker's other sockets."""
MAX_ITEMS: Final = 64
"""Of one list or map in a control message that comes as a packet: room is made for all that are claimed, at each level,
and dozens of connections may have a packet in one turn."""
MAX_HEADS: Final = 64

FRAME: Final = struct.Struct("<B3xIQqqQQQI4x")
DEMAND: Final = struct.Struct("<BB2xIQQQQqq")
HEAD: Final = struct.Struct("<B3xI")
FRAME_KIND: Final = ord("F")
HEAD_KIND: Final = ord("H")
DEMAND_KIND: Final = ord("D")
OUTCOME_NUMBERS: Final = {"": 0, **{outcome: number for number, outcome in enumerate(OUTCOMES, 1)}}
_LONGEST: Final = (1 << 63) - 1

Place = tuple[str, int, int, int, int]
"""What a frame.ArenaRef says: file, slot, generation, offset, size."""


class Demand(NamedTuple):
    """A short demand; the attributes are those of control.Demand, and of its `settled` but for the stream.

    `outcome` is "" where there is no report.
    """

    session: int
    number: int
    outcome: str
    epoch: int
    seq: int
    age: int
    processing: int
    leases: int


class Heads:
    """The sender's numbers for what frames have in common: one for all bells of a daemon."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[object, ...], int] = {}
        self._last = 0

    def number(self, header: Header) -> int:
        """The number of a frame's head; 0 for one that has no slot."""
        arena, metadata = header.arena, pack_metadata(header.metadata)
        if arena is None or metadata is None:  # a stranger's can be nested deeper than is packed here
            return 0
        key = (
            header.epoch, header.stream, header.boot, header.unsent, header.encoding, header.dtype, header.shape,
            header.inline, arena.file, metadata,
        )  # fmt: skip
        number = self._numbers.get(key)
        if number is None:
            if len(self._numbers) >= MAX_HEADS:
                self._numbers.clear()
            self._last = number = self._last % 0xFFFFFFFF + 1
            self._numbers[key] = number
        return number


class Told:
    """Which heads one bell's peer has been told, in the sender's eyes: `numbers`. It is when the packet was sent."""

    __slots__ = ("numbers",)

    def __init__(self) -> None:
        self.numbers: set[int] = set()

    def knows(self, number: int) -> bool:
        """Whether this head was told."""
        return number in self.numbers

    def tell(self, number: int) -> None:
        """The packet that tells this head, which was not known, has been sent."""
        if len(self.numbers) >= MAX_HEADS:
            self.numbers.clear()
        self.numbers.add(number)


def encode_head(number: int, message: bytes | bytearray | memoryview) -> bytes:
    """The packet that tells a head, with the frame of this message."""
    return HEAD.pack(HEAD_KIND, number) + message


def encode_frame(number: int, header: Header) -> bytes:
    """The short form of a frame whose head has this number."""
    arena = header.arena
    assert arena is not None
    return FRAME.pack(
        FRAME_KIND, number, header.seq, header.captured_wall, header.captured_mono, arena.generation, arena.offset,
        arena.size, arena.slot,
    )  # fmt: skip


class Hearer:
    """The receiver's side of one bell: remembers the heads that it was told.

    Attributes:
        heads: by number; at most MAX_HEADS.
    """

    __slots__ = ("heads",)

    def __init__(self) -> None:
        self.heads: dict[int, Header] = {}

    def frame(self, packet: memoryview) -> tuple[Header, tuple[int, int, int], Place]:
        """Read a packet FRAME or HEAD.

        Returns:
            What holds for all frames of its head, and of this one seq, captured_wall, captured_mono and the slot.

        Raises:
            WireError: it is not of the form, or names a head that was not told.
        """
        if len(packet) == FRAME.size and packet[0] == FRAME_KIND:
            _, number, seq, wall, mono, generation, offset, size, slot = FRAME.unpack(packet)
            head = self.heads.get(number)
            if head is None or head.arena is None or not seq:
                raise WireError("bad_header", f"a frame of head {number}, which was not told")
            return head, (seq, wall, mono), (head.arena.file, slot, generation, offset, size)
        if len(packet) < HEAD.size or packet[0] != HEAD_KIND:
            begins = bytes(packet[:1])
            raise WireError("bad_magic", f"a packet of {len(packet)} bytes that begins with {begins!r} is no frame")
        header = decode(packet[HEAD.size :])
        if header.arena is None:
            raise WireError("bad_header", "a head is that of a frame in shared memory")
        number = HEAD.unpack_from(packet)[1]
        if number not in self.heads and len(self.heads) >= MAX_HEADS:  # a packet may be heard a second time
            self.heads.clear()
        self.heads[number] = header
        return header, (header.seq, header.captured_wall, header.captured_mono), header.arena


def encode_demand(session: int, number: int, settled: tuple[str, int, int, str, int, int] | None, leases: int) -> bytes:
    """The short form of a Demand with these attributes; times beyond 64 bits become the longest there is."""
    if settled is None:
        return DEMAND.pack(DEMAND_KIND, 0, leases, session, number, 0, 0, 0, 0)
    _, epoch, seq, outcome, age, processing = settled
    try:
        return DEMAND.pack(DEMAND_KIND, OUTCOME_NUMBERS[outcome], leases, session, number, epoch, seq, age, processing)
    except struct.error:  # a publisher's word on the capture can make a frame older than 292 years
        age, processing = (max(-_LONGEST - 1, min(time, _LONGEST)) for time in (age, processing))
        return DEMAND.pack(DEMAND_KIND, OUTCOME_NUMBERS[outcome], leases, session, number, epoch, seq, age, processing)


def decode_demand(packet: bytes) -> Demand:
    """Read the short form of a Demand.

    Raises:
        WireError: it is not of the form.
    """
    if len(packet) != DEMAND.size:
        raise WireError("bad_message", f"a short demand has {DEMAND.size} bytes, this one has {len(packet)}")
    _, outcome, leases, session, number, epoch, seq, age, processing = DEMAND.unpack(packet)
    if outcome > len(OUTCOMES):
        raise WireError("bad_message", f"outcome {outcome} of a short demand is none of 0 to {len(OUTCOMES)}")
    return Demand(session, number, OUTCOMES[outcome - 1] if outcome else "", epoch, seq, age, processing, leases)

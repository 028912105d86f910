"""Heads of frames in shared memory that are much alike, as those of one camera are.

Each frame comes through here, so there is the same in C, `encoder.pyx`, which is imported in place of this file where
it was compiled.
"""

import msgpack

from supplierd.wire.frame import ARENA_KEY, FLAG_ARENA, Header, pack_header, whole_head


class Encoder:
    """Writes the heads of frames that differ in number, times and slot alone, as those of one camera do: the bytes that
    `encode_head` writes, for less, since what they have in common is packed once.

    Args:
        header: of any of them; its `inline` must be empty, as for all frames that have a slot.

    Raises:
        WireError: as `encode_head` does.
    """

    __slots__ = ("_pack", "_start", "header")

    def __init__(self, header: Header) -> None:
        self.header = header._replace(arena=None)
        packed = pack_header(self.header)
        whole_head(0, 1, 0, 0, packed)  # refuses what is too long
        # Of a map with up to 15 items the first byte is the count.
        self._start = bytes((packed[0] + 1,)) + packed[1:] + ARENA_KEY
        self._pack = msgpack.Packer().pack

    def encode(self, seq: int, captured_wall: int, captured_mono: int, arena: tuple[str, int, int, int, int]) -> bytes:
        """The head of a frame in this slot, an ArenaRef or the like. Raises WireError as `encode_head` does."""
        return whole_head(FLAG_ARENA, seq, captured_wall, captured_mono, self._start + self._pack(arena))

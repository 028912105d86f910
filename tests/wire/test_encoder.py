"""The encoder of frames that have a header in common: it writes, and refuses, what `encode_head` does."""

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supplierd.wire import WireError, frame
from supplierd.wire.frame import MAX_HEADER_BYTES, ArenaRef, Header
from tests.wire.strategies import arenas, counts, headers, signed

Slot = tuple[int, int, int, ArenaRef]
HEADER = Header("cam-1", 5, bytes(16), 1, 2, 3, encoding="bytes")
REF = ArenaRef("cam-1-0123456789abcdef.arena", 1, 2, 4096, 4)


@settings(deadline=None)
@given(
    header=headers,
    shape=st.lists(counts, max_size=8).map(tuple),
    slots=st.lists(st.tuples(st.integers(1, 2**64 - 1), signed, signed, arenas), max_size=4),
)
def test_it_writes_the_same(header: Header, shape: tuple[int, ...], slots: list[Slot]) -> None:
    header = header._replace(inline="", dtype="<u2", shape=shape)
    encoder = frame.Encoder(header)
    for seq, wall, mono, arena in slots:
        whole = header._replace(seq=seq, captured_wall=wall, captured_mono=mono, arena=arena)
        assert encoder.encode(seq, wall, mono, arena) == frame.encode_head(whole)


@pytest.mark.parametrize("numbers", [(-1, 0, 0), (2**64, 0, 0), (1, 2**63, 0), (1, 0, -(2**63) - 1)])
def test_numbers_out_of_range(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(WireError, match="out of range"):
        frame.Encoder(HEADER).encode(*numbers, REF)


def test_metadata_that_no_decoder_would_read() -> None:
    unreadable: Any = {1: "a number as a key"}
    with pytest.raises(WireError, match="cannot be packed"):
        frame.Encoder(HEADER._replace(metadata=unreadable))


def test_what_is_too_long() -> None:
    """Without a slot, or with one."""
    empty = len(msgpack.packb({"stream": "cam-1", "epoch": 5, "boot": bytes(16), "encoding": "bytes", "metadata": {}}))
    fits = MAX_HEADER_BYTES - empty - len(msgpack.packb("k")) - len(b"\xda\xff\xff")
    encoder = frame.Encoder(HEADER._replace(metadata={"k": "x" * fits}))
    with pytest.raises(WireError, match="shorten the metadata"):
        encoder.encode(1, 2, 3, REF)
    with pytest.raises(WireError, match="shorten the metadata"):
        frame.Encoder(HEADER._replace(metadata={"k": "x" * (fits + 1)}))

"""The encoder of frames that have a header in common: it writes, and refuses, what `encode_head` does."""

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supplierd.wire import WireError, encoder, frame
from supplierd.wire.frame import MAX_HEADER_BYTES, ArenaRef, Header
from tests.support.twins import both
from tests.wire.strategies import arenas, counts, headers, signed

Slot = tuple[int, int, int, ArenaRef]
HEADER = Header("cam-1", 5, bytes(16), 1, 2, 3, encoding="bytes")
REF = ArenaRef("cam-1-0123456789abcdef.arena", 1, 2, 4096, 4)

every_module = pytest.mark.parametrize("module", both(encoder))


@every_module
@settings(deadline=None)
@given(
    header=headers,
    shape=st.lists(counts, max_size=8).map(tuple),
    slots=st.lists(st.tuples(st.integers(1, 2**64 - 1), signed, signed, arenas), max_size=4),
)
def test_it_writes_the_same(module: Any, header: Header, shape: tuple[int, ...], slots: list[Slot]) -> None:
    header = header._replace(inline="", dtype="<u2", shape=shape)
    encoder = module.Encoder(header)
    for seq, wall, mono, arena in slots:
        whole = header._replace(seq=seq, captured_wall=wall, captured_mono=mono, arena=arena)
        assert encoder.encode(seq, wall, mono, arena) == frame.encode_head(whole)


@every_module
@pytest.mark.parametrize("numbers", [(-1, 0, 0), (2**64, 0, 0), (1, 2**63, 0), (1, 0, -(2**63) - 1)])
def test_numbers_out_of_range(module: Any, numbers: tuple[int, int, int]) -> None:
    with pytest.raises(WireError, match="out of range"):
        module.Encoder(HEADER).encode(*numbers, REF)


@every_module
def test_metadata_that_no_decoder_would_read(module: Any) -> None:
    unreadable: Any = {1: "a number as a key"}
    with pytest.raises(WireError, match="cannot be packed"):
        module.Encoder(HEADER._replace(metadata=unreadable))


@every_module
def test_what_is_too_long(module: Any) -> None:
    """Without a slot, or with one."""
    empty = len(msgpack.packb({"stream": "cam-1", "epoch": 5, "boot": bytes(16), "encoding": "bytes", "metadata": {}}))
    fits = MAX_HEADER_BYTES - empty - len(msgpack.packb("k")) - len(b"\xda\xff\xff")
    encoder = module.Encoder(HEADER._replace(metadata={"k": "x" * fits}))
    with pytest.raises(WireError, match="shorten the metadata"):
        encoder.encode(1, 2, 3, REF)
    with pytest.raises(WireError, match="shorten the metadata"):
        module.Encoder(HEADER._replace(metadata={"k": "x" * (fits + 1)}))

"""The frame message: layout, alignment, no copies, truncation, refusals with the field's name, limits of numbers."""

import itertools
import math
import tracemalloc
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from supplierd.wire import WireError, frame
from supplierd.wire.frame import ALIGNMENT, MAX_HEADER_BYTES, MAX_ITEMS, PREFIX, Header
from tests.wire.strategies import arenas, counts, headers
from tests.wire.vectors import FRAMES

FIELDS: dict[str, Any] = {"stream": "cam-1", "epoch": 5, "boot": bytes(16), "encoding": "bytes"}
RAW_FIELDS: dict[str, Any] = {**FIELDS, "encoding": "raw", "dtype": "|u1", "shape": [2, 2]}
HEADER = Header("cam-1", 5, bytes(16), 1, 2, 3, encoding="bytes")


def pack(fields: object, payload: bytes = b"abcd", flags: int = 0, seq: int = 1) -> bytes:
    """A frame message with any header map."""
    packed: bytes = msgpack.packb(fields)
    head = PREFIX.pack(frame.MAGIC, frame.VERSION, flags, len(packed), seq, 0, 0) + packed
    return head + bytes(-len(head) % ALIGNMENT) + payload


def refusal(message: bytes) -> WireError:
    with pytest.raises(WireError) as caught:
        frame.decode(message)
    return caught.value


def test_the_layout_restated() -> None:
    message = bytes.fromhex(FRAMES[0]["hex"])
    fields = FRAMES[0]["fields"]
    header_size = int.from_bytes(message[6:8], "little")
    assert message[:6] == b"SPLF\x01\x00"
    assert int.from_bytes(message[8:16], "little") == fields["seq"]
    assert int.from_bytes(message[16:24], "little", signed=True) == fields["captured_wall"]
    assert int.from_bytes(message[24:32], "little", signed=True) == fields["captured_mono"]
    assert msgpack.unpackb(message[32 : 32 + header_size])["stream"] == fields["stream"]
    assert not any(message[32 + header_size : 128])


@settings(deadline=None)
@given(header=headers, payload=st.binary(min_size=1, max_size=200))
def test_what_is_encoded_is_decoded(header: Header, payload: bytes) -> None:
    if header.encoding == "raw":
        header = header._replace(dtype="|u1", shape=(1, len(payload)))
    head = frame.encode_head(header)
    found = frame.decode(head + payload)
    assert found == header._replace(payload_offset=len(head), payload_size=len(payload))
    assert found.payload_offset % ALIGNMENT == 0
    assert len(head) - ALIGNMENT < PREFIX.size + int.from_bytes(head[6:8], "little") <= len(head)


@pytest.mark.parametrize("length", range(ALIGNMENT + 1))
def test_the_payload_is_aligned_for_every_length_of_a_header(length: int) -> None:
    head = frame.encode_head(HEADER._replace(encoding="e" * (length // 4 + 1), metadata={"k": "v" * length}))
    assert len(head) % ALIGNMENT == 0
    assert frame.decode(head + b"x").payload_offset == len(head)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_decoding_copies_no_payload(kind: type[bytes] | type[bytearray] | type[memoryview]) -> None:
    head = frame.encode_head(Header("cam-1", 5, bytes(16), 1, 2, 3, dtype="|u1", shape=(8 << 20,)))
    message = kind(head + bytes(8 << 20))
    tracemalloc.start()
    try:
        header = frame.decode(message)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert header.payload_size == 8 << 20
    assert peak < 64 * 1024


# --- truncation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", FRAMES, ids=lambda v: str(v["name"]))
def test_truncation_at_every_byte(vector: dict[str, Any]) -> None:
    message = bytes.fromhex(vector["hex"])
    whole = frame.decode(message)
    for size in range(len(message)):
        if whole.encoding != "raw" and size > whole.payload_offset:
            # Nothing tells encoded bytes from fewer; a ZeroMQ part is whole or does not arrive.
            assert frame.decode(message[:size]) == whole._replace(payload_size=size - whole.payload_offset)
            continue
        reasons = {"truncated"} if size < whole.payload_offset else {"empty_payload", "bad_payload"}
        assert refusal(message[:size]).reason in reasons


@pytest.mark.parametrize("vector", FRAMES, ids=lambda v: str(v["name"]))
def test_a_byte_too_many(vector: dict[str, Any]) -> None:
    message = bytes.fromhex(vector["hex"])
    whole = frame.decode(message)
    if whole.encoding == "raw" or whole.arena is not None:
        assert refusal(message + b"\0").reason == "bad_payload"
    else:
        assert frame.decode(message + b"\0").payload_size == whole.payload_size + 1


# --- what is accepted and what is refused ---------------------------------------------------------------------------


def test_unknown_fields_and_any_order_of_keys_are_accepted() -> None:
    plain = frame.decode(pack(RAW_FIELDS))
    shuffled: dict[Any, Any] = dict(reversed(RAW_FIELDS.items()))
    newer = frame.decode(pack({"colour": "bt709", **shuffled, b"bytes": None, "nested": {"a": [{}]}}))
    assert newer._replace(payload_offset=0) == plain._replace(payload_offset=0)


@pytest.mark.parametrize("name", ["stream", "epoch", "boot", "encoding", "dtype", "shape"])
def test_a_missing_field_is_refused_by_name(name: str) -> None:
    error = refusal(pack({key: value for key, value in RAW_FIELDS.items() if key != name}))
    assert name in str(error)


@pytest.mark.parametrize(
    "value", [None, True, -1, 1.5, 2**64 - 1, "text", b"bytes", [], {}, ["a"], "a" * 65, "e" * 100]
)
@pytest.mark.parametrize(
    "name", ["stream", "epoch", "boot", "encoding", "unsent", "metadata", "inline", "dtype", "shape", "arena"]
)
def test_a_wrong_value_is_refused_by_name(name: str, value: object) -> None:
    right: dict[str, tuple[object, ...]] = {
        "stream": ("text",),
        "epoch": (2**64 - 1,),
        "boot": (),
        "encoding": ("text",),
        "unsent": (2**64 - 1,),
        "metadata": ({},),
        "inline": ("text", "a" * 65, "e" * 100),
        "dtype": (),
        "shape": (),
        "arena": (),
    }
    flags = frame.FLAG_ARENA if name == "arena" else 0
    message = pack({**RAW_FIELDS, name: value}, b"" if flags else b"abcd", flags)
    if value in right[name] and not isinstance(value, bool):
        frame.decode(message)
        return
    error = refusal(message)
    assert name in str(error)
    assert error.reason in ("bad_header", "bad_name")


@pytest.mark.parametrize("name", ["epoch", "unsent"])
@pytest.mark.parametrize("value", [-(2**63), -1, 0, 1, 2**32, 2**63, 2**64 - 1, False, 0.0, float("nan")])
def test_counts_at_their_limits(name: str, value: object) -> None:
    message = pack({**FIELDS, name: value})
    if type(value) is int and value >= 0:
        assert getattr(frame.decode(message), name) == value
    else:
        assert name in str(refusal(message))


@given(size=counts, generation=counts)
@settings(deadline=None, max_examples=30)
def test_a_descriptor_says_how_large_its_payload_is(size: int, generation: int) -> None:
    fields = {**FIELDS, "arena": ["a", 0, generation, 4096, size]}
    message = pack(fields, b"", frame.FLAG_ARENA)
    if size:
        header = frame.decode(message)
        assert (header.payload_size, header.arena) == (size, ("a", 0, generation, 4096, size))
    else:
        assert refusal(message).reason == "empty_payload"


def test_the_arena_field_counts_only_with_its_flag() -> None:
    assert frame.decode(pack({**FIELDS, "arena": ["a", 0, 1, 4096, 9]})).arena is None


@pytest.mark.parametrize("kind", "biufcOSUVmM")
def test_dtypes_are_those_of_numpy(kind: str) -> None:
    for order, size in itertools.product("<>|=", (0, 1, 2, 3, 4, 8, 10, 12, 16, 32, 64)):
        dtype = f"{order}{kind}{size}"
        message = pack({**RAW_FIELDS, "dtype": dtype, "shape": [1]}, bytes(size or 1))
        try:
            is_number = kind in "biufc" and order != "=" and np.dtype(dtype).itemsize == size
        except TypeError:
            is_number = False
        if is_number:
            header = frame.decode(message)
            array = np.frombuffer(message, np.uint8, header.payload_size, header.payload_offset)
            assert array.view(header.dtype).reshape(header.shape).shape == (1,)
        else:
            assert "dtype" in str(refusal(message)), dtype


def test_a_shape_of_huge_dimensions_is_only_arithmetic() -> None:
    shape = [2**64 - 1] * 8
    assert math.prod(shape) > 2**500
    assert refusal(pack({**RAW_FIELDS, "shape": shape})).reason == "bad_payload"


def test_check_array() -> None:
    frame.check_array("<f4", (2, 3), 24)
    for dtype, shape, size, reason in (
        ("<f4", (2, 3), 23, "bad_payload"),
        ("|O8", (1,), 8, "bad_header"),
        ("|u1", (), 1, "bad_header"),
    ):
        with pytest.raises(WireError) as caught:
            frame.check_array(dtype, shape, size)
        assert caught.value.reason == reason


# --- what cannot be encoded -----------------------------------------------------------------------------------------

DEEP: dict[str, Any] = {}
for _ in range(2000):
    DEEP = {"deeper": DEEP}
UNREADABLE: dict[str, dict[str, Any]] = {
    "object": {"metadata": {"o": object()}},
    "set": {"metadata": {"s": {1, 2}}},
    "2**64": {"metadata": {"n": 2**64}},
    "below -2**63": {"metadata": {"n": -(2**63) - 1}},
    "surrogate": {"metadata": {"t": "\ud800"}},
    "a number as a key, which decoders refuse": {"metadata": {1: "x"}},
    "none as a key": {"metadata": {"nested": {None: 1}}},
    "tuple as a key": {"metadata": {"list": [{(1, 2): 3}]}},
    "deep": {"metadata": DEEP},
    "long": {"metadata": {"long": "x" * MAX_HEADER_BYTES}},
    "many": {"metadata": {"many": [0] * (MAX_ITEMS + 1)}},
    "negative seq": {"seq": -1},
    "seq 2**64": {"seq": 2**64},
    "late": {"captured_wall": 2**63},
    "early": {"captured_mono": -(2**63) - 1},
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_no_decoder_would_read_is_not_encoded(case: str) -> None:
    with pytest.raises(WireError) as caught:
        frame.encode_head(HEADER._replace(**UNREADABLE[case]))
    assert caught.value.reason == "bad_header"
    assert "metadata" in str(caught.value) or "out of range" in str(caught.value)


def test_the_longest_list() -> None:
    longest = HEADER._replace(metadata={"boxes": [0] * MAX_ITEMS})
    assert frame.decode(frame.encode_head(longest) + b"x").metadata == longest.metadata
    error = refusal(pack({**FIELDS, "metadata": {"boxes": [0] * (MAX_ITEMS + 1)}}))
    assert "1025 exceeds" in str(error)


def test_the_longest_header() -> None:
    empty = len(msgpack.packb({**FIELDS, "metadata": {"k": "x" * 0xFFFF}})) - 0xFFFF
    longest = HEADER._replace(metadata={"k": "x" * (MAX_HEADER_BYTES - empty)})
    assert frame.decode(frame.encode_head(longest) + b"x").metadata == longest.metadata
    with pytest.raises(WireError, match="the header has 65536 bytes, at most 65535 fit"):
        frame.encode_head(longest._replace(metadata={"k": "x" * (MAX_HEADER_BYTES - empty + 1)}))


def test_an_inline_copy_has_the_same_header_whatever_its_metadata() -> None:
    ref = frame.ArenaRef("cam-1-0123456789abcdef.arena", 1, 2, 4096, 6)
    header = HEADER._replace(arena=ref, dtype="|u1", shape=(6,), metadata={"floats": [0.1] * 1000})
    message = frame.encode_head(header)
    read = frame.decode(message)
    copy = frame.decode(bytes(frame.inline_head(memoryview(message), read)) + b"pixels")
    assert copy == read._replace(arena=None)


# --- the decoder that remembers ---------------------------------------------------------------------------------------


def outcome(decode: Any, message: bytes) -> str:
    """In words: damage can make metadata a NaN, which does not equal itself."""
    try:
        return repr(decode(memoryview(message)))
    except WireError as error:
        return error.reason


@settings(deadline=None)
@given(st.lists(headers, min_size=1, max_size=3), st.data())
def test_a_decoder_says_what_decode_says(kinds: list[Header], data: st.DataObject) -> None:
    """Whatever it has seen before: streams in turn, slots, damage at any byte, another length."""
    decoder = frame.Decoder()
    for number in range(1, 13):
        header = data.draw(st.sampled_from(kinds))._replace(seq=number)
        payload = data.draw(st.binary(max_size=4))
        if header.encoding == "raw":
            header = header._replace(dtype="|u1", shape=(data.draw(st.integers(1, 4)),))
        if data.draw(st.booleans()):
            header, payload = header._replace(arena=data.draw(arenas)), data.draw(st.sampled_from([b"", b"", b"x"]))
        try:
            message = bytearray(frame.encode_head(header) + payload)
        except WireError:
            assume(False)
        if data.draw(st.booleans()):
            message[data.draw(st.integers(0, len(message) - 1))] ^= data.draw(st.integers(1, 255))
        cut = data.draw(st.sampled_from([None, None, -1]))
        whole = bytes(message[:cut])
        assert outcome(decoder.decode, whole) == outcome(frame.decode, whole)


REF = ["cam-1-0123456789abcdef.arena", 3, 4, 4096, 4]
OTHER_REF = ["cam-1-0123456789abcdef.arena", 9, 8, 4096, 4]


def before_slot(fields: dict[str, Any]) -> bytes:
    """A packed header up to its slot."""
    packed: bytes = msgpack.packb(fields)
    return packed[: packed.rindex(msgpack.packb("arena"))]


def of(packed: bytes, flags: int, payload: bytes = b"") -> bytes:
    """A frame message with these bytes as its header."""
    head = PREFIX.pack(frame.MAGIC, frame.VERSION, flags, len(packed), 1, 0, 0) + packed
    return head + bytes(-len(head) % ALIGNMENT) + payload


@pytest.mark.parametrize(
    ("learned", "then"),
    [
        # A whole header, and one that ends where the slot would begin: a map that lacks its last item.
        (pack({**FIELDS, "arena": REF}, b"", 1), of(before_slot({**FIELDS, "arena": REF}), 0, b"abcd")),
        # An inline frame's header, with a slot behind its end.
        (pack(FIELDS), of(msgpack.packb(FIELDS) + msgpack.packb("arena") + msgpack.packb(REF), 1)),
        # A slot within something nested, which ends like the header's own.
        (
            pack({**FIELDS, "arena": REF, "more": {"arena": REF}}, b"", 1),
            pack({**FIELDS, "arena": REF, "more": {"arena": OTHER_REF}}, b"", 1),
        ),
    ],
)
def test_a_decoder_is_not_fooled_by_what_it_has_seen(learned: bytes, then: bytes) -> None:
    decoder = frame.Decoder()
    assert outcome(decoder.decode, learned) == outcome(frame.decode, learned)
    for message in (then, learned, then):
        assert outcome(decoder.decode, message) == outcome(frame.decode, message)


def test_a_decoder_does_not_learn_what_never_comes_again() -> None:
    """Copies of frames that have a slot: each header names another one."""
    decoder = frame.Decoder()
    for slot in range(9):
        decoder.decode(memoryview(pack({**FIELDS, "arena": [REF[0], slot, 2, 4096, 4]})))
    assert not decoder.known


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> list[memoryview]:
    """The messages that were read the long way."""
    messages: list[memoryview] = []

    def decode(message: memoryview, really: Any = frame.decode) -> Any:
        messages.append(message)
        return really(message)

    monkeypatch.setattr(frame, "decode", decode)
    return messages


def test_a_decoder_remembers_what_repeats_and_nothing_else(unpacked: list[memoryview]) -> None:
    decoder = frame.Decoder()
    ref = frame.ArenaRef("cam-1-0123456789abcdef.arena", 3, 4, 4096, 4)
    slots = [HEADER._replace(arena=ref._replace(slot=slot, generation=2 * slot), seq=slot + 1) for slot in range(9)]
    for header in [*slots, *(HEADER._replace(seq=seq) for seq in range(1, 9))]:
        message = memoryview(frame.encode_head(header) + (b"" if header.arena else b"abcd"))
        assert decoder.decode(message) == frame.decode(message)
    assert len(unpacked) == len(slots) + 8 + 2  # those of the comparison, and the first of each kind


def test_a_decoder_remembers_metadata_that_repeats_but_not_such_as_differs(unpacked: list[memoryview]) -> None:
    decoder = frame.Decoder()
    ref = frame.ArenaRef("cam-1-0123456789abcdef.arena", 3, 4, 4096, 4)
    for seq in range(1, 100):
        for header in (
            HEADER._replace(stream="same", metadata={"pixel_format": "bgr24"}, seq=seq, arena=ref),
            HEADER._replace(stream="other", metadata={"at": seq}, seq=seq, arena=ref),
        ):
            assert decoder.decode(memoryview(frame.encode_head(header)))[:11] == header[:11]
    assert [header.stream for header in decoder.known.values()] == ["same"]
    assert len(unpacked) <= 99 + 2 + 2, "now and then it is forgotten that it came once"


def test_a_stranger_cannot_fill_a_decoders_memory() -> None:
    decoder = frame.Decoder()
    tracemalloc.start()
    try:
        for number in range(20_000):
            decoder.decode(memoryview(pack({**FIELDS, "stream": f"cam-{number}", "encoding": "e" * 32})))
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()

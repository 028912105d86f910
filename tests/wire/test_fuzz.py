"""Hostile bytes: whatever arrives decodes to something that keeps the rules, or raises WireError, and costs little."""

import contextlib
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from supplierd.wire import WireError, control, frame
from supplierd.wire.control import MAX_CONTROL_BYTES
from supplierd.wire.frame import ALIGNMENT, MAX_HEADER_BYTES, PREFIX
from tests.fuzz import targets
from tests.wire.strategies import counts, signed
from tests.wire.vectors import CONTROL, FRAMES, REFUSED

GOOD_FRAMES = [bytes.fromhex(vector["hex"]) for vector in FRAMES]
GOOD_CONTROL = [bytes.fromhex(vector["hex"]) for vector in CONTROL]
BAD = [bytes.fromhex(vector["hex"]) for vector in REFUSED]

# Flip a bit, overwrite, insert, delete, repeat: (operation, where as a share of the message, bytes or length).
places = st.floats(0, 1, exclude_max=True)
telling = st.sampled_from(
    [b"\0", b"\xff", b"\xc0", b"\xc1", b"\xc3", b"\xcb", b"\xcf" + b"\xff" * 8, b"\xd9\xff", b"\xdf"]
)
edits = st.lists(
    st.tuples(st.just("flip"), places, st.integers(0, 7))
    | st.tuples(st.sampled_from(["overwrite", "insert"]), places, telling | st.binary(min_size=1, max_size=9))
    | st.tuples(st.sampled_from(["delete", "repeat"]), places, st.integers(1, 40)),
    min_size=1,
    max_size=4,
)


def mutate(message: bytes, changes: list[tuple[str, float, Any]]) -> bytes:
    data = bytearray(message)
    for operation, place, what in changes:
        at = int(place * len(data))
        match operation:
            case "flip" if data:
                data[at] ^= 1 << what
            case "overwrite":
                data[at : at + len(what)] = what
            case "insert":
                data[at:at] = what
            case "delete":
                del data[at : at + what]
            case "repeat":
                data[at:at] = data[at : at + what]
    return bytes(data)


def decode_frame(message: bytes) -> None:
    event(targets.decode_frame(message))


def decode_control(data: bytes) -> None:
    for decoder in (control.decode_from_client, control.decode_from_daemon):
        event(targets.decode_control(data, decoder))


@settings(deadline=None, max_examples=300)
@given(message=st.sampled_from(GOOD_FRAMES), changes=edits)
def test_mutated_frames(message: bytes, changes: list[tuple[str, float, Any]]) -> None:
    decode_frame(mutate(message, changes))


@settings(deadline=None, max_examples=300)
@given(data=st.sampled_from(GOOD_CONTROL), changes=edits)
def test_mutated_control_messages(data: bytes, changes: list[tuple[str, float, Any]]) -> None:
    decode_control(mutate(data, changes))


@pytest.mark.parametrize("data", GOOD_CONTROL, ids=[vector["name"] for vector in CONTROL])
def test_control_messages_truncated_at_every_byte(data: bytes) -> None:
    for size in range(len(data)):
        for decoder in (control.decode_from_client, control.decode_from_daemon):
            with pytest.raises(WireError) as caught:
                decoder(data[:size])
            assert caught.value.reason == "bad_message"


@settings(deadline=None)
@given(data=st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    decode_frame(data)
    decode_control(data)


@settings(deadline=None)
@given(
    start=st.tuples(
        st.just(frame.MAGIC) | st.binary(min_size=4, max_size=4),
        st.just(frame.VERSION) | st.integers(0, 255),
        st.integers(0, 3),
    ),
    size=st.integers(0, MAX_HEADER_BYTES),
    numbers=st.tuples(counts, signed, signed),
    rest=st.binary(max_size=300),
)
def test_random_headers(start: tuple[bytes, int, int], size: int, numbers: tuple[int, int, int], rest: bytes) -> None:
    decode_frame(PREFIX.pack(*start, size, *numbers) + rest)
    decode_frame(PREFIX.pack(*start, min(size, len(rest)), *numbers) + rest)


@settings(deadline=None)
@given(message=st.sampled_from([*GOOD_FRAMES, *GOOD_CONTROL, *BAD]), other=st.sampled_from(GOOD_FRAMES))
def test_messages_in_the_wrong_place_or_joined(message: bytes, other: bytes) -> None:
    for data in (message, message + other, other + message, message[: len(message) // 2] + other):
        decode_frame(data)
        decode_control(data)


# --- msgpack that wants much ----------------------------------------------------------------------------------------


def whole(unit: bytes, size: int) -> bytes:
    return unit * (size // len(unit))


MONSTERS: dict[str, Callable[[int], bytes]] = {
    "nested arrays": lambda n: whole(b"\x91", n),
    "nested arrays, closed": lambda n: whole(b"\x91", n - 1) + b"\xc0",
    "nested maps": lambda n: whole(b"\x81\xa0", n),
    "nested maps, closed, just within msgpack's depth": lambda n: b"\x81\xa0" * 500 + b"\x80",
    "array that claims 2**32 items": lambda n: b"\xdd\xff\xff\xff\xff" + whole(b"\xc0", n - 5),
    "arrays that each claim 2**16 items": lambda n: whole(b"\xdc\xff\xff", n),
    "arrays that each claim as many items as the message has bytes": lambda n: whole(b"\xdd" + n.to_bytes(4, "big"), n),
    "map that claims 2**32 items": lambda n: b"\xdf\xff\xff\xff\xff" + whole(b"\xa0\xc0", n - 5),
    "string that claims 4 GiB": lambda n: b"\xdb\xff\xff\xff\xff" + whole(b"a", n - 5),
    "bytes that claim 4 GiB": lambda n: b"\xc6\xff\xff\xff\xff" + whole(b"a", n - 5),
    "extension that claims 4 GiB": lambda n: b"\xc9\xff\xff\xff\xff\x01" + whole(b"a", n - 6),
    "as many nils as fit": lambda n: b"\xdc" + (n - 3).to_bytes(2, "big") + whole(b"\xc0", n - 3),
    "as many empty maps as fit": lambda n: b"\xdc" + (n - 3).to_bytes(2, "big") + whole(b"\x80", n - 3),
    "as many keys as fit": lambda n: b"\xde" + (n // 5 - 1).to_bytes(2, "big")
    + b"".join(b"\xa3%03x\xc0" % (i % 4096) for i in range(n // 5 - 1)),
    "one key over and over": lambda n: b"\xde" + (n // 3 - 1).to_bytes(2, "big") + whole(b"\xa1a\xc0", n - 3),
    "arrays that each claim as much as is allowed": lambda n: whole(b"\xdc\x04\x00", n),
    "maps that each claim as much as is allowed": lambda n: whole(b"\xde\x04\x00\xa0", n),
    "wrong UTF-8": lambda n: b"\xda" + (n - 3).to_bytes(2, "big") + whole(b"\xff", n - 3),
    "extension of a negative type": lambda n: b"\xd4\x80\x00",
    "timestamp of 3 bytes": lambda n: b"\xc7\x03\xff\x00\x00\x00",
    "timestamp with too many nanoseconds": lambda n: b"\xd7\xff" + b"\xff" * 8,
}  # fmt: skip


@pytest.mark.parametrize("name", MONSTERS)
def test_greedy_msgpack_costs_little(name: str) -> None:
    data = MONSTERS[name](MAX_CONTROL_BYTES - 1)
    prefix = PREFIX.pack(frame.MAGIC, frame.VERSION, 0, len(data), 1, 0, 0)
    message = prefix + data + bytes(-len(prefix + data) % ALIGNMENT) + b"x"
    assert len(data) <= min(MAX_CONTROL_BYTES, MAX_HEADER_BYTES)
    for decoder, wrapped in (
        (frame.decode, message),
        (control.decode_from_client, data),
        (control.decode_from_client, b"\x82\xa4type\xa5stats\xa4more" + data[: MAX_CONTROL_BYTES - 20]),
    ):
        tracemalloc.start()
        began = time.process_time()
        try:
            with contextlib.suppress(WireError):
                decoder(wrapped)
            took, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 16 << 20, f"{peak} bytes of memory"
        assert took < 0.5

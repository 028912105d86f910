"""Where the doorbell of an inbox is, what is said there first, and what lies in it."""

import socket
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supplierd.wire.bell import MAX_PACKET
from supplierd.wire.doorbell import GREETING, NOTHING, PUT, SIZE, decode_put, doorbell_path, encode_put
from supplierd.wire.endpoints import MAX_IPC_PATH_BYTES, inbox_endpoint
from tests.support.fixtures import short_directory

LONGEST = MAX_IPC_PATH_BYTES - len("/.doorbell")

numbers = st.integers(0, 2**64 - 1)
messages = st.binary(min_size=1, max_size=200)
puts = st.builds(encode_put, numbers, messages)


def test_it_is_beside_the_inbox() -> None:
    assert doorbell_path(inbox_endpoint(Path("/run/supplierd"))) == "/run/supplierd/inbox.sock.doorbell"


@pytest.mark.parametrize("inbox", ["tcp://127.0.0.1:5555", "tcp://*:5555", "/run/inbox.sock", ""])
def test_what_is_not_on_this_machine_has_none(inbox: str) -> None:
    assert doorbell_path(inbox) == ""


@pytest.mark.parametrize(
    ("name", "has_one"),
    [("a" * LONGEST, True), ("a" * (LONGEST + 1), False), ("é" * (LONGEST // 2), True), ("é" * LONGEST, False)],
)
def test_a_path_that_leaves_no_room_has_none(name: str, has_one: bool) -> None:
    """Bytes count, not characters."""
    assert doorbell_path(f"ipc:///{name}") == (f"/{name}.doorbell" if has_one else "")


def test_the_longest_path_can_be_bound() -> None:
    with short_directory() as home, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        inbox = f"ipc://{home}/{'a' * (LONGEST - len(str(home)))}"
        listener.bind(doorbell_path(inbox))
        assert doorbell_path(f"{inbox}a") == ""


def test_the_greeting_names_the_format_of_the_messages() -> None:
    assert GREETING == b"SPLF\x01"


# --- a put ------------------------------------------------------------------------------------------------------------


def test_a_put_byte_by_byte() -> None:
    checked = b"\x03\0\0\0" + b"\x02\x01\0\0\0\0\0\0" + b"abc"
    assert encode_put(0x102, b"abc") == zlib.crc32(checked).to_bytes(4, "little") + checked


@given(number=numbers, message=messages, rest=st.binary(max_size=100))
def test_a_put_is_read_as_it_was_written_whatever_lies_behind_it(number: int, message: bytes, rest: bytes) -> None:
    assert decode_put(encode_put(number, message) + rest) == (number, message)


def test_the_longest_message_fills_the_file() -> None:
    content = encode_put(1, b"x" * MAX_PACKET)
    assert len(content) == SIZE
    assert decode_put(content) == (1, b"x" * MAX_PACKET)


@given(content=puts)
def test_what_is_cut_anywhere_is_none(content: bytes) -> None:
    assert not any(decode_put(content[:end]) for end in range(len(content)))


@given(content=puts, rest=st.binary(max_size=300), flip=st.integers(1, 255))
def test_what_has_a_changed_byte_is_none(content: bytes, rest: bytes, flip: int) -> None:
    for at in range(len(content)):
        assert decode_put(content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :] + rest) is None


@given(old=puts, new=puts, data=st.data())
def test_of_two_puts_one_is_read_or_none(old: bytes, new: bytes, data: st.DataObject) -> None:
    """Where the new one is being written over the old one, from either side."""
    cut = data.draw(st.integers(0, len(new)))
    whole = {None, decode_put(old), decode_put(new)}
    assert decode_put(new[:cut] + old[cut:]) in whole
    assert decode_put(old[:cut].ljust(cut, b"\0") + new[cut:]) in whole


@pytest.mark.parametrize("size", [0, 1, PUT.size - 1, PUT.size, PUT.size + 1, SIZE])
def test_zeros_are_none(size: int) -> None:
    assert decode_put(bytes(size)) is None


@given(content=puts)
def test_what_was_taken_back_is_none(content: bytes) -> None:
    assert decode_put(NOTHING + content[len(NOTHING) :]) is None


def test_an_empty_message_is_none() -> None:
    assert decode_put(encode_put(1, b"")) is None

"""The golden vectors: encoding gives exactly these bytes, decoding these fields, and what must be refused is."""

from collections.abc import Callable
from typing import Any

import pytest

from supplierd.wire import WireError, control, frame
from supplierd.wire.errors import REASONS
from tests.wire.vectors import CONTROL, DECODED, FRAMES, REFUSED, header_of, message_of

DECODERS: dict[str, Callable[[bytes], Any]] = {
    "frame": frame.decode,
    "client": control.decode_from_client,
    "daemon": control.decode_from_daemon,
}


def named(vectors: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in vectors]


@pytest.mark.parametrize("vector", named(FRAMES))
def test_frame_messages(vector: dict[str, Any]) -> None:
    header, message = header_of(vector), bytes.fromhex(vector["hex"])
    payload = bytes.fromhex(vector["payload"])
    assert frame.encode_head(header) + payload == message
    assert frame.decode(message) == header
    assert message[header.payload_offset :] == payload


@pytest.mark.parametrize("vector", named(DECODED))
def test_frame_messages_that_no_encoder_makes(vector: dict[str, Any]) -> None:
    header, message = header_of(vector), bytes.fromhex(vector["hex"])
    assert frame.decode(message) == frame.Decoder().decode(memoryview(message)) == header
    assert message[header.payload_offset :] == bytes.fromhex(vector["payload"])


@pytest.mark.parametrize("vector", named(CONTROL))
def test_control_messages(vector: dict[str, Any]) -> None:
    message, data = message_of(vector), bytes.fromhex(vector["hex"])
    assert control.encode(message) == data
    assert DECODERS[vector["from"]](data) == message


@pytest.mark.parametrize("vector", named(REFUSED))
def test_refused_messages(vector: dict[str, Any]) -> None:
    with pytest.raises(WireError) as caught:
        DECODERS[vector["kind"]](bytes.fromhex(vector["hex"]))
    assert caught.value.reason == vector["reason"]


def test_the_vectors_are_complete() -> None:
    assert {v["type"] for v in CONTROL if v["from"] == "client"} == control.FROM_CLIENT.keys()
    assert {v["type"] for v in CONTROL if v["from"] == "daemon"} == control.FROM_DAEMON.keys()
    assert {field for v in FRAMES for field in v["fields"]} == set(frame.Header._fields)
    assert {v["reason"] for v in REFUSED} <= set(REASONS)


def test_a_reason_cannot_be_invented() -> None:
    with pytest.raises(AssertionError):
        WireError("because", "a peer said so")

"""The golden byte vectors: what each message looks like, as data that a client in any language can test itself with.

vectors/frames.json and control.json hold messages with their fields (the former also some that are only decoded),
refused.json bytes that every decoder must refuse; bell.json has both for the packets of the bell.
In them a byte string is written {"bytes": "hex"}; a field that is left out has its default.
"""

import json
from pathlib import Path
from typing import Any

from supplierd.wire import control
from supplierd.wire.frame import ArenaRef, Header

FOLDER = Path(__file__).parent / "vectors"


def load(name: str, which: str = "vectors") -> list[dict[str, Any]]:
    """The vectors of one file."""
    vectors: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text())[which]
    return vectors


FRAMES = load("frames")
DECODED = load("frames", "decoded")
CONTROL = load("control")
REFUSED = load("refused")
BELL = load("bell")
BELL_REFUSED = load("bell", "refused")


def header_of(vector: dict[str, Any]) -> Header:
    """A frame vector's header, payload_offset and payload_size included."""
    fields = plain(vector["fields"])
    fields["shape"] = tuple(fields.get("shape", ()))
    if "arena" in fields:
        fields["arena"] = ArenaRef(**fields["arena"])
    return Header(**fields)


def message_of(vector: dict[str, Any]) -> control.Message:
    """A control vector's message."""
    kinds = control.FROM_CLIENT if vector["from"] == "client" else control.FROM_DAEMON
    fields = plain(vector["fields"])
    if fields.get("settled") is not None:
        fields["settled"] = control.Settled(**fields["settled"])
    message: control.Message = kinds[vector["type"]](**fields)
    return message


def plain(value: Any) -> Any:
    """A value of JSON with its byte strings as bytes."""
    if isinstance(value, dict):
        if value.keys() == {"bytes"}:
            return bytes.fromhex(value["bytes"])
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value

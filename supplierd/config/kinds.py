"""The kinds of value that a configuration key can have.

A kind says in words what is allowed, describes itself as JSON Schema, and reads what TOML or an option gives into what
the daemon uses. A value is refused by raising RefusedError, which can name several places inside it (the items of an
array), so that one run lists every problem.
"""

import datetime
import ipaddress
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from supplierd.wire.keys import ALPHABET, KEY_CHARACTERS, is_key
from supplierd.wire.names import ANY_STREAM, MAX_NAME_LENGTH, check_name

Schema = dict[str, object]

IPC = "ipc"
"""The endpoint that stands for the socket in the runtime directory."""

NAME_PATTERN = rf"^[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME_LENGTH - 1}}}$"
"""The rule of `wire.names`, as JSON Schema writes it."""

_SHOWN_CHARACTERS = 60  # enough to recognise a value, little enough for one line
_SHOWN_ITEMS = 3
_DECIMAL_BITS = 128  # longer integers are shown in hexadecimal: CPython refuses to print huge decimals
_TYPES: dict[type, str] = {
    bool: "boolean",
    int: "integer",
    str: "string",
    list: "array",
    dict: "table",
    datetime.datetime: "date-time",
}
_HOST_PORT = re.compile(r"(.+):([0-9]{1,5})")
_HOST_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_LAST_PORT = 65535
_PORTS = re.compile(r"([0-9]{1,5})-([0-9]{1,5})")


class Problem(NamedTuple):
    """What is wrong with the value of `key` (a dotted path), and what is allowed."""

    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.key}: {self.text}"


class RefusedError(ValueError):
    """A value that its kind does not allow.

    Attributes:
        problems: each one's key is the place inside the value, such as "[1].conflate"; "" is the value itself.
    """

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(problem.text for problem in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Address:
    """Where a TCP socket listens. `host` is without the brackets of an IPv6 address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a key's value may be.

    Attributes:
        allowed: in words, with the unit.
        schema: as JSON Schema.
        convert: gives the value as the daemon uses it; raises ValueError for one that is not allowed, with a text
            where there is more to say than `allowed` does.
    """

    allowed: str
    schema: Schema
    convert: Callable[[object], object]

    def read(self, value: object) -> object:
        """The value as the daemon uses it. Raises RefusedError."""
        try:
            return self.convert(value)
        except RefusedError:
            raise
        except ValueError as error:
            text = f"{found(value)}, allowed: {self.allowed}"
            raise RefusedError(Problem("", f"{text}; {error}" if str(error) else text)) from None


def found(value: object) -> str:
    """How a problem's text names a value: with its type."""
    return f"found {literal(value)} ({_TYPES.get(type(value), type(value).__name__)})"


def literal(value: object) -> str:
    """`value` as TOML writes it, on one line and cut to a readable length."""
    if isinstance(value, list):
        items = ["…" if isinstance(item, list | dict) else literal(item) for item in value[:_SHOWN_ITEMS]]
        text = f"[{', '.join(items)}{', …' if len(value) > _SHOWN_ITEMS else ''}]"
    elif isinstance(value, dict):
        text = "{…}" if value else "{}"
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, int) and value.bit_length() > _DECIMAL_BITS:
        text = hex(value)
    elif isinstance(value, int | float | datetime.date | datetime.time):
        text = str(value)
    else:
        text = json.dumps(str(value), ensure_ascii=not str(value).isprintable())
    return shortened(text)


def plain(value: object) -> object:
    """A value that a kind has read, as TOML and JSON would hold it."""
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, range):
        return f"{value.start}-{value.stop - 1}"
    return value if isinstance(value, int | float) else str(value)


def shortened(text: str) -> str:
    """`text`, cut to a readable length."""
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


def integer(low: int, high: int, unit: str) -> Kind:
    """A whole number of `unit`, from `low` to `high`, both included."""

    def convert(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise ValueError

    schema: Schema = {"type": "integer", "minimum": low, "maximum": high}
    return Kind(f"an integer from {low} to {high} ({unit})", schema, convert)


def number(low: float, high: float, unit: str, *, above: bool = False) -> Kind:
    """A number of `unit` from `low` (with `above`: above it) to `high`. Integers are taken, NaN and infinity not."""

    def convert(value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError
        if low <= value <= high and not (above and value == low):
            return float(value)
        raise ValueError

    bounds = f"above {low:g}, at most {high:g}" if above else f"from {low:g} to {high:g}"
    schema: Schema = {"type": "number", "exclusiveMinimum" if above else "minimum": low, "maximum": high}
    return Kind(f"a number {bounds} ({unit})", schema, convert)


def choice(*options: object, member: Callable[[str], object] = str) -> Kind:
    """One of `options` (strings or booleans); `member` makes a string the member of an enumeration."""

    def convert(value: object) -> object:
        for option in options:
            if value == option and isinstance(value, bool) == isinstance(option, bool):
                return member(value) if isinstance(value, str) else value
        raise ValueError

    words = [literal(option) for option in options]
    return Kind(f"{', '.join(words[:-1])} or {words[-1]}", {"enum": [plain(option) for option in options]}, convert)


def path() -> Kind:
    """An absolute path, as a Path."""

    def convert(value: object) -> Path:
        if isinstance(value, str | Path) and os.path.isabs(value) and str(value).isprintable():
            return Path(value)
        raise ValueError

    return Kind("an absolute path", {"type": "string", "pattern": "^/"}, convert)


def address() -> Kind:
    """HOST:PORT, as an Address."""

    def convert(value: object) -> Address:
        host, port = split_host(value)
        if host == "*":
            raise ValueError("all IPv4 interfaces are 0.0.0.0")
        return Address(host.strip("[]"), port)

    words = '"HOST:PORT", such as "127.0.0.1:9108" or "[::1]:9108"; port 0 takes a free one'
    return Kind(words, {"type": "string", "pattern": f"^{_HOST_PORT.pattern}$"}, convert)


def ports() -> Kind:
    """FIRST-LAST, both included, as a range."""

    def convert(value: object) -> range:
        match = _PORTS.fullmatch(value) if isinstance(value, str) else None
        if match and 1 <= int(match[1]) <= int(match[2]) <= _LAST_PORT:
            return range(int(match[1]), int(match[2]) + 1)
        raise ValueError

    words = f'"FIRST-LAST" within 1 to {_LAST_PORT}, such as "49152-65535"'
    return Kind(words, {"type": "string", "pattern": f"^{_PORTS.pattern}$"}, convert)


def endpoint(*, symbolic: bool) -> Kind:
    """A ZeroMQ endpoint to bind; with `symbolic` also "ipc"."""

    def convert(value: object) -> str:
        if not isinstance(value, str) or not value.isprintable():
            raise ValueError
        if value.startswith("ipc://@"):
            raise ValueError("an abstract socket has no file permissions: anybody on this machine could connect")
        if (symbolic and value == IPC) or (value.startswith("ipc:///") and not value.endswith("/")):
            return value
        if value.startswith("tcp://["):
            raise ValueError("the daemon's ZeroMQ sockets speak IPv4 only")
        if value.startswith("tcp://") and split_host(value.removeprefix("tcp://"))[1] > 0:
            return value
        raise ValueError

    words = '"ipc:///PATH" or "tcp://ADDRESS:PORT"'
    schema: Schema = {
        "type": "string",
        "pattern": f"^({'ipc|' if symbolic else ''}ipc:///.+|tcp://{_HOST_PORT.pattern})$",
    }
    return Kind(f'"ipc" (in the runtime directory), {words}' if symbolic else words, schema, convert)


def split_host(value: object) -> tuple[str, int]:
    """The host, with the brackets of an IPv6 address, and the port (0 to 65535) of HOST:PORT.

    Raises:
        ValueError: it is not of this form, or the host is no IP address, name of a host or interface, or *.
    """
    match = _HOST_PORT.fullmatch(value) if isinstance(value, str) and value.isprintable() else None
    if match is None:
        raise ValueError
    host, port = match[1], int(match[2])
    if port > _LAST_PORT:
        raise ValueError(f"ports end at {_LAST_PORT}")
    if host.startswith("[") and host.endswith("]"):
        ipaddress.IPv6Address(host[1:-1])
    elif host != "*" and not _HOST_NAME.fullmatch(host):
        ipaddress.IPv4Address(host)
    return host, port


def is_loopback(host: str) -> bool:
    """Whether a socket bound to `host`, as split_host() gives it, is reached from this machine only."""
    if host == "*" or _HOST_NAME.fullmatch(host):
        return host == "localhost"
    return ipaddress.ip_address(host.strip("[]")).is_loopback


def array(item: Kind) -> Kind:
    """One or more of `item`, as a tuple."""

    def convert(value: object) -> tuple[object, ...]:
        if not isinstance(value, list) or not value:
            raise ValueError
        items: list[object] = []
        problems: list[Problem] = []
        for index, entry in enumerate(value):
            try:
                items.append(item.read(entry))
            except RefusedError as refused:
                problems += [Problem(f"[{index}]{place}", text) for place, text in refused.problems]
        if problems:
            raise RefusedError(*problems)
        return tuple(items)

    schema: Schema = {"type": "array", "items": item.schema, "minItems": 1}
    return Kind(f"an array of one or more of {item.allowed}", schema, convert)


def public_key() -> Kind:
    """A public key, as Z85 text."""

    def convert(value: object) -> str:
        if isinstance(value, str) and is_key(value):
            return value
        raise ValueError

    characters = "".join(f"\\{c}" if c in r"\]^-[" else c for c in ALPHABET)  # ECMA refuses needless escapes
    pattern = f"^[{characters}]{{{KEY_CHARACTERS}}}$"
    words = f"a public key as `supplierd keygen` prints it, {KEY_CHARACTERS} characters"
    return Kind(words, {"type": "string", "pattern": pattern}, convert)


def name(kind: str) -> Kind:
    """The name of a stream or worker; `kind` says which."""

    def convert(value: object) -> str:
        return check_name(kind, value)

    return Kind(f"a {kind}'s name", {"type": "string", "pattern": NAME_PATTERN}, convert)


def stream_names() -> Kind:
    """Names of streams, or "*" alone for every stream, as a tuple."""

    def name(value: object) -> str:
        return ANY_STREAM if value == ANY_STREAM else check_name("stream", value)

    def convert(value: object) -> object:
        streams = names.convert(value)
        assert isinstance(streams, tuple)
        if len(set(streams)) < len(streams):
            raise ValueError("one is named twice")
        if ANY_STREAM in streams and len(streams) > 1:
            raise ValueError('"*" stands alone')
        return streams

    pattern = rf"^\*$|{NAME_PATTERN}"
    names = array(Kind('a stream\'s name or "*"', {"type": "string", "pattern": pattern}, name))
    return Kind('["*"] (every stream) or an array of names of streams', names.schema, convert)

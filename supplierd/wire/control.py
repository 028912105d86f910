"""Control messages between a worker (or a monitor) and the daemon: one msgpack map each, with its `type`.

A class per message; the `type` on the wire is the class's name in lower case. Decoding accepts unknown fields (a newer
client may say more) and refuses missing or wrongly typed ones with WireError("bad_message"). FROM_CLIENT and
FROM_DAEMON name which side may say what. What a client says is bounded: MAX_CONTROL_BYTES, and MAX_ITEMS in a list.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar

import msgpack

from supplierd.wire.errors import WireError, shown
from supplierd.wire.frame import MAX_ITEMS, UNPACK_ERRORS, unpack_limits

VERSION: Final = 1
MAX_CONTROL_BYTES: Final = 64 * 1024
"""A JOIN with hundreds of streams has a few KiB; what a client may send is bounded by this."""

OUTCOMES: Final = ("consumed", "stale", "expired", "closed", "unreadable", "stale_descriptor")
"""What became of a frame in a worker's hands: handed to the user; replaced, since it had waited in a socket; older than
the worker's max_age; received while closing; not decodable; its arena slot had been used again."""


class Settled(NamedTuple):
    """A worker's report on the frame it got last.

    Attributes:
        stream, epoch, seq: which frame.
        outcome: one of OUTCOMES.
        age: capture to hand-over, ns; for other outcomes than "consumed" the age when it was discarded.
        processing: hand-over to the next demand, ns.
    """

    stream: str
    epoch: int
    seq: int
    outcome: str
    age: int = 0
    processing: int = 0


@dataclass(frozen=True, slots=True)
class Join:
    """A worker asks for a session. A repeated JOIN of the same instance and attempt gets the same answer.

    Attributes:
        worker: its name.
        instance: 16 random bytes, one value per Worker object: tells a restarted worker from a reconnected one.
        attempt: counts the sessions that this instance has asked for.
        versions: wire versions that the client speaks.
        client: program and version, for people.
        streams: names, or ["*"].
        delivery: "on_demand".
        target_fps: frames a second that the worker wants to be promised; None: every frame it can get.
        boot: boot id of its machine.
        pid: its process id, for people.
        arena: "" where it can read arenas, else why it cannot.
        settled: report on the last frame of its previous session.
    """

    worker: str
    instance: bytes
    attempt: int
    versions: list[int]
    client: str
    streams: list[str]
    delivery: str = "on_demand"
    target_fps: float | None = None
    boot: bytes = b""
    pid: int = 0
    arena: str = "unsupported"
    settled: Settled | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """The worker is ready for a frame. Numbered; repeated with the same number while no frame comes, so it may be lost.

    Attributes:
        session: from WELCOME.
        number: 1, 2, 3 …; a higher one closes the one before.
        settled: report on the frame that the previous demand brought.
        leases: how many arena slots the worker holds, for `stats`.
    """

    session: int
    number: int
    settled: Settled | None = None
    leases: int = 0


@dataclass(frozen=True, slots=True)
class Recheck:
    """The frame for this demand looks as if it had waited in a socket: is there a newer one?

    The daemon sends the newer frame, or NEWEST.
    """

    session: int
    number: int


@dataclass(frozen=True, slots=True)
class Leave:
    """The worker goes away for good; its ledger closes with this report."""

    session: int
    settled: Settled | None = None


@dataclass(frozen=True, slots=True)
class Stats:
    """Ask for the daemon's snapshot."""


@dataclass(frozen=True, slots=True)
class Welcome:
    """Answer to JOIN.

    Attributes:
        session: to be named in each further message.
        endpoint: where to connect a PULL socket. "tcp://*:PORT" means: that port, on the host of the control endpoint.
        attempt: of the JOIN that is answered.
        worker_class: the class that the configuration gives.
        repeat_after: seconds after which an unanswered demand is repeated.
        target_fps: the rate in force (the configuration's wins over the JOIN's).
        daemon: program and version.
        version: wire version chosen.
        bell: path of the socket for demands and descriptors, see wire.bell; "": there is none for this worker.
    """

    session: int
    endpoint: str
    attempt: int
    worker_class: str
    repeat_after: float
    target_fps: float | None = None
    daemon: str = ""
    version: int = VERSION
    bell: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """Answer to a JOIN that will not succeed by being repeated."""

    reason: str
    message: str
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Rejoin:
    """The session is not known (any more): send JOIN."""

    session: int
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Answer to a repeated demand: the daemon lives, and there is no newer frame (sent=False), or it is under way."""

    number: int
    sent: bool


@dataclass(frozen=True, slots=True)
class Newest:
    """Answer to RECHECK: the frame at hand is still the newest."""

    number: int


@dataclass(frozen=True, slots=True)
class TakenOver:
    """Another worker joined under the same name; this session has ended and must not be asked for again."""

    session: int
    by: str


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The daemon stops. A worker waits for its return."""

    reason: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Answer to STATS: the map that supplierd.core.snapshot describes."""

    snapshot: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Error:
    """Answer to a message that could not be read."""

    reason: str
    message: str


FromClient = Join | Demand | Recheck | Leave | Stats
FromDaemon = Welcome | Refused | Rejoin | Wait | Newest | TakenOver | Goodbye | Snapshot | Error
Message = FromClient | FromDaemon
_M = TypeVar("_M")

FROM_CLIENT: Final[Mapping[str, type[Any]]] = {c.__name__.lower(): c for c in typing.get_args(FromClient)}
FROM_DAEMON: Final[Mapping[str, type[Any]]] = {c.__name__.lower(): c for c in typing.get_args(FromDaemon)}


def encode(message: Message) -> bytes:
    """The bytes of a control message."""
    kind = type(message)
    fields: dict[str, Any] = {"type": kind.__name__.lower()}
    for name in _CODECS[kind]:
        fields[name] = getattr(message, name)
    return msgpack.packb(fields)  # type: ignore[no-any-return]


def encode_demand(session: int, number: int, settled: Settled | None, leases: int) -> bytes:
    """The bytes of a Demand with these attributes. One goes out for each frame, so it is not made an object first."""
    return msgpack.packb(  # type: ignore[no-any-return]
        {"type": "demand", "session": session, "number": number, "settled": settled, "leases": leases}
    )


def decode_from_client(data: bytes, items: int = MAX_ITEMS) -> FromClient:
    """Read what a client sent.

    Args:
        data: the message.
        items: of one list or map at most.

    Raises:
        WireError: not a message that a client may send, or too long.
    """
    if len(data) > MAX_CONTROL_BYTES:
        raise WireError(
            "oversized", f"a control message has {len(data)} bytes, at most {MAX_CONTROL_BYTES} are allowed"
        )
    message: FromClient = _decode(data, FROM_CLIENT, unpack_limits(items))
    return message


def decode_from_daemon(data: bytes) -> FromDaemon:
    """Read what the daemon sent.

    Raises:
        WireError: not a message of the daemon.
    """
    message: FromDaemon = _decode(data, FROM_DAEMON, {})
    return message


def _decode(data: bytes, kinds: Mapping[str, type[Any]], limits: Mapping[str, int]) -> Any:
    try:
        fields = msgpack.unpackb(data, **limits)
    except UNPACK_ERRORS as error:
        raise WireError("bad_message", f"a control message is not one msgpack map: {error}") from error
    name = fields.get("type") if isinstance(fields, dict) else None
    kind = kinds.get(name) if isinstance(name, str) else None
    if kind is None:
        raise WireError("bad_message", f"type {shown(name)} is none of {', '.join(kinds)}")
    values = {}
    key = ""
    try:
        for key, check in _CODECS[kind].items():
            if key in fields:
                values[key] = check(fields[key])
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError("bad_message", f"{name}.{key}: {error}") from None
    try:
        return kind(**values)
    except TypeError:
        missing = [f.name for f in dataclasses.fields(kind) if f.name not in values and _required(f)]
        raise WireError("bad_message", f"{name} lacks {', '.join(missing)}") from None


def _required(item: "dataclasses.Field[Any]") -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


# --- one checking function per field, built once from the annotations ---


def _codec(annotation: Any) -> Callable[[Any], Any]:
    if annotation is Settled:
        return _settled
    origin = typing.get_origin(annotation)
    if origin in (types.UnionType, typing.Union):
        (inner,) = (a for a in typing.get_args(annotation) if a is not types.NoneType)
        check = _codec(inner)
        return lambda value: None if value is None else check(value)
    if origin is list:
        check = _codec(typing.get_args(annotation)[0])
        return lambda value: [check(item) for item in _instance(value, list)]
    if origin is dict:
        return lambda value: _instance(value, dict)
    if annotation is float:
        return _number
    return lambda value: _instance(value, annotation)


def _instance(value: Any, kind: type[_M]) -> _M:
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, found {type(value).__name__}")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError(f"expected a number, found {type(value).__name__}")
    if not math.isfinite(value):
        raise ValueError("expected a finite number")
    return float(value)


def _settled(value: Any) -> Settled:
    if not isinstance(value, list) or len(value) != len(Settled._fields):
        raise TypeError(f"expected [{', '.join(Settled._fields)}]")
    for item, kind in zip(value, _SETTLED_TYPES, strict=True):
        if type(item) is not kind:
            _instance(item, kind)
    return Settled(*value)


_SETTLED_TYPES: Final = (str, int, int, str, int, int)

_CODECS: Final[Mapping[type[Any], Mapping[str, Callable[[Any], Any]]]] = {
    kind: {name: _codec(hint) for name, hint in typing.get_type_hints(kind).items()}
    for kind in (*FROM_CLIENT.values(), *FROM_DAEMON.values())
}

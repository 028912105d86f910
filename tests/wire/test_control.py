"""Control messages: each field's type restated, refusals with the field's name, unknown fields, limits, sizes."""

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supplierd.wire import WireError, control
from supplierd.wire.control import MAX_CONTROL_BYTES, OUTCOMES, Settled
from supplierd.wire.frame import MAX_ITEMS
from tests.wire.strategies import counts, text

# Every message's fields and types; a field with "=" has a default, one with "?" may be None.
MESSAGES = {
    "join": "worker:str instance:bytes attempt:int versions:[int] client:str streams:[str] delivery:str= "
    "target_fps:number?= boot:bytes= pid:int= arena:str= settled:settled?=",
    "demand": "session:int number:int settled:settled?= leases:int=",
    "recheck": "session:int number:int",
    "leave": "session:int settled:settled?=",
    "stats": "",
    "welcome": "session:int endpoint:str attempt:int worker_class:str repeat_after:number target_fps:number?= "
    "daemon:str= version:int= bell:str=",
    "refused": "reason:str message:str attempt:int=",
    "rejoin": "session:int reason:str",
    "wait": "number:int sent:bool",
    "newest": "number:int",
    "takenover": "session:int by:str",
    "goodbye": "reason:str",
    "snapshot": "snapshot:map=",
    "error": "reason:str message:str",
}
FROM_CLIENT = ("join", "demand", "recheck", "leave", "stats")
REPORT: list[Any] = ["cam-1", 5, 7, "consumed", 1, 2]
SETTLED = st.builds(Settled, text, counts, counts, st.sampled_from(OUTCOMES), counts, counts)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "str": text,
    "bytes": st.binary(max_size=40),
    "int": st.integers(-(2**63), 2**64 - 1),
    "number": st.floats(allow_nan=False, allow_infinity=False),
    "bool": st.booleans(),
    "map": st.dictionaries(text, text, max_size=3),
    "settled": SETTLED,
    "[int]": st.lists(st.integers(-(2**63), 2**64 - 1), max_size=3),
    "[str]": st.lists(text, max_size=3),
}
SAMPLES: dict[str, list[Any]] = {
    "str": ["", "text"],
    "bytes": [b"", b"bytes"],
    "int": [0, -1, 2**60, 2**64 - 1, -(2**63)],
    "number": [0, -1, 2**60, 2**64 - 1, 1.5, -(2**63)],
    "bool": [True, False],
    "map": [{}, {"a": [1, None]}],
    "settled": [REPORT],
    "[int]": [[], [1, -1]],
    "[str]": [[], ["cam-1", ""]],
}
WRONG: list[Any] = [
    [True],
    [1, "a"],
    [None],
    [b"a"],
    [1.0],
    REPORT[:5],
    [*REPORT, 0],
    ["cam-1", 5, True, "consumed", 1, 2],
    float("nan"),
    float("inf"),
    float("-inf"),
]
FIELDS = [(kind, *field.split(":")) for kind, fields in MESSAGES.items() for field in fields.split()]


def decode(kind: str, fields: dict[str, Any]) -> Any:
    data = msgpack.packb({"type": kind, **fields})
    return control.decode_from_client(data) if kind in FROM_CLIENT else control.decode_from_daemon(data)


def sample(kind: str) -> dict[str, Any]:
    """The required fields of a message."""
    fields = dict(field.split(":") for field in MESSAGES[kind].split())
    return {name: SAMPLES[type_][0] for name, type_ in fields.items() if not type_.endswith("=")}


def test_the_types_restated() -> None:
    kinds = {**control.FROM_CLIENT, **control.FROM_DAEMON}
    assert {kind: set(cls.__dataclass_fields__) for kind, cls in kinds.items()} == {
        kind: {field.partition(":")[0] for field in fields.split()} for kind, fields in MESSAGES.items()
    }
    assert tuple(control.FROM_CLIENT) == FROM_CLIENT


@pytest.mark.parametrize(("kind", "name", "type_"), FIELDS, ids=str)
def test_each_field(kind: str, name: str, type_: str) -> None:
    optional, nullable, type_ = type_.endswith("="), "?" in type_, type_.rstrip("?=")
    right = [*SAMPLES[type_], *([None] if nullable else [])]
    others = [None, *WRONG, *(value for values in SAMPLES.values() for value in values)]
    for value in right:
        found = getattr(decode(kind, {**sample(kind), name: value}), name)
        assert found == (Settled(*value) if value is REPORT else float(value) if type_ == "number" and value else value)
    for value in others:
        if any(type(value) is type(r) and value == r for r in right):
            continue
        with pytest.raises(WireError) as caught:
            decode(kind, {**sample(kind), name: value})
        assert caught.value.reason == "bad_message"
        assert f"{kind}.{name}: expected" in str(caught.value)
    without = {key: value for key, value in sample(kind).items() if key != name}
    if optional:
        decode(kind, without)
    else:
        with pytest.raises(WireError, match=f"{kind} lacks {name}$"):
            decode(kind, without)


def test_every_missing_field_is_named() -> None:
    with pytest.raises(WireError, match=r"join lacks worker, instance, attempt, versions, client, streams$"):
        decode("join", {"delivery": "on_demand"})


@pytest.mark.parametrize("kind", MESSAGES)
def test_unknown_fields_are_accepted(kind: str) -> None:
    assert decode(kind, {**sample(kind), "newer": {"deep": [1]}, "": None}) == decode(kind, sample(kind))


@pytest.mark.parametrize("kind", MESSAGES)
def test_each_side_hears_only_the_other(kind: str) -> None:
    wrong = control.decode_from_daemon if kind in FROM_CLIENT else control.decode_from_client
    with pytest.raises(WireError, match="is none of"):
        wrong(msgpack.packb({"type": kind, **sample(kind)}))


@settings(deadline=None)
@given(data=st.data(), kind=st.sampled_from(sorted(MESSAGES)))
def test_what_is_encoded_is_decoded(data: st.DataObject, kind: str) -> None:
    values = {}
    for field in MESSAGES[kind].split():
        name, type_ = field.split(":")
        value = VALUES[type_.rstrip("?=")]
        values[name] = data.draw(st.none() | value if "?" in type_ else value)
    message = {**control.FROM_CLIENT, **control.FROM_DAEMON}[kind](**values)
    decoder = control.decode_from_client if kind in FROM_CLIENT else control.decode_from_daemon
    assert decoder(control.encode(message)) == message


def test_a_clients_message_has_a_largest_size() -> None:
    def stats(size: int) -> bytes:
        empty = len(msgpack.packb({"type": "stats", "x": b"\0" * 256}))
        return bytes(msgpack.packb({"type": "stats", "x": bytes(256 + size - empty)}))

    assert len(stats(MAX_CONTROL_BYTES)) == MAX_CONTROL_BYTES
    assert control.decode_from_client(stats(MAX_CONTROL_BYTES)) == control.Stats()
    with pytest.raises(WireError, match="has 65537 bytes, at most 65536 are allowed") as caught:
        control.decode_from_client(stats(MAX_CONTROL_BYTES + 1))
    assert caught.value.reason == "oversized"


def test_a_daemons_message_has_none() -> None:
    snapshot = control.Snapshot({"streams": ["x" * 100] * 10_000})
    assert control.decode_from_daemon(control.encode(snapshot)) == snapshot


def test_a_clients_list_has_a_longest() -> None:
    join = sample("join")
    assert len(decode("join", {**join, "streams": ["cam-1"] * MAX_ITEMS}).streams) == MAX_ITEMS
    with pytest.raises(WireError, match="1025 exceeds") as caught:
        decode("join", {**join, "streams": ["cam-1"] * (MAX_ITEMS + 1)})
    assert caught.value.reason == "bad_message"


@pytest.mark.parametrize("kind", [None, 1, True, b"stats", ["stats"], {"stats": 1}, "", "STATS", "_m", "x" * 60_000])
def test_a_type_that_is_none(kind: object) -> None:
    with pytest.raises(WireError, match="is none of join, demand, recheck, leave, stats") as caught:
        control.decode_from_client(msgpack.packb({"type": kind}))
    assert len(str(caught.value)) < 200

"""Random documents: they load or are refused with ConfigError, and what loads also satisfies the JSON Schema."""

import contextlib
import json
import math
import re
from datetime import date
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from supplierd.config import ConfigError, entries, load
from supplierd.config.kinds import NAME_PATTERN, public_key
from supplierd.wire.keys import ALPHABET, is_key
from supplierd.wire.names import is_name
from tests.config.schema import violations
from tests.fuzz.targets import load_config

EXAMPLE = (Path(__file__).parents[2] / "config" / "supplierd.toml").read_text()
WORDS = sorted({part.removesuffix("[]") for entry in entries() for part in entry.key.split(".")})
VALUES = [
    "ipc",
    "ipc:///x",
    "tcp://127.0.0.1:5601",
    "tcp://*:1",
    "auto",
    "push",
    "high",
    "1-2",
    "localhost:1",
    "*",
    "/",
]

text = st.text(st.characters(codec="utf-8"), max_size=8)
scalars = (
    st.booleans()
    | st.integers()
    | st.integers(-2, 2000)
    | st.floats()
    | st.floats(0, 1)
    | st.sampled_from(VALUES + WORDS)
    | text
    | st.dates()
)
names = st.sampled_from(WORDS) | text


def tables(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(values, max_size=3) | st.dictionaries(names, values, max_size=3)


documents = st.dictionaries(names, st.dictionaries(names, st.recursive(scalars, tables), max_size=4), max_size=4)
declared = [(*entry.key.split("."),) for entry in entries() if "[]" not in entry.key]


def toml(value: object) -> str:
    """`value` as an inline TOML value."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(name)} = {toml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


@given(document=documents)
def test_random_tables(document: dict[str, object]) -> None:
    load_config("\n".join(f"{toml(name)} = {toml(value)}" for name, value in document.items()).encode())


@given(place=st.sampled_from(declared), value=scalars | tables(scalars))
def test_random_values_of_each_key(place: tuple[str, ...], value: object) -> None:
    load_config(f"{'.'.join(place)} = {toml(value)}".encode())


@given(content=st.binary(max_size=64))
def test_random_bytes(content: bytes) -> None:
    load_config(content)


@given(start=st.integers(0, len(EXAMPLE)), length=st.integers(0, 40), insert=text | st.sampled_from(VALUES))
def test_mutations_of_the_example(start: int, length: int, insert: str) -> None:
    load_config((EXAMPLE[:start] + insert + EXAMPLE[start + length :]).encode())


@given(
    overrides=st.dictionaries(
        st.sampled_from([".".join(place) for place in declared]) | text,
        st.none() | scalars | st.binary() | st.just(Path("/")),
    )
)
def test_random_overrides(overrides: dict[str, object]) -> None:
    with contextlib.suppress(ConfigError):
        load(None, overrides)


@given(groups=st.lists(st.text(ALPHABET, min_size=5, max_size=5), min_size=8, max_size=8))
@example(["a$aa-"] * 8)
def test_the_schema_takes_every_key(groups: list[str]) -> None:
    kind = public_key()
    key = "".join(groups)
    assert violations(key, kind.schema) == [], "the five digits of a number may say too much, which it leaves open"
    assert violations(key[1:], kind.schema)
    assert violations(f"{key[1:]}~", kind.schema)
    assert is_key("a$aa-" * 8)
    pattern = str(kind.schema["pattern"])
    assert set(re.findall(r"\\(.)", pattern)) <= set(r"\]^-["), "ECMA's regular expressions have no other escapes here"


@given(name=names | st.from_regex(NAME_PATTERN))
def test_the_schema_has_the_wire_formats_rule_for_names(name: str) -> None:
    schema = {"propertyNames": {"pattern": NAME_PATTERN}}
    assert is_name(name) == (violations({name: {}}, schema) == [])

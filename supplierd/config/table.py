"""How a table of the configuration is declared and read.

A table is a frozen dataclass, each field of which is annotated with its Key. Whatever is refused is collected with
its path and leaves the default in place, so that later checks still have a whole configuration to look at.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, TypeVar, get_args

from supplierd.config import kinds
from supplierd.config.kinds import Kind, Problem, RefusedError

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Key:
    """What is declared of one key.

    Attributes:
        kind: what its value may be.
        help: what it does, one line.
        absent: what holds where the default is that the key is absent.
        name: in TOML, where that cannot be the field's name.
    """

    kind: Kind
    help: str
    absent: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the configuration."""

    def declared(self) -> Iterator[tuple[str, str, Key]]:
        """Each key's name in TOML, the name of its field, and its declaration."""
        for item in fields(self):
            key: Key = get_args(item.type)[1]
            yield key.name or item.name, item.name, key

    def schema(self) -> kinds.Schema:
        """The table as JSON Schema, with the values here as defaults."""
        properties: dict[str, object] = {}
        for name, attribute, key in self.declared():
            default = {} if key.absent else {"default": kinds.plain(getattr(self, attribute))}
            properties[name] = {**key.kind.schema, "description": key.help, **default}
        return {"type": "object", "properties": properties, "additionalProperties": False}


T = TypeVar("T", bound=Table)


def read(base: T, raw: object, at: str, problems: list[Problem]) -> T:
    """`base` with the values of the TOML table `raw`, which stands at the path `at`."""
    declared = {name: (attribute, key.kind) for name, attribute, key in base.declared()}
    values: dict[str, Any] = {}
    for name, value in known_items(raw, at, list(declared), problems):
        attribute, kind = declared[name]
        try:
            values[attribute] = kind.read(value)
        except RefusedError as refused:
            problems += [Problem(join(at, name) + place, text) for place, text in refused.problems]
    return replace(base, **values)


def known_items(
    raw: object,
    at: str,
    known: Sequence[str],
    problems: list[Problem],
    elsewhere: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[tuple[str, object]]:
    """The items of the TOML table `raw`, which stands at the path `at`, but for unknown keys: those are problems.

    `elsewhere` has the paths of keys that may have been meant, though they belong into another table.
    """
    for name, value in all_items(raw, at, problems):
        if name in known:
            yield name, value
        else:
            near = get_close_matches(name, [*known, *elsewhere], 1)
            hint = f"known here: {', '.join(known) or 'none'}"
            if near:
                hint = f"did you mean {elsewhere.get(near[0]) or join(at, near[0])}?"
            problems.append(Problem(join(at, name), f"unknown key, {kinds.found(value)}; {hint}"))


def all_items(raw: object, at: str, problems: list[Problem]) -> Iterable[tuple[str, object]]:
    """The items of `raw`, which stands at the path `at`; none, and a problem, where it is no table."""
    if isinstance(raw, dict):
        return raw.items()
    problems.append(Problem(at, f"{kinds.found(raw)}, allowed: a table"))
    return ()


def join(at: str, name: str) -> str:
    """The path of the key `name` in the table at the path `at`, quoted where TOML needs it."""
    shown = kinds.shortened(name) if _BARE_KEY.fullmatch(name) else kinds.literal(name)
    return f"{at}.{shown}" if at else shown

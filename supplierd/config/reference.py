"""The list of all configuration keys, derived from their declarations: for people and, as JSON Schema, for editors."""

from typing import Any, NamedTuple

from supplierd.config import kinds
from supplierd.config.model import ANY_NAME, InboxEndpoint, tables


class Entry(NamedTuple):
    """One key: its path, its default as TOML or in words, what is allowed, and what it does."""

    key: str
    default: str
    allowed: str
    help: str

    def __str__(self) -> str:
        return f"{self.key} (default: {self.default})\n    {self.help} Allowed: {self.allowed}."


def entries() -> tuple[Entry, ...]:
    """Every key, table by table; NAME stands for the name of a stream, a worker or a key."""
    return tuple(
        Entry(
            ".".join(filter(None, [section, name, key_name])),
            key.absent or kinds.literal(kinds.plain(getattr(table, attribute))),
            key.kind.allowed,
            key.help,
        )
        for section, name, table in (*tables(), ("inbox", "endpoints[]", InboxEndpoint()))
        for key_name, attribute, key in table.declared()
    )


def config_reference() -> str:
    """All keys as a Markdown table with aligned columns."""
    rows = [Entry("key", "default", "allowed", "meaning"), *entries()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, Entry(*("-" * width for width in widths)))
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in rows
    )


def json_schema() -> dict[str, object]:
    """The configuration file as JSON Schema (draft 2020-12). What several keys say together is not in it."""
    sections: dict[str, Any] = {}
    for section, name, table in tables():
        if not name:
            sections[section] = table.schema()
            continue
        outer = sections.setdefault(section, {"type": "object", "properties": {}, "additionalProperties": False})
        if name == ANY_NAME:
            outer |= {"propertyNames": {"pattern": kinds.NAME_PATTERN}, "additionalProperties": table.schema()}
            del outer["properties"]
        else:
            outer["properties"][name] = table.schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "supplierd's configuration",
        "type": "object",
        "properties": sections,
        "additionalProperties": False,
    }

"""The shipped files: they load, the full one has every key, and its comments say what the declarations say.

In supplierd.toml a line "#key = value", without a space, is a setting that is off.
"""

import json
import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from supplierd.config import Config, config_reference, entries, json_schema, load
from supplierd.config.reference import Entry
from supplierd.core.service import ServiceClass
from tests.config.schema import violations

FOLDER = Path(__file__).parents[2] / "config"
FULL = FOLDER / "supplierd.toml"
SETTING = re.compile(r"#?([a-z_]+) = (.*)")


class Setting(NamedTuple):
    """One line "key = value" of the file, on or off, with the comment above and behind it."""

    table: str
    key: str
    value: str
    comment: str
    on: bool


def settings() -> list[Setting]:
    found, table, comment = [], "", ""
    for line in FULL.read_text().splitlines():
        if header := re.fullmatch(r"#?\[(.*)\]", line):
            table, comment = header[1], ""
        elif match := SETTING.fullmatch(line):
            value, _, behind = match[2].partition(" # ")
            found.append(Setting(table, match[1], value, comment + behind, not line.startswith("#")))
            comment = ""
        else:
            comment = f"{comment} {line.removeprefix('# ')}" if line else ""
    return found


def of(entry: Entry) -> list[Setting]:
    """The lines about `entry`; a key of an endpoint's table stands inside the endpoints' line."""
    *table, key = entry.key.split(".")
    pattern = re.compile(r"\.".join(part.replace("NAME", "[a-z0-9-]+") for part in table if part != "endpoints[]"))
    if "endpoints[]" in table:
        return [s for s in settings() if s.table == "inbox" and f"{key} = " in s.value]
    return [s for s in settings() if pattern.fullmatch(s.table) and s.key == key]


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.toml")))
def test_shipped_files_load_and_satisfy_the_schema(name: str) -> None:
    load(FOLDER / name)
    assert violations(tomllib.loads((FOLDER / name).read_text()), json_schema()) == []


def test_the_full_file_has_the_users_workers_and_else_the_defaults() -> None:
    config = load(FULL)
    assert {name: worker.service_class for name, worker in config.workers.items()} == {
        "person-detector": ServiceClass.CRITICAL,
        "pose": ServiceClass.HIGH,
        "optical-flow": ServiceClass.NORMAL,
        "vision-language": ServiceClass.BEST_EFFORT,
    }
    assert config.workers["person-detector"].target_fps == 10
    assert list(config.streams) == ["cam-1"]
    assert config == Config(streams=config.streams, workers=config.workers)


def test_the_settings_that_are_off_are_valid_too(tmp_path: Path) -> None:
    lines: list[str] = []
    for line in FULL.read_text().splitlines():
        match = SETTING.fullmatch(line)
        if match and line.startswith("#"):  # the same key may be on in another form
            start = max((i for i, earlier in enumerate(lines) if earlier.startswith("[")), default=0)
            lines[start:] = [earlier for earlier in lines[start:] if not earlier.startswith(f"{match[1]} = ")]
        lines.append(line.removeprefix("#") if re.match(r"#[a-z\[]", line) else line)
    path = tmp_path / "all-on.toml"
    path.write_text("\n".join(lines))
    config = load(path)
    assert config.workers["recorder"].delivery == "push"
    assert len(config.inbox.endpoints) == 2
    assert config.daemon.runtime_dir == Path("/run/supplierd")


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.key)
def test_every_key_is_there_with_its_default_and_what_is_allowed(entry: Entry) -> None:
    lines = of(entry)
    assert lines
    assert any(f"Default: {entry.default}." in line.comment for line in lines)
    section = lines[0].table.split(".")[0]
    peers = [s for s in settings() if s.table.split(".")[0] == section and s.key == lines[0].key]
    assert any(f"Allowed: {entry.allowed}" in peer.comment for peer in peers)


def test_no_comment_states_another_default() -> None:
    for setting in settings():
        comment = setting.comment
        for entry in entries():
            if setting in of(entry):
                comment = comment.replace(f"Default: {entry.default}.", "")
        assert "Default" not in comment


def test_the_reference_has_a_row_for_each_key() -> None:
    table = config_reference().splitlines()
    assert len({len(line) for line in table}) == 1
    assert [line.split("|")[1].strip() for line in table[2:]] == [entry.key for entry in entries()]
    assert str(next(e for e in entries() if e.key == "daemon.max_workers")) == (
        "daemon.max_workers (default: 128)\n"
        "    How many workers it knows at a time. Allowed: an integer from 1 to 1024 (workers)."
    )


def test_the_schema_is_json_and_has_each_key_with_its_help() -> None:
    schema = json.loads(json.dumps(json_schema()))
    for entry in entries():
        node = schema
        for part in entry.key.split("."):
            if part == "endpoints[]":
                node = node["properties"]["endpoints"]["items"]["anyOf"][1]
            else:
                node = node["additionalProperties"] if part == "NAME" else node["properties"][part]
        assert node["description"] == entry.help
        assert entry.default == json.dumps(node["default"]) if "default" in node else "default" not in node


@pytest.mark.parametrize(
    ("document", "places"),
    [
        ({"daemon": {"max_workers": 0, "insecure": 1}}, [".daemon.max_workers", ".daemon.insecure"]),
        ({"daemons": {}}, [".daemons"]),
        (
            {"workers": {"a b": {}, "c": {"target_fps": 0, "class": "x"}}},
            [".workers.a b", ".workers.c.target_fps", ".workers.c.class"],
        ),
        (
            {"inbox": {"endpoints": []}, "control": {"endpoints": ["udp://x:1"]}},
            [".inbox.endpoints", ".control.endpoints[0]"],
        ),
    ],
)
def test_the_schema_refuses(document: dict[str, object], places: list[str]) -> None:
    assert violations(document, json_schema()) == places

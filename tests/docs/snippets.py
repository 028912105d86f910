"""The runnable blocks of a Markdown document; CONTRIBUTING.md describes the marks.

A mark is a comment on the line before a fenced block: `<!-- test: NAME OPTION… -->`, or `<!-- not tested: why -->`.
Blocks of one name in one document are a group and run in order.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
RUNNABLE: Final = ("console", "sh", "bash", "python")
"""Languages of blocks that must be run or say why they are not."""
SWITCHES: Final = ("daemon", "background")
SETTINGS: Final = ("frames", "seconds", "file", "status", "needs")

_MARK = re.compile(r"<!-- (test|not tested): (.+) -->")
_FENCE = re.compile(r"(`{3,})(\w*)\s*")


class Block(NamedTuple):
    """One fenced block: where it is, its language, its lines, and its mark."""

    document: str
    line: int
    language: str
    text: str
    kind: str
    group: str
    options: dict[str, str]

    @property
    def place(self) -> str:
        """Where a reader finds it."""
        return f"{self.document}:{self.line}"

    @property
    def commands(self) -> str:
        """A shell script: in a console the lines after "$ " (and those that they continue on), else all of it."""
        if self.language != "console":
            return self.text
        commands, goes_on = [], False
        for line in self.text.splitlines():
            if goes_on or line.startswith("$ "):
                commands.append(line if goes_on else line.removeprefix("$ "))
                goes_on = line.endswith("\\")
        return "\n".join(commands)


def documents() -> list[Path]:
    """Every Markdown file that is part of the documentation."""
    found = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("clients/**/*.md"),
        *ROOT.glob("deploy/**/*.md"),
    ]
    return sorted(path for path in found if "node_modules" not in path.parts)


def blocks(path: Path) -> Iterator[Block]:
    """All fenced blocks of a document, marked or not."""
    document = str(path.relative_to(ROOT))
    lines = iter(enumerate(path.read_text().splitlines(), 1))
    mark = ""
    for number, line in lines:
        fence = _FENCE.fullmatch(line)
        if fence is None:
            mark = line
            continue
        content = []
        for _, inner in lines:
            if inner.strip() == fence[1]:
                break
            content.append(inner)
        else:
            raise ValueError(f"{document}:{number}: the block does not end")
        kind, group, options = _read_mark(mark, f"{document}:{number}")
        yield Block(document, number, fence[2], "\n".join(content), kind, group, options)
        mark = ""


def _read_mark(line: str, place: str) -> tuple[str, str, dict[str, str]]:
    match = _MARK.fullmatch(line.strip())
    if match is None:
        return "", "", {}
    if match[1] == "not tested":
        return "not tested", "", {}
    group, *words = match[2].split()
    options = dict(word.partition("=")[::2] for word in words)
    for name, value in options.items():
        if name not in (SETTINGS if value else SWITCHES):
            raise ValueError(f"{place}: option {name!r} is unknown: {', '.join((*SWITCHES, *SETTINGS))}")
    return "test", group, options


def groups() -> dict[str, list[Block]]:
    """The blocks to be run, by document and name."""
    found: dict[str, list[Block]] = {}
    for path in documents():
        for block in blocks(path):
            if block.kind == "test":
                found.setdefault(f"{block.document}:{block.group}", []).append(block)
    return found

"""Each decision record has its parts and stands in the index."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.docs.snippets import ROOT

FOLDER: Final = ROOT / "docs" / "adr"
RECORDS: Final = sorted(FOLDER.glob("[0-9]*.md"))
PARTS: Final = ("Context", "Decision", "Consequences", "Changelog")


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_record_has_its_parts(path: Path) -> None:
    text = path.read_text()
    number = path.name[:4]
    assert text.startswith(f"# {number}: ")
    assert re.search(r"^- Status: (accepted|superseded by .+)$", text, re.MULTILINE)
    assert re.search(r"^- Date: \d{4}-\d\d-\d\d$", text, re.MULTILINE)
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert [heading for heading in headings if heading != "Figures"] == list(PARTS)
    assert f"| [{number}]({path.name}) |" in (FOLDER / "README.md").read_text()


def test_numbers_are_in_sequence() -> None:
    assert [int(path.name[:4]) for path in RECORDS] == list(range(1, len(RECORDS) + 1))

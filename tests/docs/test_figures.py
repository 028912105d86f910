"""Figures that the same command always makes are what the documents say."""

from tests.docs.snippets import ROOT
from tools.figures import rate


def test_the_promised_rate() -> None:
    assert rate() in (ROOT / "docs" / "adr" / "0007-promised-rate.md").read_text(), "python tools/figures.py rate"

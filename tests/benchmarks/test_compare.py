"""The driver of the comparison still drives: supplierd and raw pyzmq for a second each, and a peer that is missing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.docs.snippets import ROOT

SYSTEMS: Final = ("supplierd-loan", "zmq", "imagezmq")
FIGURES: Final = {
    "age_p50_ms",
    "age_p99_ms",
    "age_max_ms",
    "publish_p50_ms",
    "publish_p99_ms",
    "publish_max_ms",
    "cpu_s_per_1000",
    "memory_mb",
    "published_fps",
    "received_fps",
    "missed",
    "reported_drops",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one run left its results, and a document with its tables."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "page.md").write_text("before\n<!-- begin compared -->\nold\n<!-- end compared -->\nafter\n")
    (folder / "short.md").write_text("<!-- begin in short -->\nold\n<!-- end in short -->\n")
    compare(folder)
    return folder


def compare(folder: Path) -> str:
    """Run it; what it says on its way."""
    command = [sys.executable, str(ROOT / "benchmarks" / "compare.py"), "--systems", *SYSTEMS, "--works", "jpeg-1"]
    command += [
        "--rounds",
        "1",
        "--seconds",
        "1",
        "--json",
        str(folder / "all.json"),
        "--paste",
        str(folder / "page.md"),
        "--paste-summary",
        str(folder / "short.md"),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=50).stderr


def row(folder: Path, system: str) -> dict[str, Any]:
    (found,) = json.loads((folder / "all.json").read_text())["cells"][system]["jpeg-1"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("system", ["supplierd-loan", "zmq"])
def test_a_row_is_complete(folder: Path, system: str) -> None:
    found = row(folder, system)
    assert "error" not in found, found["error"]
    assert set(found) >= FIGURES
    assert found["delivered"] > 0
    assert 0 < found["age_p50_ms"] <= found["age_p99_ms"] <= found["age_max_ms"]
    assert 0 < found["publish_p50_ms"] <= found["publish_p99_ms"] <= found["publish_max_ms"]
    assert found["memory_mb"] > 0
    assert found["left_files"] == found["without_a_frame"] == 0
    assert "hung" not in found


def test_only_a_system_that_counts_reports_its_drops(folder: Path) -> None:
    assert row(folder, "supplierd-loan")["reported_drops"] >= 0
    assert row(folder, "zmq")["reported_drops"] is None


def test_a_system_that_is_not_installed_is_listed_with_the_reason(folder: Path) -> None:
    assert row(folder, "imagezmq")["skipped"].startswith("not installed: Python module imagezmq")
    assert "- imagezmq: **not measured**, not installed" in (folder / "page.md").read_text()


def test_the_tables_get_between_the_marks(folder: Path) -> None:
    page = (folder / "page.md").read_text()
    assert page.startswith("before\n<!-- begin compared -->\n\nMeasured on")
    assert page.endswith("\n<!-- end compared -->\nafter\n")
    assert "| supplierd-loan |" in page
    assert "old" not in page


def test_one_table_says_it_in_short(folder: Path) -> None:
    found = row(folder, "zmq")
    page = (folder / "short.md").read_text()
    (line,) = [line for line in page.replace("**", "").splitlines() if line.startswith("| zmq |")]
    assert line.count("/") == 2
    assert float(line.split()[3]) == pytest.approx(found["age_p50_ms"], rel=0.1, abs=0.01)
    assert "old" not in page


def test_what_is_measured_is_not_measured_again(folder: Path) -> None:
    before = (folder / "all.json").read_text()
    assert "round" not in compare(folder)
    assert (folder / "all.json").read_text() == before

"""A short run of chaos in each `make test`: a fixed handful of steps. `make chaos` goes on for longer, by chance."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support import hosts
from tests.support.daemon import environment

ROOT: Final = Path(__file__).parent.parent.parent
TIMEOUT: Final = 50.0
SEED: Final = "3705"
"""One whose freezes and partitions are short: who is struck, and for how long, follows from it."""


def run(*arguments: str) -> str:
    """Run a program of this repository to its end; what it printed. It must exit with 0."""
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), check=False, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def chaos(*faults: str) -> dict[str, Any]:
    """Strike with these faults, one after the other; the report."""
    said = run("-m", "tests.chaos", "--seed", SEED, "--faults", " ".join(faults))
    print(said)
    report: dict[str, Any] = json.loads(said[said.index("{") :])
    assert report["steps"] == len(faults)
    assert all(report["frames"].values())
    return report


def needs_a_world() -> None:
    """Skip the test where there can be no other host."""
    if reason := hosts.why_not():
        pytest.skip(reason)


def test_a_handful_of_faults() -> None:
    report = chaos("massacre", "freeze", "clock", "descriptors")
    assert not report["violations"]


def test_a_cable_that_fails_and_memory_that_is_full() -> None:
    needs_a_world()
    report = chaos("partition", "full")
    assert not report["violations"]


def test_at_the_end_of_a_slow_link_frames_are_no_older_than_two_transmissions(tmp_path: Path) -> None:
    needs_a_world()
    figures = tmp_path / "figures.json"
    print(
        run(
            os.fspath(ROOT / "benchmarks" / "slow_link.py"),
            "--ways",
            "supplierd",
            "--seconds",
            "6",
            "--json",
            str(figures),
        )
    )
    found = json.loads(figures.read_text())
    ages = found["ways"]["supplierd"]
    assert ages["age_worst_s"] <= found["bound_s"]
    assert ages["fps"] >= 3.0  # the link carries 4.8 frames a second

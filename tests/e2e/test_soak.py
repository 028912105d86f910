"""The short form of benchmarks/soak.py: guests come and go, some killed, cameras too; and what its report calls broken.

Slopes of a few seconds say nothing about memory; that descriptors, threads and files are afterwards what they were
before, and that every ledger adds up all the time, they do.
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import environment

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def report() -> Any:
    spec = importlib.util.spec_from_file_location("soak_report", BENCHMARKS / "soak_report.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nothing_is_lost_or_left_over_while_guests_come_and_go() -> None:
    options = {
        "seconds": 8, "every": 0.5, "workers": 6, "fps": 15, "names": 24, "joins-per-second": 8,
        "camera-restarts": 3, "guest-kills": 3,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "soak.py", *(f"--{name}={value}" for name, value in options.items())],
        check=False, capture_output=True, text=True, env=environment(), timeout=55,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    text, _, table = done.stdout.partition("\n}\n")
    result = json.loads(text + "}")
    assert result["joins_and_leaves"] > 10
    assert sum(result["restarts"].values()) >= 2
    assert result["handed_to_crew"] == result["consumed_by_crew"]
    assert result["consumed_by_crew"] > 0
    assert result["unaccounted"] == result["files_left"] == result["broken"] == []
    assert all(f"| {name}" in table for name in result["growth"])
    assert "0 unaccounted" in table


def sound(report: Any) -> dict[str, Any]:
    """A result that breaks no bound."""
    growth = {name: {"start": 9, "end": 9, "per_hour": 0, "before": 9, "after": 9} for name in report.BOUNDS}
    counts = {"handed_to_crew": 5, "consumed_by_crew": 5, "published": 8, "published_by_cameras": 10}
    return {"growth": growth, "unaccounted": [], "files_left": [], "joins_and_leaves": 3, "workers": 1, **counts}


def test_a_sound_run_breaks_no_bound(report: Any) -> None:
    assert list(report.broken(sound(report), 1)) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"unaccounted": ["1 frames of w"]}, "unaccounted frames: 1 ledgers"),
        ({"files_left": ["x"]}, "files left over: x"),
        ({"handed_to_crew": 7}, "workers took 7 frames, their ledgers say 5"),
        ({"handed_to_crew": 4}, "workers took 4 frames, their ledgers say 5"),
        ({"published_by_cameras": 7}, "cameras published 7 frames, the daemon says 8"),
        ({"published_by_cameras": 11}, "cameras published 11 frames, the daemon says 8"),
        ({"joins_and_leaves": 0}, "no guest came"),
    ],
)
def test_what_is_lost_is_reported(report: Any, change: dict[str, Any], complaint: str) -> None:
    (found,) = report.broken(sound(report) | change, 1)
    assert complaint in found


def test_what_grows_is_reported(report: Any) -> None:
    for name, bound in report.BOUNDS.items():
        result = sound(report)
        leak = {"per_hour": 2 * bound.per_hour, "end": 9 + 2 * bound.noise}
        result["growth"][name] |= leak
        assert [text.partition(" grows")[0] for text in report.broken(result, 1)] == [name]
        result["growth"][name]["end"] = 9 + bound.noise
        assert list(report.broken(result, 1)) == [], "what is within the noise is no leak"


def test_what_is_not_as_before_is_reported(report: Any) -> None:
    for name in report.SAME_AFTERWARDS:
        result = sound(report)
        result["growth"][name]["after"] = 10
        assert list(report.broken(result, 1)) == [f"{name}: 9 before the first guest, 10 after the last"]


def test_the_slope_is_the_lines(report: Any) -> None:
    figures = report.fit([{"t": float(t), "fds": 10.0 + t / 100} for t in range(60)], "fds")
    assert figures["per_hour"] == pytest.approx(36.0)
    assert (figures["start"], figures["end"]) == (pytest.approx(10.0), pytest.approx(10.59))

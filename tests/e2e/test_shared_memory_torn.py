"""The short form of benchmarks/torn.py: frames at full speed, workers and publisher killed meanwhile, nothing torn."""

import json
import subprocess
import sys
from pathlib import Path

from tests.support.daemon import environment

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "torn.py"


def test_nothing_is_torn_or_left_over_while_everybody_is_killed() -> None:
    done = subprocess.run(
        [sys.executable, PROGRAM, "--frames", "3000", "--size", "500000", "--kill", "--seed", "5"],
        check=False, capture_output=True, text=True, env=environment(), timeout=50,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["frames"] >= 3000
    assert report["torn"] == report["out_of_order"] == report["leaked_slots"] == 0
    assert report["leaked_files"] == report["ledger_errors"] == report["idle_workers"] == []
    assert report["kills"]
    assert all(report["consumed"].values())

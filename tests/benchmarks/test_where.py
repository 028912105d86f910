"""The profile still finds all that it times: a run of half a second."""

import subprocess
import sys

from tests.docs.snippets import ROOT


def test_every_step_and_thread_has_its_line() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "where.py"), "--workers", "1", "--seconds", "0.5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    for thread in ("publisher, main", "daemon, main", "worker, main"):
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"| {thread} |")]
        assert int(line.split("|")[2]) > 0
    for step in ("publish", "· copy into a slot", "· doorbell"):
        assert f"| publisher | {step} |" in done.stdout
    assert "| daemon | a look at who is there |" in done.stdout

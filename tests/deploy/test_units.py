"""The units by themselves: what systemd says of them without running them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "deploy/systemd"
MAX_EXPOSURE = 1.5  # of 10, by systemd's own measure

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="this machine has no systemd")


@needs_systemd
def test_the_daemon_is_hardly_exposed() -> None:
    command = ["systemd-analyze", "security", "--offline=true", str(UNITS / "supplierd.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"exposure level for supplierd.service: ([\d.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= MAX_EXPOSURE


def test_each_class_has_its_retries() -> None:
    retries = {"critical": 3, "high": 3, "normal": 1}
    for name, count in retries.items():
        text = (UNITS / f"classes/{name}.conf").read_text()
        assert f"StartLimitBurst={count + 1}\n" in text
        assert "Restart=on-failure\n" in text
    assert "Restart=no\n" in (UNITS / "classes/best_effort.conf").read_text()


@pytest.mark.parametrize(
    ("starts", "waits"),
    [
        ([0], [""]),
        ([0, 10, 20, 30, 40], ["", "1", "2", "4", "4"]),  # the last delay repeats
        ([0, 10, 310, 320], ["", "1", "", "1"]),  # the count begins anew 300 s after the first start
    ],
)
def test_backoff_waits_longer_each_time(tmp_path: Path, starts: list[int], waits: list[str]) -> None:
    program = _backoff_with_a_clock(tmp_path)
    for now, wait in zip(starts, waits, strict=True):
        (tmp_path / "uptime").write_text(f"{now}.50 3.00\n")
        done = subprocess.run(
            ["/bin/sh", program, "300", "1", "2", "4"],
            env={"RUNTIME_DIRECTORY": str(tmp_path)}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.split()[-1:] == ([wait] if wait else [])


@pytest.mark.parametrize(("result", "waits"), [("success", []), ("watchdog", ["1"])])
def test_backoff_forgets_what_an_operator_stopped(tmp_path: Path, result: str, waits: list[str]) -> None:
    program = ["/bin/sh", str(_backoff_with_a_clock(tmp_path))]
    (tmp_path / "uptime").write_text("7.00 1.00\n")
    environ = {"RUNTIME_DIRECTORY": str(tmp_path), "SERVICE_RESULT": result}
    for arguments in (["300", "1"], ["stopped"]):
        subprocess.run([*program, *arguments], env=environ, check=True)
    again = subprocess.run([*program, "300", "1"], env=environ, capture_output=True, text=True, check=True)
    assert again.stdout.split()[-1:] == waits


def _backoff_with_a_clock(folder: Path) -> Path:
    """The script, telling its wait instead of waiting, with the uptime in a file of the test's."""
    script = (UNITS / "supplierd-backoff").read_text()
    program = folder / "backoff"
    program.write_text(script.replace("/proc/uptime", f"{folder}/uptime").replace("exec sleep", "exec echo"))
    return program

"""The import layers, by the contracts in pyproject.toml, and what a client really loads at run time.

The files' size is kept here too: a file that nobody can hold in mind hides where its layer ends.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from supplierd.arena import holding
from tests.support.twins import is_compiled

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for name in ("supplierd", "clients", "tests") for path in (ROOT / name).rglob("*.py"))
MAX_LINES = 400  # what one can hold in mind


def test_imports_keep_to_the_layers() -> None:
    """In a process of its own, since it silences all loggers."""
    program = "from importlinter.cli import lint_imports_command as main; main()"
    command = [sys.executable, "-c", program, "--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def loaded_by(module: str) -> set[str]:
    """What an import loads."""
    program = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_client_loads_nothing_of_the_daemon() -> None:
    loaded = loaded_by("supplierd_client")
    ours = {".".join(name.split(".")[:2]) for name in loaded if name.startswith("supplierd.")}
    assert ours <= {"supplierd.wire", "supplierd.arena", "supplierd.notify"}
    assert not {"click", "prometheus_client", "av", "cv2"} & loaded


def test_the_daemon_loads_nothing_that_it_does_not_need() -> None:
    """They would be half of its memory, and of the time that its start takes."""
    heavy = {"asyncio", "http", "ssl", "prometheus_client", "rich"}
    if is_compiled(holding):  # in Python it needs NumPy
        heavy.add("numpy")
    assert not heavy & loaded_by("supplierd.cli, supplierd.daemon.serve")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_small(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{path.relative_to(ROOT)} has {lines} lines, more than {MAX_LINES}: split it"

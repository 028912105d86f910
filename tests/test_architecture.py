"""The import layers, by the contracts in pyproject.toml, and what a client really loads at run time.

The files' size is kept here too: a file that nobody can hold in mind hides where its layer ends.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for name in ("supplierd", "clients", "tests") for path in (ROOT / name).rglob("*.py"))
MAX_LINES = 400  # what one can hold in mind


def test_imports_keep_to_the_layers(capsys: pytest.CaptureFixture[str]) -> None:
    exit_code = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert exit_code == 0, capsys.readouterr().out


def test_importing_the_client_loads_nothing_of_the_daemon() -> None:
    program = "import sys, supplierd_client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {".".join(name.split(".")[:2]) for name in done.stdout.split() if name.startswith("supplierd.")}
    assert loaded <= {"supplierd.wire", "supplierd.arena", "supplierd.notify"}
    assert not {"click", "prometheus_client", "av", "cv2"} & set(done.stdout.split())


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_small(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{path.relative_to(ROOT)} has {lines} lines, more than {MAX_LINES}: split it"

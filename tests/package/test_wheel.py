"""The wheel: built from this tree, installed into a clean virtual environment, and used there.

The environment sees the dependencies of the one that runs the tests through a .pth file, written after installing:
nothing is downloaded, and this tree's own editable installation stays out of it.
"""

import email
import os
import signal
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import supplierd
from tests.package.building import run
from tests.support.daemon import environment
from tests.support.waiting import DEADLINE, wait_for

ROUND_TRIP: Final = """
import supplierd, supplierd_client
from supplierd_client import Publisher, Worker
print(supplierd.__file__, supplierd_client.__file__)
with Worker("reader", ["cam-1"]) as worker, Publisher("cam-1") as publisher:
    assert publisher.publish(b"a frame", metadata={"room": 7}) == 1
    frame = worker.read(10.0)
    assert bytes(frame.data) == b"a frame" and frame.metadata == {"room": 7}, frame
"""

pytestmark = [pytest.mark.package, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a clean environment in which it is installed."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    found = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", found)
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    purelib = run(found, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    Path(purelib, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return found


@pytest.fixture
def environ(home: Path) -> dict[str, str]:
    """The environment variables of a program that looks for a daemon in a runtime directory of its own."""
    return environment({"SUPPLIERD_RUNTIME_DIR": str(home / "run"), "PYTHONPATH": ""})


@pytest.fixture
def daemon(python: Path, home: Path, environ: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The installed daemon, serving."""
    command = [str(python.with_name("supplierd")), "run", "--metrics-address", "127.0.0.1:0"]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environ, cwd=home)
    wait_for((home / "run" / "control.sock").exists, "the daemon to serve")
    yield process
    process.kill()
    process.wait(DEADLINE)


def test_what_it_holds(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        meta = next(name for name in names if name.endswith(".dist-info/METADATA"))
        about = email.message_from_bytes(archive.read(meta))
    assert about["Name"] == "supplierd"
    assert about["Version"] == supplierd.__version__
    assert about["License-Expression"] == "Apache-2.0"
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"supplierd", "supplierd_client", meta.partition("/")[0]}
    assert {"supplierd/py.typed", "supplierd_client/py.typed"} <= names


def test_it_runs_in_a_clean_environment(
    python: Path, environ: dict[str, str], home: Path, daemon: subprocess.Popen[bytes]
) -> None:
    version = run(python.with_name("supplierd"), "version", cwd=home, env=environ)
    assert version.startswith(f"supplierd {supplierd.__version__}, wire 1, libzmq ")
    places = run(python, "-c", ROUND_TRIP, cwd=home, env=environ).split()
    prefix = os.path.realpath(python.parent.parent)
    assert all(os.path.realpath(place).startswith(prefix) for place in places), places
    assert "reader" in run(python.with_name("supplierd"), "stats", cwd=home, env=environ)
    assert "usage" in run(python.with_name("supplierd-capture"), "--help", cwd=home, env=environ).lower()
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(DEADLINE) == 0

"""One machine for all tests of the service: booted, installed on, with capture and a worker of each class."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from supplierd.demo.clips import BIKES, ClipError, ensure_clips
from tests.deploy.machine import Machine, RefusedError, booted, missing
from tests.deploy.service import CLASS_OF, Service
from tests.deploy.wheels import ROOT, wheelhouse
from tests.support.fixtures import actor, daemon, daemons, home

__all__ = ["actor", "daemon", "daemons", "home", "machine", "running", "service"]

CHECKOUT = (
    "pyproject.toml",
    "hatch_build.py",
    "README.md",
    "supplierd",
    "clients",
    "config",
    "deploy",
    "docs",
    "requirements",
)


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    if reason := missing():
        pytest.skip(reason)
    try:
        packages, clip = wheelhouse(), ensure_clips()[BIKES.name]
    except (OSError, subprocess.CalledProcessError, ClipError) as error:
        pytest.skip(f"the packages or the clip cannot be had: {error}")
    try:
        with booted(tmp_path_factory.mktemp("machine")) as started:
            test = started.root / "opt/test"
            (test / "checkout").mkdir(parents=True)
            shutil.copytree(packages, test / "wheels")
            shutil.copy(clip, test / "clip.mp4")
            shutil.copy(Path(__file__).parent / "programs/worker.py", test)
            for name in CHECKOUT:
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, test / "checkout" / name)
                else:
                    shutil.copy(ROOT / name, test / "checkout")
            yield started
    except RefusedError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def service(machine: Machine) -> Service:
    """The daemon installed; a camera and a worker of each class set up as the README says."""
    service = Service(machine)
    service.install()
    machine.write("/etc/supplierd/capture/cam-1.env", "SOURCE=/opt/test/clip.mp4\nOPTIONS=--loop\n")
    command = "COMMAND=/opt/supplierd/current/bin/python /opt/test/worker.py\n"
    for name, service_class in CLASS_OF.items():
        machine.write(f"/etc/supplierd/workers/{name}.env", command)
        drop_ins = f"/etc/systemd/system/supplierd-worker@{name}.service.d"
        machine.run("mkdir", drop_ins)
        machine.run("ln", "-s", f"/opt/supplierd/current/share/supplierd/classes/{service_class}.conf", drop_ins)
        machine.write(f"{drop_ins}/test.conf", "[Service]\nWatchdogSec=2s\n")  # with 30 s each test takes minutes
    machine.run("systemctl", "daemon-reload")
    return service


@pytest.fixture
def running(service: Service) -> Iterator[Service]:
    """The same, at work when the test begins; the journal goes into a failed test's report."""
    service.start_all()
    yield service
    print(service.machine.run("journalctl", "--no-pager", "--lines=150", "--output=short-monotonic"))

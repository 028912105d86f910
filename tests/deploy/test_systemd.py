"""The service under a real PID 1: what systemd, the daemon, capture and the workers do when one of them fails.

All tests share one machine. Each begins with everything running, and may leave anything behind.
"""

import re
import stat

import pytest

from tests.deploy.machine import Machine
from tests.deploy.service import CAPTURE, CLASS_OF, DAEMON, WORKERS, Service, worker_unit
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

RETRY_DELAYS = {"critical": [1, 2, 4], "high": [1, 2, 4], "normal": [1], "best_effort": []}
SLACK = 1.5  # seconds: what a start takes on a busy machine, and whole seconds in the journal


def test_systemd_has_nothing_to_say_about_the_units(machine: Machine, service: Service) -> None:
    units = [DAEMON, CAPTURE, *WORKERS, "run-supplierd-arena.mount"]
    assert machine.run("systemd-analyze", "verify", *units) == ""  # it ends with 0 where it ignores a typo


def test_the_daemon_is_ready_when_its_sockets_are_bound(running: Service) -> None:
    machine = running.machine
    machine.run("systemctl", "restart", DAEMON)
    for path, mode in (("inbox.sock", 0o660), ("control.sock", 0o660), ("", 0o750)):
        assert int(machine.run("stat", "--format=%a", f"/run/supplierd/{path}"), 8) == mode

    def says(text: str) -> bool:
        return text in machine.show(DAEMON, "StatusText")

    wait_for(lambda: says("1 stream; 4 workers: ") and not says("gone"), "a status with them")


def test_frames_travel_in_shared_memory_that_cannot_fill_run(running: Service) -> None:
    machine = running.machine
    assert machine.run("findmnt", "--noheadings", "--output=FSTYPE", "/run/supplierd/arena") == "tmpfs"
    arenas = machine.run("ls", "-l", "/run/supplierd/arena").splitlines()[1:]
    assert len(arenas) == 1
    assert [worker["inline_reason"] for worker in running.stats()["workers"]] == [""] * len(CLASS_OF)


def test_a_stop_is_quick_and_writes_the_ledger(running: Service) -> None:
    machine, before = running.machine, running.pids()
    machine.run("systemctl", "stop", DAEMON, timeout=5)
    assert machine.show(DAEMON, "Result") == "success"
    assert "ledger of worker worker=person-detector stream=cam-1 offered=" in machine.journal(DAEMON)
    machine.run("systemctl", "start", DAEMON)
    running.wait_for_frames()
    assert running.pids() == before


def test_a_killed_daemon_is_back_and_everybody_resumes(running: Service) -> None:
    machine, before = running.machine, running.pids()
    killed = machine.pid(DAEMON)
    machine.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", DAEMON)
    wait_for(lambda: machine.pid(DAEMON) not in (0, killed), "the daemon started again")
    running.wait_for_frames()
    assert running.pids() == before


def test_a_stopped_daemon_is_noticed_by_the_watchdog(running: Service) -> None:
    machine, before = running.machine, running.pids()
    stopped = machine.pid(DAEMON)
    machine.run("kill", "-STOP", str(stopped))
    wait_for(lambda: machine.pid(DAEMON) not in (0, stopped), "the daemon started again")
    assert "Watchdog timeout" in machine.journal(DAEMON)
    running.wait_for_frames()
    assert running.pids() == before


def test_an_upgrade_restarts_the_daemon_alone(running: Service) -> None:
    machine, before, daemon = running.machine, running.pids(), running.machine.pid(DAEMON)
    source = machine.root / "opt/test/checkout/supplierd/__init__.py"
    former = source.read_text()
    source.write_text(re.sub(r'(?<=__version__ = ")[^"]*', "99.0", former))
    try:
        assert "restarting the daemon" in running.install()
    finally:
        source.write_text(former)
    assert machine.run("supplierd", "version").startswith("supplierd 99.0")
    assert machine.pid(DAEMON) != daemon
    running.wait_for_frames()
    assert running.pids() == before
    assert {machine.show(unit, "NRestarts") for unit in before} == {"0"}


def test_installing_again_changes_nothing(running: Service) -> None:
    machine = running.machine
    running.install()
    find = ["find", "/opt/supplierd", "/etc/supplierd", "/usr/local/lib/systemd", "-printf", "%p %T@\\n"]
    daemon, files = machine.pid(DAEMON), machine.run(*find)
    assert "restarting" not in running.install()
    assert machine.pid(DAEMON) == daemon
    assert machine.run(*find).splitlines() == files.splitlines()


def test_a_configuration_that_cannot_be_read_stops_an_upgrade(running: Service) -> None:
    machine, config = running.machine, running.machine.root / "etc/supplierd/supplierd.toml"
    former, daemon = config.read_text(), machine.pid(DAEMON)
    config.write_text(former + "\n[daemon2]\n")
    try:
        said = running.install(check=False)
        assert "daemon2" in said
        assert "nothing was changed" in said
        assert config.read_text().endswith("[daemon2]\n")
        assert machine.pid(DAEMON) == daemon
    finally:
        config.write_text(former)


def test_a_worker_without_frames_is_left_alone(running: Service) -> None:
    machine = running.machine
    before = {unit: machine.pid(unit) for unit in WORKERS}
    machine.run("systemctl", "stop", CAPTURE)

    def states() -> set[str]:
        return {worker["state"] for worker in running.stats().get("workers", [])}

    wait_for(lambda: states() == {"starved"}, "starved workers")  # longer than twice their WatchdogSec
    assert {unit: machine.pid(unit) for unit in WORKERS} == before
    machine.run("systemctl", "start", CAPTURE)
    running.wait_for_frames()


def test_a_worker_without_a_daemon_is_left_alone(running: Service) -> None:
    machine = running.machine
    before = {unit: machine.pid(unit) for unit in WORKERS}
    machine.run("systemctl", "stop", DAEMON)
    machine.run("sleep", "5")  # longer than twice their WatchdogSec; nothing happens that one could wait for
    assert {unit: machine.pid(unit) for unit in WORKERS} == before


@pytest.mark.parametrize("name", CLASS_OF)
def test_a_hung_worker_is_started_again_as_its_class_says(running: Service, name: str) -> None:
    machine, unit = running.machine, worker_unit(name)
    begun = float(machine.run("cat", "/proc/uptime").split()[0])
    machine.run("systemctl", "restart", unit)
    others = {other: pid for other, pid in running.pids().items() if other != unit}
    running.hang(name)
    wait_for(lambda: machine.show(unit, "ActiveState") == "failed", f"{name} given up", 60)
    lines = machine.run("journalctl", "--unit", unit, "--output=short-monotonic", "--no-pager").splitlines()

    def at(text: str) -> list[float]:
        return [float(line[1 : line.index("]")]) for line in lines if text in line]

    ends, starts = at("Failed with result 'watchdog'"), [moment for moment in at(": Started ") if moment >= begun]
    waited = [start - max(end for end in ends if end < start) for start in starts[1:]]
    delays = RETRY_DELAYS[CLASS_OF[name]]
    assert len(waited) == len(delays)
    assert all(delay <= seconds <= delay + SLACK for delay, seconds in zip(delays, waited, strict=True)), waited
    assert any("worker.py" in line for line in lines), "the journal shows where it hung"
    running.wait_for_frames(*(other for other in CLASS_OF if other != name))
    assert {other: pid for other, pid in running.pids().items() if other != unit} == others


def test_the_last_test_uninstalls(service: Service) -> None:
    machine = service.machine
    machine.run("/opt/test/checkout/deploy/install.sh", "--uninstall")
    assert not (machine.root / "opt/supplierd").exists()
    assert machine.run("sh", "-c", "pgrep -f [/]opt/supplierd || true") == ""
    assert machine.run("systemctl", "list-unit-files", "supplierd*", "--no-legend", check=False) == ""
    assert stat.S_ISREG((machine.root / "etc/supplierd/supplierd.toml").stat().st_mode)

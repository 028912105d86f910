"""`supplierd stats`: the table, JSON, and the exit status that a supervisor goes by."""

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from supplierd_client import Publisher, Worker

from supplierd.cli import main
from tests.support.daemon import Daemon, command_line, environment, exchange
from tests.support.peers import Background
from tests.support.processes import Outcome
from tests.support.waiting import DEADLINE, wait_for

Daemons = Callable[..., Daemon]


def stats(daemon: Daemon, *options: str) -> Result:
    return CliRunner().invoke(main, ["stats", "--runtime-dir", str(daemon.runtime_dir), *options])


def check(daemon: Daemon, status: int) -> Result:
    """The first check with this exit status."""

    def done() -> Result | None:
        outcome = stats(daemon, "--check")
        return outcome if outcome.exit_code == status else None

    return wait_for(done, f"exit status {status}")


def test_the_table(daemon: Daemon) -> None:
    with Publisher("cam-1", daemon.inbox) as publisher, Worker("detector", control=daemon.control) as worker:
        for _ in range(3):
            exchange(publisher, worker)
        done = stats(daemon)
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line}
    assert rows["STREAM"][1] == "STATE"
    assert rows["cam-1"][1] == "live"
    assert rows["detector"][:4] == ["detector", "normal", "busy", "cam-1"]


def test_json(daemon: Daemon) -> None:
    with Publisher("cam-1", daemon.inbox) as publisher, Worker("w", control=daemon.control) as worker:
        exchange(publisher, worker)
        done = stats(daemon, "--json")
    assert done.exit_code == 0, done.output
    (document,) = (json.loads(line) for line in done.stdout.splitlines())
    (stream,), (found,) = document["streams"], document["workers"]
    assert stream["name"] == "cam-1"
    assert stream["published"] == stream["received"] + sum(stream["dropped"].values())
    (mailbox,) = found["mailboxes"]
    assert mailbox["balance"] == 0
    assert {"drop_ratio", "state", "service_class"} <= found.keys()


def test_without_a_daemon_the_status_is_2(home: Path) -> None:
    for options in ([], ["--json"], ["--check"]):
        done = CliRunner().invoke(main, ["stats", "--runtime-dir", str(home), "--timeout", "0.1", *options])
        assert done.exit_code == 2, done.output
        assert "no daemon answered on ipc://" in done.stderr
        assert done.stdout == ""


def test_by_endpoint_or_by_variable(daemon: Daemon) -> None:
    for arguments, environ in (
        (["--control", daemon.control], {}),
        ([], {"SUPPLIERD_RUNTIME_DIR": str(daemon.runtime_dir)}),
    ):
        assert CliRunner().invoke(main, ["stats", *arguments], env=environ).exit_code == 0


def test_watch_repeats_until_ctrl_c(daemon: Daemon, home: Path) -> None:
    out = home / "watched"
    with out.open("wb") as file:
        watching = subprocess.Popen(
            command_line("stats", "--runtime-dir", daemon.runtime_dir, "--watch", "--json"),
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment(),
        )
        wait_for(lambda: len(out.read_text().splitlines()) >= 2, "two pictures")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(DEADLINE) == 0
    assert all("workers" in json.loads(line) for line in out.read_text().splitlines())


def test_watch_and_check_do_not_go_together(home: Path) -> None:
    done = CliRunner().invoke(main, ["stats", "--runtime-dir", str(home), "--watch", "--check"])
    assert done.exit_code == 2
    assert "give one of them" in done.stderr


# --- --check ---

PROMISES = """
    [daemon]
    drop_window = 30
    [classes.critical]
    idle_after = 0.2
    [workers.detector]
    class = "critical"
    [workers.helper]
    class = "high"
    """


@pytest.fixture
def promising(daemons: Daemons) -> Daemon:
    return daemons(PROMISES).start()


def test_a_missing_critical_worker_and_only_a_critical_one(promising: Daemon) -> None:
    real = Outcome("stats", "--runtime-dir", promising.runtime_dir, "--check")
    assert (real.status, real.out, real.err) == (1, "critical worker detector is missing\n", "")
    with Worker("detector", control=promising.control) as worker:
        promising.let_join(worker)
        done = check(promising, 0)
        assert done.stdout == "every promise is kept\n"
    assert "detector is missing" in check(promising, 1).stdout


def test_a_critical_worker_that_is_idle(promising: Daemon) -> None:
    """Frames wait and it takes none; while a camera that is down makes nobody idle."""
    with Worker("detector", control=promising.control) as worker, Publisher("cam-1", promising.inbox) as publisher:
        promising.let_join(worker)
        exchange(publisher, worker)
        done = check(promising, 0)  # nothing waits for it
        promising.deliver(publisher, b"second")
        done = check(promising, 1)
        assert "critical worker detector is idle: frames wait and it took none for 0.2 s" in done.stdout
        assert worker.read(timeout=10) is not None
        assert worker.read(timeout=0.1) is None
        check(promising, 0)


def test_a_worker_over_its_budget(promising: Daemon) -> None:
    with (
        Worker("detector", control=promising.control, target_fps=1) as detector,
        Worker("helper", control=promising.control) as helper,
        Publisher("cam-1", promising.inbox) as publisher,
    ):
        exchange(publisher, detector)
        exchange(publisher, helper)
        with Background(lambda: publisher.publish(b"frame"), every=0.01) as camera:
            camera.wait_turns(100)
        done = check(promising, 1)
    (line,) = [line for line in done.stdout.splitlines() if "helper" in line]
    assert line.startswith("high worker helper dropped ")
    assert line.endswith("its budget is 10%")


def test_check_with_json_keeps_standard_output_for_the_document(promising: Daemon) -> None:
    done = stats(promising, "--check", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["workers"]
    assert done.stderr == "critical worker detector is missing\n"


@pytest.mark.parametrize("options", [[], ["--json"], ["--check"]])
def test_what_cannot_be_written_is_no_broken_promise(daemon: Daemon, options: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command_line("stats", "--runtime-dir", daemon.runtime_dir, *options),
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            timeout=DEADLINE,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == b"Error: the statistics cannot be written: No space left on device\n"

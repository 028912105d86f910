"""`supplierd run` with options and variables, as a real process."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, command_line, free_port
from tests.support.processes import Outcome
from tests.support.waiting import wait_for

Daemons = Callable[..., Daemon]


@pytest.mark.parametrize("by", ["options", "variables"])
def test_overrides_reach_the_daemon(daemons: Daemons, home: Path, by: str) -> None:
    port, elsewhere = free_port(), home / "elsewhere"
    values = {
        "runtime-dir": elsewhere,
        "metrics-address": f"127.0.0.1:{port}",
        "log-format": "journal",
        "log-level": "debug",
    }
    document = '[daemon]\nruntime_dir = "/nowhere/at/all"\n[log]\nlevel = "error"\nformat = "json"'
    config = home / "file.toml"
    config.write_text(document)
    daemon = daemons()
    if by == "options":
        options = [word for key, value in values.items() for word in (f"--{key}", str(value))]
        daemon.command = command_line("run", "--config", config, *options)
    else:
        daemon.command = command_line("run")
        variables = {f"SUPPLIERD_{key.upper().replace('-', '_')}": str(value) for key, value in values.items()}
        daemon.set_environment(SUPPLIERD_CONFIG=str(config), **variables)
    daemon.launch()
    wait_for(lambda: daemon.logged("<6>serving"), "the daemon")
    assert (elsewhere / "inbox.sock").is_socket()
    assert daemon.metrics_port == port
    assert daemon.stop() < 2


def test_a_log_level_hides_what_is_less(daemons: Daemons) -> None:
    daemon = daemons(arguments=["--log-level", "warning"])
    daemon.launch()
    wait_for((daemon.runtime_dir / "control.sock").exists, "the daemon")
    daemon.stop()
    assert daemon.log() == ""


def test_a_start_that_fails_is_one_line_and_status_1(home: Path) -> None:
    done = Outcome("run", "--runtime-dir", "/proc/nowhere")
    assert done.status == 1, done
    assert done.err.startswith("Error: the runtime directory /proc/nowhere cannot be made")
    assert len(done.err.splitlines()) == 1

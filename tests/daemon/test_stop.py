"""A stop: workers are told, the ledger is in the log and adds up, and it is over within two seconds, whoever hangs."""

import json
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from supplierd_client import Publisher, Worker

from tests.support.daemon import Daemon, children
from tests.support.peers import Background
from tests.support.processes import Actor
from tests.support.scrape import get
from tests.support.waiting import wait_for

Daemons = Callable[..., Daemon]
Actors = Callable[..., Actor]

WITHIN = 2.0
"""Seconds that a stop may take."""
DISCARDED = "discarded_"
DROPPED = "dropped_"


def events(daemon: Daemon) -> list[dict[str, Any]]:
    """The log, which is in JSON."""
    return [json.loads(line) for line in daemon.log().splitlines()]


def assert_final_ledger(daemon: Daemon, workers: set[str]) -> None:
    """Each line of the final ledger adds up, and there is one for each worker."""
    lines = events(daemon)
    assert lines[-1]["event"] == "stopped"
    streams = [line for line in lines if line["event"] == "ledger of stream"]
    boxes = [line for line in lines if line["event"] == "ledger of worker"]
    assert {line["worker"] for line in boxes} == workers
    assert streams
    for line in streams:
        dropped = sum(count for key, count in line.items() if key.startswith(DROPPED))
        assert line["published"] == line["received"] + dropped, line
    for line in boxes:
        discarded = sum(count for key, count in line.items() if key.startswith(DISCARDED))
        rest = (line[key] for key in ("consumed", "overwritten", "decimated", "pending", "in_flight"))
        assert line["offered"] == discarded + sum(rest), line
    received = {line["stream"]: line["received"] for line in streams}
    assert all(line["offered"] <= received[line["stream"]] for line in boxes)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_workers_wait_for_the_next_daemon_and_the_ledger_is_logged(
    daemons: Daemons, actor: Actors, number: signal.Signals
) -> None:
    daemon = daemons(arguments=["--log-format", "json"]).start()
    publisher = actor("publish", inbox=daemon.inbox, stream="cam-1", fps=50)
    worker = actor("work", control=daemon.control, name="fast")
    slow = actor("work", control=daemon.control, name="slow", busy=0.1)
    worker.wait_frames(20)
    slow.wait_frames(2)
    assert daemon.stop(number) < WITHIN
    assert_final_ledger(daemon, {"fast", "slow"})
    assert any(line["event"] == "stopped" and line["reason"] == number.name for line in events(daemon))
    assert not list(daemon.runtime_dir.glob("*.sock"))
    daemon.start()
    worker.wait_frames(5)
    slow.wait_frames(2)
    publisher.wait_frames(1)
    assert worker.error is None


def test_a_blocked_read_goes_on_waiting(daemon: Daemon) -> None:
    with Worker("w", control=daemon.control) as worker:
        got: list[object] = []
        reader = threading.Thread(target=lambda: got.append(worker.read(timeout=30)))
        reader.start()
        daemon.wait_for_state("w", "waiting")
        assert daemon.stop() < WITHIN
        assert reader.is_alive()
        daemon.start()
        daemon.wait_for_state("w", "waiting")
        with Publisher("cam-1", daemon.inbox) as publisher, Background(lambda: publisher.publish(b"frame"), every=0.1):
            reader.join(10)
        assert got
        assert got[0] is not None


def test_stopped_workers_do_not_hold_it_up(daemons: Daemons, actor: Actors) -> None:
    daemon = daemons(arguments=["--log-format", "json"]).start()
    actor("publish", inbox=daemon.inbox, stream="cam-1", fps=50, size=1_000_000)
    workers = [actor("work", control=daemon.control, name=f"w-{i}") for i in range(3)]
    for worker in workers:
        worker.wait_frames(3)
        worker.freeze()
    took = daemon.stop()
    assert took < WITHIN
    assert_final_ledger(daemon, {f"w-{i}" for i in range(3)})


def test_a_busy_exporter_does_not_hold_it_up(daemons: Daemons) -> None:
    daemon = daemons().start()
    daemon.scrape()
    port = daemon.metrics_port

    def ask() -> None:
        with suppress(OSError):  # the end has come
            get(port, "/metrics")

    with Background(ask) as one, Background(ask), socket.create_connection(("127.0.0.1", port)) as silent:
        silent.sendall(b"GET /metrics")  # and never a whole request
        one.wait_turns(5)
        assert daemon.stop() < WITHIN
    assert "Traceback" not in daemon.log()


def test_a_frozen_exporter_does_not_hold_it_up(daemons: Daemons) -> None:
    daemon = daemons().start()
    daemon.scrape()
    (exporter,) = children(daemon.pid)
    os.kill(exporter, signal.SIGSTOP)
    assert daemon.stop() < WITHIN
    assert not Path(f"/proc/{exporter}").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_service_is_an_orderly_stop_too(daemons: Daemons, number: signal.Signals) -> None:
    """Ctrl-C reaches the daemon's group, systemd's SIGTERM each of its processes; the exporter may be first."""
    daemon = daemons(session=True).start()
    daemon.scrape()
    if number is signal.SIGTERM:
        for child in children(daemon.pid):
            os.kill(child, number)
        daemon.scrape()
    os.killpg(daemon.pid, number)
    assert daemon.wait() == 0
    assert "Traceback" not in daemon.log()
    assert not daemon.logged("exporter ended")
    assert daemon.logged(f"stopped reason={number.name}")


def test_an_impatient_second_signal_changes_nothing(daemons: Daemons, actor: Actors) -> None:
    daemon = daemons().start()
    actor("publish", inbox=daemon.inbox, stream="cam-1", fps=50)
    worker = actor("work", control=daemon.control, name="w")
    worker.wait_frames(3)
    worker.freeze()
    with Background(lambda: daemon.process.send_signal(signal.SIGINT), every=0.002):
        assert daemon.wait() == 0
    assert "Traceback" not in daemon.log()
    assert daemon.logged("stopped reason=SIGINT")


def test_a_stop_in_the_middle_of_the_start_is_one_too(daemons: Daemons) -> None:
    daemon = daemons()
    daemon.launch()
    wait_for(lambda: list(daemon.runtime_dir.glob("*.lock")), "the first lock")
    assert daemon.stop() < WITHIN
    assert not list(daemon.runtime_dir.glob("*.sock"))

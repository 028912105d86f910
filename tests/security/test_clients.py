"""Keys in every kind of client: by argument, by variable, on the command line; and what a client says when nobody
lets it in."""

import asyncio
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from supplierd_client import AsyncWorker, Publisher, Worker
from supplierd_client.sockets import UNREACHED_AFTER, Reach

from supplierd.cli import main
from tests.security.stage import Stage
from tests.support.daemon import environment
from tests.support.waiting import DEADLINE


def test_an_asyncio_worker_shows_its_key(shared: Stage) -> None:
    async def read() -> bytes:
        secret, public = shared.keys.secret("flow"), shared.keys.public
        async with AsyncWorker("flow", ["cam-1"], shared.control, key=secret, server_key=public) as worker:
            frame = await worker.read(10.0)
            assert frame is not None
            return bytes(frame.data)

    with shared.publisher("cam-1") as publisher:
        publisher.publish(b"picture")
        assert asyncio.run(read()) == b"picture"


def test_variables_name_the_keys(shared: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPPLIERD_SERVER_KEY", str(shared.keys.public))
    monkeypatch.setenv("SUPPLIERD_KEY", str(shared.keys.secret("cam-1")))
    with Publisher("cam-1", shared.inbox) as publisher:
        publisher.publish(b"picture")
        monkeypatch.setenv("SUPPLIERD_KEY", str(shared.keys.secret("pose")))
        with Worker("pose", ["cam-1"], shared.control) as worker:
            assert worker.read(10.0) is not None


def test_stats_with_a_monitors_key(shared: Stage) -> None:
    def stats(key: Path) -> tuple[int, str]:
        where = ["--control", shared.control, "--key", str(key), "--server-key", str(shared.keys.public)]
        done = CliRunner().invoke(main, ["stats", "--json", *where, "--timeout", "5"])
        return done.exit_code, done.output

    status, text = stats(shared.keys.secret("ops"))
    assert status == 0, text
    assert "streams" in json.loads(text)
    status, text = stats(shared.keys.secret("pose"))
    assert status == 2
    assert "this key may not say STATS" in text


def test_the_capture_command_takes_keys(shared: Stage) -> None:
    pytest.importorskip("av")
    source = ["/dev/video99", "--stream", "cam-1", "--inbox", shared.inbox]
    command = [sys.executable, "-m", "supplierd_client.capture", *source, "--key", "/nowhere/own.secret"]
    environ = environment({"SUPPLIERD_SERVER_KEY": str(shared.keys.public)})
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=DEADLINE, env=environ)
    assert done.returncode == 2, done.stderr
    assert "/nowhere/own.secret cannot be read" in done.stderr


def test_who_is_not_let_in_says_so_once(caplog: pytest.LogCaptureFixture, shared: Stage) -> None:
    keys = shared.keys.of("cam-1")
    reach = Reach("tcp://192.0.2.1:5600", keys)
    with caplog.at_level(logging.WARNING, "supplierd_client"):
        reach.failed(0.0)
        reach.failed(UNREACHED_AFTER - 0.1)
        assert not caplog.records
        reach.failed(UNREACHED_AFTER)
        reach.failed(2 * UNREACHED_AFTER)
    (record,) = caplog.records
    assert "is it running" in record.getMessage()
    assert keys.own.public in record.getMessage()
    assert keys.own.secret not in record.getMessage()
    with caplog.at_level(logging.INFO, "supplierd_client"):
        reach.reached()
        reach.reached()
    reach.failed(100.0)
    assert [record.getMessage() for record in caplog.records[1:]] == [
        "the daemon answers again at tcp://192.0.2.1:5600"
    ]

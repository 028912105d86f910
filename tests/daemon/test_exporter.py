"""The Prometheus endpoint: what it answers, that it comes back, and that it never outlives its daemon."""

import os
import signal
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from supplierd_client import Publisher, Worker

from supplierd.daemon import metrics_server
from supplierd.daemon.metrics_server import application
from supplierd.transport.monitor import NoAnswerError
from tests.support.daemon import Daemon, alive, children, exchange, free_port
from tests.support.peers import Background
from tests.support.scrape import get, lint, parse
from tests.support.waiting import wait_for

Daemons = Callable[..., Daemon]

TEXT = "text/plain; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def render_little(accept: str | None) -> tuple[bytes, str]:
    return b"metrics\n", "text/x"


def ask(path: str, method: str = "GET", render: Any = render_little) -> tuple[str, str, bytes]:
    """Status, content type and body that the application answers."""
    answer: list[Any] = []
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path}
    body = b"".join(application(render)(environ, lambda *said: answer.extend(said)))
    status, headers = answer[0], dict(answer[1])
    assert method == "HEAD" or int(headers["Content-Length"]) == len(body)
    return status, headers["Content-Type"], body


def test_answers() -> None:
    assert ask("/metrics") == ("200 OK", "text/x", b"metrics\n")
    assert ask("/metrics", "HEAD") == ("200 OK", "text/x", b"")
    assert ask("/")[0] == "200 OK"
    assert b"/metrics" in ask("/")[2]
    assert ask("/other")[0] == "404 Not Found"
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert ask("/metrics", method)[0] == "405 Method Not Allowed"
    for error in (NoAnswerError("no daemon answered"), ValueError("a daemon of another version answered")):

        def fail(accept: str | None, error: Exception = error) -> tuple[bytes, str]:
            raise error

        assert ask("/metrics", render=fail) == ("503 Service Unavailable", TEXT, f"{error}\n".encode())


def test_a_long_snapshot_begins_no_thread_in_the_daemon(daemons: Daemons) -> None:
    """One would hold up the loop, which has Python's lock to itself."""
    policies = "".join(f"[workers.{'w' * 50}-{number}]\n" for number in range(500))
    daemon = daemons(f"[daemon]\nmax_workers = 512\n{policies}").start()
    threads = Path(f"/proc/{daemon.pid}/task")
    before = len(list(threads.iterdir()))
    assert len(msgpack.packb(daemon.snapshot().to_wire())) > zmq.COPY_THRESHOLD
    assert len(list(threads.iterdir())) == before


@pytest.mark.parametrize("version", ["abc", "1.x", "", ";;;"])
def test_a_format_that_makes_no_sense_is_the_plain_one(daemon: Daemon, version: str) -> None:
    scraped = daemon.scrape(f"application/openmetrics-text; version={version}")
    assert scraped.samples
    assert "Traceback" not in daemon.log()


def test_text_and_openmetrics(daemon: Daemon) -> None:
    plain = daemon.scrape()
    assert plain.kind.startswith("text/plain; version=")
    assert plain.samples["supplierd_build_info"]
    opened = daemon.scrape(OPENMETRICS)
    assert opened.kind.startswith("application/openmetrics-text; version=1.0.0")
    assert opened.text.endswith("# EOF\n")
    assert plain.samples.keys() == opened.samples.keys()
    assert plain.value("process_resident_memory_bytes") > 1e6  # the daemon's, not the exporter's


def test_a_live_scrape_passes_prometheus_own_lint(daemon: Daemon) -> None:
    with Publisher("cam-1", daemon.inbox) as publisher, Worker("w", control=daemon.control) as worker:
        exchange(publisher, worker)
        assert lint(daemon.scrape().text) == ""


def test_over_the_wire(daemon: Daemon) -> None:
    daemon.scrape()
    port = daemon.metrics_port
    assert get(port, "/").status == 200
    assert get(port, "/nothing").status == 404
    assert get(port, "/metrics", method="POST").status == 405
    assert get(port, "/metrics", method="HEAD").body == ""


def test_a_daemon_that_does_not_answer_is_503_and_no_lie(daemon: Daemon) -> None:
    daemon.scrape()
    port = daemon.metrics_port
    daemon.freeze()
    answer = get(port, "/metrics")
    assert answer.status == 503
    assert "no daemon answered on ipc://" in answer.body
    daemon.thaw()
    assert daemon.scrape().samples["supplierd_build_info"]


def test_a_killed_exporter_is_started_again_and_it_is_logged(daemon: Daemon) -> None:
    daemon.scrape()
    (before,) = children(daemon.pid)
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: daemon.logged("the metrics exporter ended and was started again status=-9"), "the restart", 5)
    assert daemon.scrape().samples["supplierd_build_info"]
    assert children(daemon.pid) != [before]
    assert len(daemon.logged("exporter ended")) == 1


def test_it_ends_with_a_killed_daemon_and_the_next_one_has_the_port(daemons: Daemons) -> None:
    daemon = daemons(metrics=f"127.0.0.1:{free_port()}").start()
    daemon.scrape()
    (orphan,) = children(daemon.pid)
    daemon.kill()
    daemon.start()  # at once
    assert daemon.scrape().samples["supplierd_build_info"]
    wait_for(lambda: not alive(orphan), "the old exporter's end", 2)


def test_without_metrics_there_is_no_process(daemons: Daemons) -> None:
    daemon = daemons("[metrics]\nenabled = false").start()
    assert daemon.logged("metrics=off")
    daemon.snapshot()
    assert children(daemon.pid) == []


def test_clients_that_misbehave_neither_stall_others_nor_fill_the_log(daemon: Daemon) -> None:
    daemon.scrape()
    address = ("127.0.0.1", daemon.metrics_port)
    before = daemon.log()
    for words in (b"\0\xff" * 500, b"GET /metrics", b"GET\r\n\r\n", b"X" * 70_000 + b"\r\n\r\n", os.urandom(9999), b""):
        for _ in range(3):
            with socket.create_connection(address) as client, suppress(OSError):
                # A reset instead of an orderly end.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.sendall(words)
    assert daemon.scrape().samples["supplierd_build_info"]
    assert daemon.log() == before
    assert len(children(daemon.pid)) == 1


def test_a_client_that_says_nothing_is_dropped_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(metrics_server._Handler, "timeout", 0.1)
    server = metrics_server._Server(socket.create_server(("127.0.0.1", 0)))
    server.set_app(application(render_little))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as silent:
        assert silent.recv(4096) == b""
    assert get(server.server_port, "/metrics").body == "metrics\n"
    server.shutdown()
    server.server_close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("accept", [None, OPENMETRICS])
def test_scrapes_at_once_are_all_whole(daemon: Daemon, accept: str | None) -> None:
    daemon.scrape()
    port = daemon.metrics_port

    def scrape_once() -> None:
        answer = get(port, "/metrics", accept)
        assert answer.status == 200
        assert parse(answer.body, answer.kind).samples["supplierd_build_info"]

    with Background(scrape_once) as a, Background(scrape_once) as b, Background(scrape_once) as c:
        for background in (a, b, c):
            background.wait_turns(5)

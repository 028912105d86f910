"""Real servers for the tests: Prometheus and Alertmanager with the shipped files, and a webhook that listens.

Strategy: the shipped configuration is used as it is, but for ports, and for seconds instead of five between two looks.
"""

import contextlib
import http.server
import json
import shutil
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.support.daemon import free_port
from tests.support.waiting import wait_for

SHIPPED: Final = Path(__file__).parents[2] / "deploy/prometheus"
PROGRAMS: Final = ("prometheus", "prometheus-alertmanager")


def missing() -> str:
    """Which program is not here, "" for none."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"{' and '.join(absent)}: not here; Debian has packages of these names" if absent else ""


@contextlib.contextmanager
def webhook() -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Somebody whom Alertmanager tells: the port, and the alerts that came, in order."""
    heard: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, heard
        server.shutdown()


@contextlib.contextmanager
def alertmanager(home: Path, receiver: int) -> Iterator[int]:
    """Alertmanager that tells 127.0.0.1:`receiver`; its port."""
    port = free_port()
    config = (SHIPPED / "alertmanager.yml").read_text()
    (home / "alertmanager.yml").write_text(config.replace("127.0.0.1:9094", f"127.0.0.1:{receiver}"))
    arguments = ["--cluster.listen-address=", f"--storage.path={home}/alertmanager"]
    with _server("prometheus-alertmanager", home / "alertmanager.yml", port, home, arguments):
        yield port


@contextlib.contextmanager
def prometheus(home: Path, metrics: int, alerts: int | None = None) -> Iterator[int]:
    """Prometheus that scrapes 127.0.0.1:`metrics` each second; its port."""
    port = free_port()
    for name in ("rules.yml", "alerts.yml"):
        shutil.copy(SHIPPED / name, home)
    config = (SHIPPED / "prometheus.yml").read_text().replace("127.0.0.1:9108", f"127.0.0.1:{metrics}")
    config = config.replace("_interval: 5s", "_interval: 1s").replace("127.0.0.1:9093", f"127.0.0.1:{alerts or 1}")
    (home / "prometheus.yml").write_text(config)
    with _server("prometheus", home / "prometheus.yml", port, home, [f"--storage.tsdb.path={home}/prometheus"]):
        yield port


@contextlib.contextmanager
def _server(program: str, config: Path, port: int, home: Path, arguments: list[str]) -> Iterator[None]:
    command = [program, f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}", *arguments]
    with (home / f"{program}.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            wait_for(lambda: _ready(port) or process.poll() is not None, f"{program} to be ready")
            assert process.poll() is None, (home / f"{program}.log").read_text()
            yield
        finally:
            process.terminate()


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=2):
            return True
    except OSError:
        return False


def query(port: int, expression: str) -> list[dict[str, Any]]:
    """The series that a query gives now."""
    address = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(address, timeout=5) as answer:
        result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return result

"""The process that serves /metrics; exporter.py starts it.

It has what the daemon does without: an HTTP server, the Prometheus client, and TLS, where that only looks at the files.
"""

import argparse
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

import supplierd
from supplierd.core.snapshot import Snapshot
from supplierd.daemon.https import OPTIONS, Protection, protected
from supplierd.daemon.pace import BusyError, Paced
from supplierd.metrics import SnapshotCollector
from supplierd.transport.monitor import Monitor, NoAnswerError
from supplierd.transport.sockets import LIBZMQ
from supplierd.wire import control

ANSWER_TIMEOUT: Final = 2.0
"""Seconds for the daemon's loop to answer; it takes well under a millisecond, and Prometheus gives a scrape 10 s."""
REQUEST_TIMEOUT: Final = 5.0
"""Seconds for a client to send its request."""
NICENESS: Final = 5
"""Frames go first where a core is short."""


def application(render: Callable[[str | None], tuple[bytes, str]]) -> Callable[..., Iterable[bytes]]:
    """The WSGI application: /metrics, and one line for whoever comes by.

    Args:
        render: from the Accept header to the exposition and its content type; raises NoAnswerError, BusyError, or
            ValueError where the daemon is of another version.
    """

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        status, kind, body = "200 OK", "text/plain; charset=utf-8", b"supplierd: the metrics are at /metrics\n"
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            status, body = "405 Method Not Allowed", b"use GET\n"
        elif environ["PATH_INFO"] == "/metrics":
            try:
                body, kind = render(environ.get("HTTP_ACCEPT"))
            except (NoAnswerError, BusyError, ValueError) as error:
                status, body = "503 Service Unavailable", f"{error}\n".encode()
        elif environ["PATH_INFO"] != "/":
            status, body = "404 Not Found", b"the metrics are at /metrics\n"
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

    return app


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = listener.getsockname()[:2]
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away or is too slow is not an event."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the request's own thread: shake hands, then serve."""
        if self._tls is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(REQUEST_TIMEOUT)
        with suppress(OSError), self._tls.wrap_socket(request, server_side=True) as encrypted:
            super().finish_request(encrypted, client_address)


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_TIMEOUT

    def log_message(self, format: str, *args: object) -> None:
        """A scrape is not an event."""


def encoder(accept: str | None) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    """What writes the metrics, and the name of their format: the one wanted, or the plain one, also where a client asks
    for what prometheus_client cannot read, like a version that is no number."""
    try:
        return choose_encoder(accept or "")
    except (TypeError, ValueError):
        return choose_encoder("")


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="supplierd.daemon.metrics_server")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--control", required=True)
    parser.add_argument("--daemon-pid", type=int, required=True)
    for option in OPTIONS:
        parser.add_argument(option, type=Path)
    arguments = parser.parse_args()
    os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    for number in (signal.SIGTERM, signal.SIGINT):  # systemd signals all of a service: this part ends with the daemon
        signal.signal(number, signal.SIG_IGN)
    monitor, one_at_a_time = Monitor(arguments.control), threading.Lock()

    def fetch() -> Snapshot:
        with one_at_a_time:
            return Snapshot.from_wire(monitor.snapshot(ANSWER_TIMEOUT))

    registry = CollectorRegistry()
    build = {"version": supplierd.__version__, "wire": str(control.VERSION), "libzmq": LIBZMQ}
    registry.register(SnapshotCollector(fetch, build))
    ProcessCollector(pid=lambda: arguments.daemon_pid, registry=registry)

    def render(accept: str | None) -> tuple[bytes, str]:
        encode, kind = encoder(accept)
        return encode(registry), kind

    protection = Protection(arguments.tls_certificate, arguments.tls_key, arguments.basic_auth_file)
    server = _Server(socket.socket(fileno=arguments.fd), protection.tls())
    users, app = protection.users(), application(Paced(render, lambda accept: encoder(accept)[1]))
    server.set_app(app if users is None else protected(app, users))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()

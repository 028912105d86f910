"""`supplierd demo`: the product at work, as its users run it: a daemon, a capture of a real clip, and four workers,
each a process of its own; a live table; and a final ledger whose sums are checked.

It ends in order, so that nothing is left open: capture, then the workers when they have nothing left to do, then the
daemon. Whatever fails is named with the last lines that it wrote.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import click

from supplierd.core.snapshot import Snapshot, WorkerSnapshot
from supplierd.demo.clips import ClipError, find_clip
from supplierd.table import ledger_line, render
from supplierd.transport.monitor import Monitor, NoAnswerError
from supplierd.wire.endpoints import RUNTIME_DIR_VARIABLE, control_endpoint

STREAM: Final = "cam-1"
CLIP: Final = "bikes.mp4"
START_WITHIN: Final = 30.0
"""Seconds for the workers to load their libraries and warm up, on a small computer."""
END_WITHIN: Final = 5.0
REFRESH: Final = 1.0
REFRESH_LOG: Final = 5.0
"""Seconds between tables where nobody watches."""


class DemoWorker(NamedTuple):
    """One worker of the demo."""

    name: str
    script: str
    service_class: str
    target_fps: float | None


WORKERS: Final = (
    DemoWorker("person-detector", "person_detector.py", "critical", 5),
    DemoWorker("motion", "background_subtraction.py", "high", 10),
    DemoWorker("optical-flow", "optical_flow.py", "normal", 10),
    DemoWorker("vision-language", "vision_language.py", "best_effort", None),
)


class DemoError(Exception):
    """The demo cannot run; the text says why and what to do."""


class _Process:
    """A part of the demo, its output in a file."""

    def __init__(self, name: str, command: Sequence[str], folder: Path) -> None:
        self.name = name
        self.output = folder / f"{name}.log"
        environment = {**os.environ, RUNTIME_DIR_VARIABLE: str(folder), "PYTHONUNBUFFERED": "1"}
        with self.output.open("wb") as output:  # a session of its own: Ctrl-C is for the demo, which ends it in order
            self.process = subprocess.Popen(
                command, stdout=output, stderr=output, env=environment, start_new_session=True
            )

    def check(self) -> None:
        """Raise DemoError if it has ended."""
        if self.process.poll() is not None:
            lines = "\n  ".join(self.output.read_text(errors="replace").splitlines()[-8:])
            raise DemoError(f"{self.name} ended with status {self.process.returncode}; its last lines:\n  {lines}")

    def end(self) -> None:
        """Ask it to end, and see that it does."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(END_WITHIN)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def show(source: Path | None, seconds: float) -> int:
    """Run the demo.

    Args:
        source: a video file; None: a real clip, fetched once.
        seconds: to run; 0: until Ctrl-C.

    Returns:
        0 where every sum of the final ledger is equal on both sides, else 1.

    Raises:
        DemoError: a part of it cannot be had or has ended.
    """
    scripts = _scripts()
    try:
        clip = source or find_clip(CLIP)
    except ClipError as error:
        raise DemoError(f"{error}; or give a video of yours with --source") from None
    with ExitStack() as stack:
        for number in (signal.SIGTERM, signal.SIGHUP):  # a terminal that is closed says the latter; nohup ignores it
            if (former := signal.getsignal(number)) is not signal.SIG_IGN:
                signal.signal(number, signal.default_int_handler)
                stack.callback(signal.signal, number, former)
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        folder = Path(tempfile.mkdtemp(prefix="supplierd-demo-", dir=base))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return _Show(scripts, clip, folder, stack).run(seconds)


class _Show:
    """The demo's processes and its view of the daemon."""

    def __init__(self, scripts: Path, clip: Path, folder: Path, stack: ExitStack) -> None:
        config = folder / "supplierd.toml"
        config.write_text(_config())
        metrics = f"127.0.0.1:{_free_port()}"
        supplierd = [sys.executable, "-m", "supplierd"]

        self._running: list[_Process] = []

        def start(name: str, command: Sequence[str]) -> _Process:
            process = _Process(name, command, folder)
            stack.callback(process.end)
            self._running.append(process)
            return process

        self._folder = folder
        self._start = start
        self._capture_command = [
            *(sys.executable, "-m", "supplierd_client.capture", str(clip), "--stream", STREAM, "--loop"),
        ]
        daemon_command = [*supplierd, "run", "--config", str(config), "--metrics-address", metrics]
        self._daemon = start("daemon", daemon_command)
        self._workers = [
            start(
                worker.name, [sys.executable, str(scripts / worker.script), "--stream", STREAM, "--name", worker.name]
            )
            for worker in WORKERS
        ]
        self._metrics = f"http://{metrics}/metrics"
        self._monitor = Monitor(control_endpoint(folder))
        stack.callback(self._monitor.close)

    def run(self, seconds: float) -> int:
        """Start, show, end; the exit status."""
        try:
            self._wait(START_WITHIN, "the workers to join", lambda s: all(w.state != "gone" for w in s.workers))
            capture = self._start("capture", self._capture_command)
            self._wait(START_WITHIN, "the first frame", lambda s: any(stream.received for stream in s.streams))
            try:
                self._watch(time.monotonic() + seconds if seconds else float("inf"))
            except KeyboardInterrupt:
                click.echo()
            self._running.remove(capture)
            capture.end()
            return self._finish()
        except KeyboardInterrupt:
            return 0

    def _watch(self, until: float) -> None:
        before = None
        refresh = REFRESH if sys.stdout.isatty() else REFRESH_LOG
        while time.monotonic() < until:
            self._check()
            snapshot = self._snapshot()
            if sys.stdout.isatty():
                click.clear()
            click.echo(f"supplierd demo: {self._metrics} while it runs; Ctrl-C ends it\n")
            click.echo(render(snapshot, before) + "\n")
            before = snapshot
            time.sleep(max(0.0, min(refresh, until - time.monotonic())))

    def _finish(self) -> int:
        """No more frames come: let the workers finish, say goodbye, and show the books."""
        self._wait(END_WITHIN, "the workers to finish", _settled, forgive=True)
        for process in self._workers:
            process.end()
        snapshot = self._snapshot()
        self._daemon.end()
        click.echo("the final ledger, both sides of each line:")
        for stream in snapshot.streams:
            dropped = " + ".join(f"{count} {reason}" for reason, count in stream.dropped.items())
            click.echo(f"  stream {stream.name}: {stream.published} published = {stream.received} received + {dropped}")
        for worker in snapshot.workers:
            for mailbox in worker.mailboxes:
                click.echo(f"  {worker.service_class} {worker.name}: {ledger_line(mailbox)}")
        wrong = any(s.published != s.received + sum(s.dropped.values()) for s in snapshot.streams)
        wrong = wrong or any(m.balance for w in snapshot.workers for m in w.mailboxes)
        click.echo("it does NOT add up" if wrong else "it adds up")
        return int(wrong or self._daemon.process.returncode != 0)

    def _wait(self, seconds: float, what: str, met: Callable[[Snapshot], bool], forgive: bool = False) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._check()
            try:
                if met(self._snapshot()):
                    return
            except NoAnswerError:
                pass
            time.sleep(0.1)
        if not forgive:
            raise DemoError(f"waited {seconds:g} s for {what}; the machine may be too slow for the demo")

    def _check(self) -> None:
        for process in self._running:
            process.check()

    def _snapshot(self) -> Snapshot:
        return Snapshot.from_wire(self._monitor.snapshot(2.0))


def _settled(snapshot: Snapshot) -> bool:
    """Whether every worker waits for a frame that does not come."""

    def waits(worker: WorkerSnapshot) -> bool:
        return worker.state in ("waiting", "starved") and not any(m.pending or m.in_flight for m in worker.mailboxes)

    return all(map(waits, snapshot.workers))


def _config() -> str:
    lines = [f"[streams.{STREAM}]"]
    for worker in WORKERS:
        lines += [f"[workers.{worker.name}]", f'class = "{worker.service_class}"', f'streams = ["{STREAM}"]']
        lines += [f"target_fps = {worker.target_fps}"] if worker.target_fps else []
    return "\n".join(lines) + "\n"


def _scripts() -> Path:
    """The example workers: beside this module in an installed wheel, in their folder in a checkout."""
    for folder in (Path(__file__).parent / "workers", Path(__file__).parents[2] / "clients" / "python" / "examples"):
        if (folder / WORKERS[0].script).exists():
            break
    else:
        raise DemoError("the example workers are missing from this installation: install the wheel anew")
    try:
        import av  # noqa: F401
        import cv2  # noqa: F401
    except ImportError as error:
        raise DemoError(f'the demo needs {error.name}: pip install "supplierd[capture,examples]"') from None
    return folder


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])

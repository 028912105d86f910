"""`supplierd-capture` as a process of its own."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEADLINE = 15.0
COMMAND = shutil.which("supplierd-capture", path=str(Path(sys.executable).parent))


@contextmanager
def capture(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    assert COMMAND is not None, "supplierd-capture is not installed beside this Python"
    command = [COMMAND, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def outcome(*arguments: object) -> tuple[int, str]:
    """Run to the end; return the exit code and what was said."""
    with capture(*arguments) as process:
        said, complaint = process.communicate(timeout=DEADLINE)
    assert said == ""
    return process.returncode, complaint


def ended(process: subprocess.Popen[str], number: signal.Signals, expected: str) -> None:
    """Send the signal; the process ends well within a second, with a summary and success."""
    process.send_signal(number)
    start = time.monotonic()
    _, said = process.communicate(timeout=DEADLINE)
    assert time.monotonic() - start < 1.0
    assert said.splitlines()[-1].startswith(expected)
    assert process.returncode == 0

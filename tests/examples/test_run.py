"""The examples as a user runs them: real processes, a real daemon, frames that move; then a signal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pytest
from supplierd_client import Publisher

DEADLINE = 20.0
EXAMPLES = Path(__file__).parents[2] / "clients" / "python" / "examples"
LINES = {
    "person_detector": r"people \[.*\], \d+ ms",
    "optical_flow": r"\d+\.\d px/s, \d+ ms",
    "background_subtraction": r"\d+% moved, \d+ ms",
    "vision_language": r".* scene, .*, \d+\.\d s old",
}


@pytest.fixture(scope="module")
def runtime() -> Iterator[Path]:
    """The runtime directory of a daemon."""
    with TemporaryDirectory(prefix="sd-") as folder:
        config = Path(folder) / "supplierd.toml"
        config.write_text("[metrics]\nenabled = false\n")
        supplierd = Path(sys.executable).parent / "supplierd"
        with process(str(supplierd), "run", "--config", str(config), "--runtime-dir", folder):
            yield Path(folder)


@pytest.fixture(scope="module", params=["raw", "jpeg"])
def stream(request: pytest.FixtureRequest, runtime: Path) -> Iterator[str]:
    """A stream that shows a moving texture, 20 frames a second."""
    name = f"cam-{request.param}"
    done = threading.Event()
    texture = np.random.default_rng(1).integers(0, 255, (24, 48, 3), np.uint8)
    scene = cv2.resize(texture, (480, 240), interpolation=cv2.INTER_CUBIC)

    def publish() -> None:
        with Publisher(name, runtime_dir=runtime) as publisher:
            number = 0
            while not done.wait(0.05):
                number += 1
                picture = np.ascontiguousarray(np.roll(scene, 4 * number, axis=1))
                if request.param == "jpeg":
                    publisher.publish(cv2.imencode(".jpg", picture)[1].tobytes(), encoding="jpeg")
                else:
                    publisher.publish(picture)

    publishing = threading.Thread(target=publish)
    publishing.start()
    yield name
    done.set()
    publishing.join(DEADLINE)


@contextmanager
def process(*command: str, runtime_dir: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | ({"SUPPLIERD_RUNTIME_DIR": str(runtime_dir)} if runtime_dir else {})
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def test_each_example_works_and_ends_with_a_signal(runtime: Path, stream: str) -> None:
    with ExitStack() as stack:
        started = {}
        for name in LINES:
            more = ["--seconds-per-frame", "0.2"] if name == "vision_language" else []
            command = [sys.executable, str(EXAMPLES / f"{name}.py"), "--stream", stream, "--target-fps", "5", *more]
            started[name] = stack.enter_context(process(*command, runtime_dir=runtime))
        said = {name: example.stdout.readline() for name, example in started.items() if example.stdout}
        for number, example in enumerate(started.values()):
            example.send_signal(signal.SIGTERM if number % 2 else signal.SIGINT)
        rests = {name: example.communicate(timeout=DEADLINE) for name, example in started.items()}
    for name, expected in LINES.items():
        assert rests[name][1] == "", name
        assert re.fullmatch(rf"{stream} \d+: {expected}\n", said[name])
        assert started[name].returncode == 0, name

"""`supplierd-capture` as a process of its own, publishing to a plain socket that stands for the daemon's inbox."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import cv2
import numpy as np
import pytest
import zmq

from supplierd.wire import frame as wire
from supplierd.wire.endpoints import inbox_endpoint
from tests.capture.command import DEADLINE, capture, ended, outcome


class Inbox:
    """A runtime directory with an inbox in it, and the frames that arrive there."""

    def __init__(self, folder: Path, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.folder = folder
        self._socket = context.socket(zmq.PULL)
        self._socket.setsockopt(zmq.RCVTIMEO, round(DEADLINE * 1e3))
        self._socket.bind(inbox_endpoint(folder))

    def frame(self) -> tuple[wire.Header, bytes]:
        """Return the next frame's header and payload."""
        message = self._socket.recv()
        header = wire.decode(message)
        return header, message[header.payload_offset :]

    def frames_until(self, seq: int) -> list[tuple[wire.Header, bytes]]:
        """Return all frames that arrive, up to the one of this number."""
        frames = [self.frame()]
        while frames[-1][0].seq < seq:
            frames.append(self.frame())
        return frames

    def close(self) -> None:
        self._socket.close(linger=0)


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with TemporaryDirectory(prefix="sd-") as folder, zmq.Context() as context:
        inbox = Inbox(Path(folder), context)
        yield inbox
        inbox.close()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures in 0.1 s, 64×48 pixels; the numbers 0 to 9 as brightness."""
    path = tmp_path_factory.mktemp("film") / "film.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=100)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = 64, 48, "yuvj420p", Fraction(1, 100)
        for number in range(10):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number * 25, np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def test_raw_frames_of_a_real_film(inbox: Inbox, bikes: Path) -> None:
    options = ("--frames", 5, "--shared-memory", "off")
    with capture(bikes, "--stream", "cam-1", "--runtime-dir", inbox.folder, *options) as process:
        frames = inbox.frames_until(5)
        _, said = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    assert re.fullmatch(r"cam-1: published 5, of which 0 found no daemon; skipped \d+; reconnects 0\n", said)
    headers = [header for header, _ in frames]
    assert {(h.stream, h.encoding, h.dtype, h.shape) for h in headers} == {("cam-1", "raw", "|u1", (272, 640, 3))}
    assert headers[0].metadata == {"pixel_format": "bgr24"}
    assert_paced(headers, 0.04)
    with av.open(str(bikes)) as container:
        pictures = [picture.to_ndarray(format="bgr24").tobytes() for picture in islice(container.decode(video=0), 25)]
    assert all(payload in pictures for _, payload in frames)


def test_jpegs_scaled_and_thinned(inbox: Inbox, bikes: Path) -> None:
    options = ("--encoding", "jpeg", "--quality", 70, "--size", "320x136", "--fps", 12.5, "--frames", 3)
    with capture(bikes, "--stream", "cam-1", "--runtime-dir", inbox.folder, *options) as process:
        frames = inbox.frames_until(3)
        process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    for header, payload in frames:
        assert header.encoding == "jpeg"
        picture = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert picture.shape == (136, 320, 3)
    headers = [header for header, _ in frames]
    assert_paced(headers, 0.04)
    assert np.diff([header.captured_wall for header in headers]).min(initial=1e9) > 0.07e9


def assert_paced(headers: list[wire.Header], interval: float) -> None:
    """Frames are whole intervals apart, also where this machine was too busy for some of them."""
    steps = np.diff([header.captured_wall for header in headers]) / 1e9 / interval
    assert steps == pytest.approx(np.maximum(steps.round(), 1), abs=0.05)


def test_a_repeated_film_goes_on_counting(inbox: Inbox, film: Path) -> None:
    with capture(film, "--stream", "cam-1", "--runtime-dir", inbox.folder, "--loop", "--frames", 25) as process:
        seqs = [header.seq for header, _ in inbox.frames_until(25)]
        _, said = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    assert "published 25," in said
    assert seqs == sorted(set(seqs))


def test_it_ends_with_the_film_and_says_that_nobody_listened(tmp_path: Path, film: Path) -> None:
    code, said = outcome(film, "--stream", "cam-1", "--runtime-dir", tmp_path)
    assert code == 0
    assert f"cam-1: WARNING: no daemon at {inbox_endpoint(tmp_path)} yet" in said
    assert "published 10, of which 10 found no daemon" in said


def test_it_ends_after_its_time(tmp_path: Path, film: Path) -> None:
    start = time.monotonic()
    code, _ = outcome(film, "--stream", "cam-1", "--runtime-dir", tmp_path, "--loop", "--seconds", 0.3)
    assert code == 0
    assert time.monotonic() - start >= 0.3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_film(inbox: Inbox, film: Path, number: signal.Signals) -> None:
    with capture(film, "--stream", "cam-1", "--runtime-dir", inbox.folder, "--loop") as process:
        inbox.frame()
        ended(process, number, "cam-1: published ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_for_a_camera(inbox: Inbox, number: signal.Signals) -> None:
    with capture("rtsp://127.0.0.1:1/camera", "--stream", "cam-1", "--runtime-dir", inbox.folder) as process:
        assert process.stderr is not None
        assert "Connection refused; next attempt in" in process.stderr.readline()
        ended(process, number, "cam-1: published 0, ")


def test_a_film_that_is_not_there(tmp_path: Path) -> None:
    code, said = outcome(tmp_path / "film.mp4", "--stream", "cam-1", "--runtime-dir", tmp_path)
    assert code == 1
    assert said.endswith(
        f"Error: {tmp_path}/film.mp4: No such file or directory; "
        "expected a video file, an rtsp:// address or a /dev/videoN device\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["http://user:secret@camera/1", "--stream", "cam-1"], "http://***@camera/1: expected a video file"),
        (["film.mp4", "--stream", "cam 1"], "stream name 'cam 1' is not allowed"),
        (["film.mp4", "--stream", "cam-1", "--size", "640"], "'640' is not a size; expected WIDTHxHEIGHT"),
        (["film.mp4", "--stream", "cam-1", "--size", "0x9"], "'0x9' is not a size; expected WIDTHxHEIGHT"),
        (["film.mp4", "--stream", "cam-1", "--size", "16384x16384"], "at most 67108864 together"),
        (["film.mp4", "--stream", "cam-1", "--fps", "0"], "Invalid value for '--fps'"),
        (["film.mp4", "--stream", "cam-1", "--fps", "nan"], "'nan' is not a number"),
        (["film.mp4", "--stream", "cam-1", "--seconds", "inf"], "Invalid value for '--seconds'"),
        (["film.mp4", "--stream", "cam-1", "--quality", "101"], "Invalid value for '--quality'"),
        (["film.mp4", "--stream", "cam-1", "--runtime-dir", "here"], "is not an absolute path"),
        (["film.mp4"], "Missing option '--stream'"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str) -> None:
    code, said = outcome(*arguments)
    assert code == 2
    assert message in said
    assert "secret" not in said


def test_without_pyav_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['av'] = None; from supplierd_client.capture.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "film.mp4", "--stream", "cam-1"],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == 'Error: PyAV is missing; install it with: pip install "supplierd[capture]"\n'

"""A real RTSP server on this machine, killed and started again while a camera's client reads from it."""

from __future__ import annotations

import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from supplierd_client.capture.live import LiveSource
from supplierd_client.capture.source import Picture, SourceError, decode

from tests.capture.command import capture, ended

pytest.importorskip("aio_rtsp_toolkit", reason="the RTSP server package aio-rtsp-toolkit is not installed")

DEADLINE = 20.0
SERVER = """
import asyncio, sys
from aio_rtsp_toolkit.server import serve
asyncio.run(serve(sys.argv[1], host="127.0.0.1", port=int(sys.argv[2])))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def rtsp_server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", SERVER, str(folder), str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for_listener(server, port)
            yield server
        finally:
            server.kill()


def wait_for_listener(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        assert server.poll() is None, "the RTSP server ended"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            threading.Event().wait(0.02)
        else:
            return
    raise AssertionError("the RTSP server does not listen")


def test_a_server_that_dies_is_found_again(bikes: Path) -> None:
    port = free_port()
    source = LiveSource(f"rtsp://127.0.0.1:{port}/{bikes.name}")
    pictures: queue.SimpleQueue[Picture] = queue.SimpleQueue()

    def consume() -> None:
        for picture in source.pictures():
            pictures.put(picture)

    consumer = threading.Thread(target=consume)
    consumer.start()
    try:
        with rtsp_server(bikes.parent, port):  # the camera comes up after its client
            first = [pictures.get(timeout=DEADLINE) for _ in range(5)]
        assert source.reconnects == 0
        with rtsp_server(bikes.parent, port):
            while source.reconnects == 0:
                again = pictures.get(timeout=DEADLINE)
    finally:
        source.close()
        consumer.join(DEADLINE)
    assert not consumer.is_alive()
    assert (first[0].frame.width, first[0].frame.height) == (640, 272)
    assert again.at > first[-1].at
    assert source.reconnects == 1


def test_a_server_that_falls_silent_is_given_up(bikes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supplierd_client.capture.source.READ_SECONDS", 1.5)
    port = free_port()
    with rtsp_server(bikes.parent, port) as server:
        frames = decode(f"rtsp://127.0.0.1:{port}/{bikes.name}")
        next(frames)
        server.send_signal(signal.SIGSTOP)
        came: list[tuple[float, object]] = []
        with pytest.raises(SourceError, match=r"no data was read for 1\.5 s"):
            came.extend((time.monotonic(), frame.opaque) for frame in frames)
        ended = time.monotonic()
    at, there = came[-1]
    assert ended - at < 0.75, "a second silence was waited for"
    assert isinstance(there, float)
    assert at - there > 1.4, "FFmpeg had held it back"


def test_a_picture_that_was_held_back_has_the_time_of_its_arrival(bikes: Path) -> None:
    port = free_port()
    with rtsp_server(bikes.parent, port) as server:
        frames = decode(f"rtsp://127.0.0.1:{port}/{bikes.name}")
        for _ in range(20):
            next(frames)
        server.send_signal(signal.SIGSTOP)
        resume = threading.Timer(0.6, server.send_signal, (signal.SIGCONT,))
        resume.start()
        began = time.monotonic()
        frame = next(frame for frame in frames if time.monotonic() - began > 0.5)
        resume.join()
        frames.close()
    assert isinstance(frame.opaque, float)
    assert frame.opaque < began + 0.3


def test_a_signal_ends_a_capture_whose_camera_is_silent(bikes: Path, tmp_path: Path) -> None:
    port = free_port()
    address = f"rtsp://127.0.0.1:{port}/{bikes.name}"
    with (
        rtsp_server(bikes.parent, port) as server,
        capture(address, "--stream", "c", "--runtime-dir", tmp_path) as process,
    ):
        assert process.stderr is not None
        while "connected" not in process.stderr.readline():
            assert process.poll() is None
        server.send_signal(signal.SIGSTOP)
        ended(process, signal.SIGTERM, "c: published ")

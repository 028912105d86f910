"""Opening and decoding: what each kind of source is opened with, and what people are told when it fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest
from supplierd_client.capture.source import DAMAGED_PACKETS, READ_SECONDS, SourceError, decode, kind_of, redact

from tests.capture.fakes import Clock, picture


class FakeContainer:
    """A container whose packets decode to a list of frames, or raise."""

    def __init__(self, packets: list[Any], codec: str = "h264", on_read: Callable[[], object] = lambda: None) -> None:
        context = SimpleNamespace(name=codec, flags=0)
        self.streams = SimpleNamespace(video=[SimpleNamespace(codec_context=context)])
        self.closed = False
        self._packets, self._on_read = packets, on_read

    def demux(self, _: object) -> Iterator[SimpleNamespace]:
        for content in self._packets:
            self._on_read()
            packet = SimpleNamespace(opaque=None)
            packet.decode = lambda packet=packet, content=content: decoded(content, packet.opaque)
            yield packet

    def close(self) -> None:
        self.closed = True


def decoded(content: Any, opaque: object) -> Any:
    for frame in answer(content):
        frame.opaque = opaque
    return content


def answer(outcome: Any) -> Any:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def opened(monkeypatch: pytest.MonkeyPatch, outcome: Any) -> dict[str, Any]:
    """Let `av.open` give `outcome`, or raise it; returns the options that it is called with."""
    options: dict[str, Any] = {}

    def fake(source: str, **keywords: Any) -> Any:
        options.update(keywords, source=source)
        return answer(outcome)

    monkeypatch.setattr(av, "open", fake)
    return options


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("film.mp4", "file"),
        ("/dev/video0", "v4l2"),
        ("/dev/video0.mp4", "file"),
        ("rtsp://camera/1", "rtsp"),
        ("rtsps://camera/1", "rtsp"),
    ],
)
def test_kinds(source: str, kind: str) -> None:
    assert kind_of(source) == kind


def test_other_addresses_are_refused_without_showing_a_password() -> None:
    with pytest.raises(SourceError, match="expected a video file, an rtsp://") as caught:
        kind_of("http://user:secret@camera/video")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("source", ["rtsp://user:p@ss@camera:554/1", "rtsp://user@camera:554/1"])
def test_credentials_are_not_shown(source: str) -> None:
    assert redact(source) == "rtsp://***@camera:554/1"
    assert redact("rtsp://camera/1") == "rtsp://camera/1"


def test_a_real_film(bikes: Path) -> None:
    times = [frame.time for frame in decode(str(bikes))]
    assert times == pytest.approx([number / 25 for number in range(250)])


def test_a_file_name_is_never_an_address(bikes: Path, tmp_path: Path) -> None:
    path = tmp_path / "12:30 50%.mp4"
    path.symlink_to(bikes)
    assert next(decode(str(path))).width == 640
    assert next(decode(os.path.relpath(path))).width == 640


@pytest.mark.parametrize(("content", "message"), [(None, "No such file"), (b"no video\n" * 99, "Invalid data")])
def test_a_file_that_is_no_film(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "film.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=message):
        next(decode(str(path)))


def test_a_folder_is_no_film(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        next(decode(str(tmp_path)))


def test_a_source_without_video(monkeypatch: pytest.MonkeyPatch) -> None:
    container = FakeContainer([])
    container.streams.video.clear()
    opened(monkeypatch, container)
    with pytest.raises(SourceError, match="no video stream"):
        next(decode("sound.mp3"))
    assert container.closed


def test_rtsp_is_opened_for_low_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    options = opened(monkeypatch, FakeContainer([[picture()]]))
    assert len(list(decode("rtsp://camera/1"))) == 1
    assert options["timeout"] == (5.0, 3.0)
    assert options["options"] == {
        "rtsp_transport": "tcp",
        "allowed_media_types": "video",
        "probesize": "32768",
        "analyzeduration": "200000",
    }


def test_a_device_is_opened_as_v4l2(monkeypatch: pytest.MonkeyPatch) -> None:
    options = opened(monkeypatch, FakeContainer([[picture()]]))
    assert len(list(decode("/dev/video3"))) == 1
    assert (options["source"], options["format"]) == ("/dev/video3", "v4l2")


def test_a_silent_camera_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    opened(monkeypatch, av.error.ExitError(0, "Immediate exit requested"))
    with pytest.raises(SourceError, match="no answer within 5 s, or no data for 3 s"):
        next(decode("rtsp://camera/1"))


def test_a_refused_connection_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    opened(monkeypatch, av.error.ConnectionRefusedError(111, "Connection refused", "rtsp://user:secret@camera/1"))
    with pytest.raises(SourceError) as caught:
        next(decode("rtsp://user:secret@camera/1"))
    assert str(caught.value) == "Connection refused"


def test_damaged_packets_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    damage = av.error.InvalidDataError(1, "Invalid data")
    container = FakeContainer([damage, damage, [picture(0.0)], damage, [picture(0.1), picture(0.2)]])
    opened(monkeypatch, container)
    assert [frame.time for frame in decode("rtsp://camera/1")] == pytest.approx([0.0, 0.1, 0.2])
    assert container.closed


def test_nothing_but_damage_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    damage = av.error.InvalidDataError(1, "Invalid data")
    opened(monkeypatch, FakeContainer([damage] * (DAMAGED_PACKETS + 1)))
    with pytest.raises(SourceError, match="251 packets in a row"):
        next(decode("rtsp://camera/1"))


def test_the_container_is_closed_when_the_reader_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    container = FakeContainer([[picture()], [picture()]])
    opened(monkeypatch, container)
    frames = decode("film.mp4")
    next(frames)
    frames.close()
    assert container.closed


@pytest.mark.parametrize(
    ("source", "codec", "there"),
    [
        ("rtsp://camera/1", "h264", [0.0, 1.0, 2.0]),
        ("rtsp://camera/1", "hevc", [0.0, 1.0, 2.0]),
        ("rtsp://camera/1", "mpeg4", [0.0, 1.0, 2.0]),
        ("rtsp://camera/1", "mjpeg", [1.0, 2.0, 3.0]),
        ("/dev/video0", "h264", [1.0, 2.0, 3.0]),
        ("film.mp4", "h264", [None, None, None]),
    ],
)
def test_a_live_picture_has_the_time_of_its_bytes(
    monkeypatch: pytest.MonkeyPatch, source: str, codec: str, there: list[float | None]
) -> None:
    clock = Clock()
    clock.now = 0.0
    monkeypatch.setattr("supplierd_client.capture.source.time.monotonic", clock.read)
    opened(monkeypatch, FakeContainer([[picture()] for _ in range(3)], codec, lambda: clock.wait(1.0)))
    assert [frame.opaque for frame in decode(source)] == there


def test_what_comes_at_the_end_of_a_silence_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("supplierd_client.capture.source.time.monotonic", clock.read)
    silence = iter([0.1, READ_SECONDS, 0.1])
    opened(monkeypatch, FakeContainer([[picture()] for _ in range(3)], on_read=lambda: clock.wait(next(silence))))
    frames = decode("rtsp://camera/1")
    next(frames)
    next(frames)
    with pytest.raises(SourceError, match="no data was read for 3 s"):
        next(frames)


@pytest.mark.parametrize(("source", "codec"), [("/dev/video0", "rawvideo"), ("rtsp://camera/1", "mjpeg")])
def test_a_camera_that_holds_nothing_back_may_be_slow(monkeypatch: pytest.MonkeyPatch, source: str, codec: str) -> None:
    clock = Clock()
    monkeypatch.setattr("supplierd_client.capture.source.time.monotonic", clock.read)
    opened(monkeypatch, FakeContainer([[picture()] for _ in range(3)], codec, lambda: clock.wait(READ_SECONDS + 1.0)))
    assert len(list(decode(source))) == 3


def test_a_decoder_or_consumer_that_takes_long_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("supplierd_client.capture.source.time.monotonic", clock.read)
    opened(monkeypatch, FakeContainer([[picture()] for _ in range(3)]))
    for _ in decode("rtsp://camera/1"):
        clock.wait(READ_SECONDS + 1.0)

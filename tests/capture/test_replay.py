"""A file as a source: its own pace, seamless repetition, skipping instead of a backlog, errors."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from supplierd_client.capture.replay import FileSource
from supplierd_client.capture.source import SourceError

from tests.capture.fakes import Clock, decoder


def test_each_picture_comes_when_it_is_due() -> None:
    clock = Clock()
    source = FileSource("film", decode=decoder([[0.0, 0.1, 0.3]]), now=clock.read, wait=clock.wait)
    moments = [(picture.at, clock.now) for picture in source.pictures()]
    assert [at for at, _ in moments] == pytest.approx([1000.0, 1000.1, 1000.3])
    assert [now for _, now in moments] == pytest.approx([1000.0, 1000.1, 1000.3])
    assert source.skipped == 0


def test_repetition_is_seamless() -> None:
    clock = Clock(stop_after=7)
    source = FileSource("film", loop=True, decode=decoder([[0.0, 0.1, 0.2]] * 3), now=clock.read, wait=clock.wait)
    assert [picture.at for picture in source.pictures()] == pytest.approx([1000 + n / 10 for n in range(6)])


def test_frames_that_are_overtaken_are_skipped_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    slow = iter([0.0, 0.0, 0.35, 0.0, 0.0, 0.0])

    def decoding() -> None:
        clock.now += next(slow)

    source = FileSource("film", decode=decoder([[n / 10 for n in range(6)]], decoding), now=clock.read, wait=clock.wait)
    delivered = [round(picture.at - 1000, 3) for picture in source.pictures()]
    assert delivered == [0.0, 0.1, 0.4, 0.5]
    assert source.skipped == 2
    assert "skipped 1 frames" in caplog.text


def test_capture_time_is_the_due_time() -> None:
    clock = Clock()
    source = FileSource("film", decode=decoder([[0.0, 0.1]]), now=clock.read, wait=clock.wait)
    pictures = source.pictures()
    next(pictures)
    clock.now += 0.15  # the consumer was busy: the next picture was due 0.05 s ago
    before = time.time()
    captured_at = next(pictures).captured_at
    assert before - 0.05 <= captured_at + 1e-6
    assert captured_at <= time.time() - 0.05 + 1e-6


def test_closing_ends_the_wait() -> None:
    source = FileSource("film", decode=decoder([[0.0, 3600.0]]))
    pictures = source.pictures()
    next(pictures)
    source.close()
    assert list(pictures) == []


def test_a_film_without_pictures_is_an_error_even_when_repeated() -> None:
    source = FileSource("film", loop=True, decode=decoder([[]]))
    with pytest.raises(SourceError, match="no picture"):
        next(source.pictures())


def test_a_real_film_keeps_its_pace(bikes: Path) -> None:
    clock = Clock()
    source = FileSource(str(bikes), now=clock.read, wait=clock.wait)
    moments = [picture.at for picture in source.pictures()]
    assert moments == pytest.approx([1000 + number / 25 for number in range(250)], abs=1e-6)


def test_a_real_film_on_the_real_clock(bikes: Path) -> None:
    source = FileSource(str(bikes))
    start = time.monotonic()
    moments = []
    for picture in source.pictures():
        moments.append((picture.at, time.monotonic()))
        if len(moments) + source.skipped >= 20:
            source.close()
    assert 19 / 25 <= time.monotonic() - start < 5.0
    assert all(now >= at for at, now in moments)  # never early

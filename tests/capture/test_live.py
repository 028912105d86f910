"""A camera as a source: the end is a fault, faults are met with growing delays, and only the newest picture waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator

import av
import pytest
from supplierd_client.capture.live import LiveSource
from supplierd_client.capture.pacing import FIRST_DELAY, JITTER, LONGEST_DELAY
from supplierd_client.capture.source import SourceError

from tests.capture.fakes import Clock, decoder, picture

DEADLINE = 10.0


def test_the_end_and_every_error_lead_to_a_new_connection(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    refused = SourceError("Connection refused")
    clock = Clock(stop_after=4)
    source = LiveSource(
        "rtsp://user:secret@camera/1",
        decode=decoder([[0.0, 0.1], [refused], [0.0, SourceError("no data for 3 s")], [0.0]]),
        now=clock.read,
        wait=clock.wait,
    )
    assert len(list(source.pictures())) + source.skipped == 4
    assert source.reconnects == 2
    for delay, number in zip(clock.waits, range(4), strict=True):
        assert FIRST_DELAY * 2**number <= delay <= FIRST_DELAY * 2**number * (1 + JITTER)
    messages = [record.getMessage() for record in caplog.records]
    assert [m.split(": ", 1)[1].split(";")[0] for m in messages if "next attempt" in m] == [
        "the stream ended",
        "Connection refused",
        "no data for 3 s",
        "the stream ended",
    ]
    assert sum("connected, 16×16 pixels" in message for message in messages) == 3
    assert "secret" not in caplog.text


def test_a_camera_that_was_healthy_is_tried_again_soon() -> None:
    clock = Clock(stop_after=6)

    def ages() -> None:
        clock.now += 3.0

    failures = [[SourceError("Connection refused")]] * 4
    source = LiveSource(
        "rtsp://camera/1",
        decode=decoder([*failures, [0.0, 3.0, 6.0], [SourceError("Connection refused")]], ages),
        now=clock.read,
        wait=clock.wait,
    )
    list(source.pictures())
    assert clock.waits[3] >= 4.0
    assert clock.waits[4] <= FIRST_DELAY * (1 + JITTER)


def test_a_picture_is_as_old_as_its_bytes_and_no_older_than_the_one_before_it_and_paced_by_when_it_comes() -> None:
    clock = Clock(stop_after=1)
    there = iter([999.0, 999.8, 999.5, None])
    one = threading.Semaphore(0)

    def arrives() -> float | None:
        assert one.acquire(timeout=DEADLINE)
        return next(there)

    source = LiveSource(
        "rtsp://camera/1", decode=decoder([[0.0, 0.1, 0.2, 0.3]], arrives), now=clock.read, wait=clock.wait
    )
    pictures = source.pictures()
    for arrived in (999.0, 999.8, 999.8, 1000.0):
        before = time.time()
        one.release()
        got = next(pictures)
        assert before <= got.captured_at + (1000.0 - arrived) <= time.time()
        assert got.at == 1000.0


def test_delays_stay_bounded() -> None:
    clock = Clock(stop_after=40)
    refused = [SourceError("Connection refused")]
    source = LiveSource("rtsp://camera/1", decode=decoder([refused] * 40), now=clock.read, wait=clock.wait)
    assert list(source.pictures()) == []
    assert max(clock.waits) <= LONGEST_DELAY * (1 + JITTER)


def test_a_slow_consumer_gets_the_newest_picture() -> None:
    decoded = threading.Event()

    def decode(_: str) -> Generator[av.VideoFrame, None, None]:
        for number in range(10):
            yield picture(number / 10)
        decoded.set()

    clock = Clock(stop_after=1)
    source = LiveSource("rtsp://camera/1", decode=decode, now=clock.read, wait=clock.wait)
    assert decoded.wait(DEADLINE)
    assert [p.frame.time for p in source.pictures()] == [0.9]
    assert source.skipped == 9


def test_closing_wakes_the_consumer_and_ends_the_decoding() -> None:
    ended = threading.Event()
    more = threading.Event()

    def decode(_: str) -> Generator[av.VideoFrame, None, None]:
        try:
            yield picture(0.0)
            assert more.wait(DEADLINE)
            yield picture(0.1)
        finally:
            ended.set()

    source = LiveSource("rtsp://camera/1", decode=decode)
    pictures = source.pictures()
    next(pictures)
    closer = threading.Thread(target=source.close)
    closer.start()
    assert list(pictures) == []
    closer.join(DEADLINE)
    more.set()
    assert ended.wait(DEADLINE)


def test_closing_ends_the_wait_for_the_next_attempt() -> None:
    refused = [SourceError("Connection refused")]
    source = LiveSource("rtsp://camera/1", decode=decoder([refused, refused]))
    source.close()
    assert list(source.pictures()) == []
    assert source.reconnects == 0


def test_a_defect_reaches_the_consumer() -> None:
    source = LiveSource("rtsp://camera/1", decode=decoder([[ZeroDivisionError("a defect")]]))
    with pytest.raises(ZeroDivisionError, match="a defect"):
        next(source.pictures())

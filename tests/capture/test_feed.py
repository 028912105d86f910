"""The capture loop, with a publisher that keeps what it is given."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from supplierd_client.capture.encode import JpegEncoder, RawEncoder
from supplierd_client.capture.feed import feed, jpeg_sender, raw_sender
from supplierd_client.capture.replay import FileSource

from tests.capture.fakes import Clock, FakePublisher, decoder


@pytest.fixture
def publisher() -> Any:
    return FakePublisher()


def film(frames: int = 10) -> FileSource:
    clock = Clock()
    pictures = [number / 10 for number in range(frames)]
    return FileSource("film", decode=decoder([pictures]), now=clock.read, wait=clock.wait)


def test_raw_pictures_are_converted_into_the_loan(publisher: Any) -> None:
    assert feed(film(3), raw_sender(publisher, RawEncoder("gray"))) == 3
    payloads = [payload for payload, _ in publisher.published]
    assert payloads == publisher.loans
    assert all(loan.array.shape == (16, 16) and not loan.released for loan in publisher.loans)
    assert publisher.published[0][1]["metadata"] == {"pixel_format": "gray"}


def test_a_loan_is_given_back_when_the_picture_cannot_be_converted(publisher: Any) -> None:
    class Broken(RawEncoder):
        def write(self, *_: object) -> None:
            raise ValueError("no such picture")

    with pytest.raises(ValueError, match="no such picture"):
        feed(film(), raw_sender(publisher, Broken()))
    assert [loan.released for loan in publisher.loans] == [True]
    assert publisher.published == []


def test_jpegs_say_what_they_are_and_when_they_were_captured(publisher: Any) -> None:
    feed(film(2), jpeg_sender(publisher, JpegEncoder()))
    (first, about), (_, about_second) = publisher.published
    assert cast("bytes", first).startswith(b"\xff\xd8")
    assert about["encoding"] == "jpeg"
    assert about_second["captured_at"] > about["captured_at"] - 0.2


def test_at_most_so_many_frames_a_second(publisher: Any) -> None:
    assert feed(film(100), raw_sender(publisher, RawEncoder()), fps=2) == 20


def test_at_most_so_many_frames(publisher: Any) -> None:
    assert feed(film(100), raw_sender(publisher, RawEncoder()), frames=7) == 7
    assert isinstance(publisher.loans[0].array, np.ndarray)

"""The capture loop: pictures of a source, converted and published, until the source or the task ends.

Strategy: everything on the caller's thread; the source decides when a picture comes, the publisher never blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from supplierd_client.capture.encode import JpegEncoder, RawEncoder
from supplierd_client.capture.pacing import RateLimit
from supplierd_client.capture.source import Picture, Source

if TYPE_CHECKING:
    from supplierd_client import Publisher

Send = Callable[[Picture], object]


def raw_sender(publisher: Publisher, encoder: RawEncoder) -> Send:
    """Return what publishes a picture as raw pixels, converted straight into the slot that the workers will map."""
    metadata = {"pixel_format": encoder.pixel_format}

    def send(picture: Picture) -> None:
        loan = publisher.loan(encoder.shape(picture.frame), np.uint8)
        try:
            encoder.write(picture.frame, loan.array)
        except BaseException:
            loan.release()
            raise
        publisher.publish(loan, captured_at=picture.captured_at, metadata=metadata)

    return send


def jpeg_sender(publisher: Publisher, encoder: JpegEncoder) -> Send:
    """Return what publishes a picture as a JPEG."""

    def send(picture: Picture) -> None:
        publisher.publish(encoder.encode(picture.frame), captured_at=picture.captured_at, encoding="jpeg")

    return send


def feed(
    source: Source,
    send: Send,
    *,
    fps: float | None = None,
    frames: int | None = None,
    alive: Callable[[float], None] = lambda now: None,
) -> int:
    """Send the pictures of `source`, at most `fps` a second and `frames` in all; return how many were sent.

    `alive(now)` is called with each picture. Raises SourceError, and what `send` raises.
    """
    limit = RateLimit(fps)
    sent = 0
    for picture in source.pictures():
        alive(picture.at)
        if limit.accepts(picture.at):
            send(picture)
            sent += 1
            if sent == frames:
                break
    return sent

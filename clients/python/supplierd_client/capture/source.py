"""Opening a source with PyAV and decoding its video: the boundary where FFmpeg's errors become `SourceError`.

Strategy: `decode(source)` opens, yields decoded frames and closes; files, RTSP and V4L2 differ only in the options.
Rules: a damaged packet is passed over (a camera joined in mid-picture sends some); no message shows a password.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import av
from av.codec.context import Flags

if TYPE_CHECKING:
    from av import VideoStream
    from av.container import InputContainer

log = logging.getLogger("supplierd_client.capture")

Kind = Literal["file", "rtsp", "v4l2"]

EXPECTED = "a video file, an rtsp:// address or a /dev/videoN device"

OPEN_SECONDS, READ_SECONDS = 5.0, 3.0  # a camera that is silent for so long is gone
# By RTSP, FFmpeg gives out a picture's bytes of these when the next one's begin to come.
ENDED_BY_THE_NEXT = ("h264", "hevc", "mpeg4", "mpeg2video")
DAMAGED_PACKETS = 250  # 10 s of a 25 fps camera without one good picture: no key frame will come

# The first frame came after 0.45 s with these, after 1.1 to 4.3 s (by server) with FFmpeg's defaults. `fflags=nobuffer`
# is left out: it throws away the key frame that was read while probing, and the first picture then came after 1.45 s.
RTSP_OPTIONS = {
    "rtsp_transport": "tcp",
    "allowed_media_types": "video",
    "probesize": "32768",
    "analyzeduration": "200000",
}


class SourceError(Exception):
    """A source could not be opened or read. The message says what and why, without the address's credentials."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded frame: `captured_at` in Unix seconds, as far as is known; `at`, when it was there to be handed on, in
    seconds of the monotonic clock."""

    frame: av.VideoFrame
    captured_at: float
    at: float


class Source(Protocol):
    """Where pictures come from: the newest ones, at their own pace, until the source ends or is closed."""

    @property
    def skipped(self) -> int:
        """Pictures that were passed over because a newer one was due or there."""

    @property
    def reconnects(self) -> int:
        """Connections after the first one."""

    def pictures(self) -> Iterator[Picture]:
        """Yield each picture at its moment; called once."""

    def close(self) -> None:
        """End `pictures` at once, from any thread."""


def kind_of(source: str) -> Kind:
    """Say what `source` is. Raises SourceError for an address that is none of file, rtsp:// and /dev/videoN."""
    if source.startswith(("rtsp://", "rtsps://")):
        return "rtsp"
    if "://" in source:
        raise SourceError(f"{redact(source)}: expected {EXPECTED}")
    return "v4l2" if re.fullmatch(r"/dev/video\d+", source) else "file"


def redact(source: str) -> str:
    """Return `source` for people to read: user name and password of an address are replaced by ***."""
    return re.sub(r"://.*@", "://***@", source)


def decode(source: str) -> Generator[av.VideoFrame, None, None]:
    """Open `source` and yield its decoded frames; ends at its end, whether it is a file or a live source.

    `opaque` of a live source's frame is when its bytes were there, or began to be there where they take an interval to
    come out of FFmpeg: seconds of the monotonic clock, as a float. What was read while connecting has the end of that.
    Of a file's frame it is None.

    Raises SourceError when it cannot be opened, has no video, stops answering or cannot be decoded.
    """
    kind = kind_of(source)
    try:
        with closing(_open(source, kind)) as container:
            yield from _frames(container, kind)
    except av.error.ExitError as error:
        raise SourceError(f"no answer within {OPEN_SECONDS:g} s, or no data for {READ_SECONDS:g} s") from error
    except (av.FFmpegError, OSError) as error:
        raise SourceError(getattr(error, "strerror", None) or str(error)) from error


def _open(source: str, kind: Kind) -> InputContainer:
    if kind == "rtsp":
        began = time.monotonic()
        try:
            return av.open(source, options=RTSP_OPTIONS, timeout=(OPEN_SECONDS, READ_SECONDS))
        except av.error.InvalidDataError as error:  # which is what it says of a camera that is silent, too
            if time.monotonic() - began < OPEN_SECONDS - 0.1:
                raise
            raise SourceError(f"no answer within {OPEN_SECONDS:g} s") from error
    if kind == "v4l2":
        return av.open(source, format="v4l2", timeout=(OPEN_SECONDS, READ_SECONDS))
    return av.open(f"file:{source}")  # FFmpeg takes "12:30.mp4" for an address otherwise


def _frames(container: InputContainer, kind: Kind) -> Iterator[av.VideoFrame]:
    if not container.streams.video:
        raise SourceError("it has no video stream")
    stream = container.streams.video[0]
    codec = stream.codec_context
    if kind == "file":
        yield from _decoded(container.demux(stream))
        return
    codec.flags |= Flags.low_delay | Flags.copy_opaque
    yield from _decoded(_arriving(container.demux(stream), kind == "rtsp" and codec.name in ENDED_BY_THE_NEXT))


def _arriving(packets: Iterator[av.Packet[VideoStream]], ended_by_the_next: bool) -> Iterator[av.Packet[VideoStream]]:
    """Note in each packet when it was there: in one that the next ends, when the one before it was read.

    Raises SourceError after a silence of READ_SECONDS, at whose end FFmpeg gives out what it had held back.
    """
    there = asked = time.monotonic()
    for packet in packets:
        read = time.monotonic()
        packet.opaque = there if ended_by_the_next else read  # a float of its own: PyAV tells them apart by id()
        yield packet
        if ended_by_the_next and read - asked >= READ_SECONDS:
            raise SourceError(f"no data was read for {READ_SECONDS:g} s")
        there, asked = read, time.monotonic()


def _decoded(packets: Iterator[av.Packet[VideoStream]]) -> Iterator[av.VideoFrame]:
    damaged = 0
    for packet in packets:
        try:
            frames = packet.decode()
        except av.error.InvalidDataError as error:
            damaged += 1
            if damaged > DAMAGED_PACKETS:
                raise SourceError(f"{damaged} packets in a row cannot be decoded") from error
            continue
        damaged = 0
        yield from frames

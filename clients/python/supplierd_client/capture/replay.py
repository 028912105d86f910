"""A video file as a source: its frames at the file's own pace, as a camera would deliver them.

Strategy: one thread decodes a frame ahead, waits until it is due, and hands it on.
Rules: a frame whose successor is due already is skipped and counted, so there is never a backlog; what is decoded
slower than its pace is not skipped for ever, but the timeline moves (see FilePacer).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator

import av

from supplierd_client.capture.pacing import FilePacer, LogLimit
from supplierd_client.capture.source import Picture, SourceError, decode, log

Decode = Callable[[str], Generator[av.VideoFrame, None, None]]


class FileSource:
    """The pictures of the video file `path`, over and over with `loop`. `now` and `wait` are for tests.

    `wait(seconds)` sleeps and returns True as soon as the source is closed.
    """

    def __init__(
        self,
        path: str,
        *,
        loop: bool = False,
        decode: Decode = decode,
        now: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self.skipped = 0
        self.reconnects = 0
        self._path, self._loop, self._decode, self._now = path, loop, decode, now
        self._closed = threading.Event()
        self._wait = wait or self._closed.wait

    def pictures(self) -> Iterator[Picture]:
        """Yield each picture at the moment it is due. Raises SourceError."""
        pacer, behind = FilePacer(), LogLimit()
        for frame in self._frames():
            due = pacer.due(frame.time, self._now())
            if due is None:
                self.skipped += 1
                if skipped := behind.count(self._now()):
                    log.warning("behind the file's pace: skipped %d frames", skipped)
                continue
            if self._wait(max(due - self._now(), 0.0)):
                return
            yield Picture(frame, time.time() - (self._now() - due), due)

    def close(self) -> None:
        """End `pictures` at once, from any thread."""
        self._closed.set()

    def _frames(self) -> Iterator[av.VideoFrame]:
        while True:
            empty = True
            for frame in self._decode(self._path):
                empty = False
                yield frame
            if empty:
                raise SourceError("no picture in it could be decoded")
            if not self._loop:
                return

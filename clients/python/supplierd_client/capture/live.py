"""A camera as a source: the newest picture whenever one is asked for, and a new connection whenever one is lost.

Strategy: a daemon thread decodes into a slot one deep (`latest`), whatever the consumer does; so nothing queues up.
Rules: the end of a live source is a fault like any other (a server that dies looks like the end of a file): log it,
wait (Backoff), connect again; only `close` ends it. A picture was captured when its bytes came, not when it was
decoded.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

from supplierd_client.capture.pacing import Backoff
from supplierd_client.capture.replay import Decode
from supplierd_client.capture.source import Picture, SourceError, decode, log, redact
from supplierd_client.latest import latest


class LiveSource:
    """The pictures of the camera at `address`: rtsp://… or /dev/videoN. `now` and `wait` are for tests.

    `wait(seconds)` sleeps and returns True as soon as the source is closed. `alive(now)` is called after each attempt
    to connect: without pictures, that is the sign that nothing hangs.
    """

    def __init__(
        self,
        address: str,
        *,
        decode: Decode = decode,
        now: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
        alive: Callable[[float], None] = lambda now: None,
    ) -> None:
        self._address, self._decode, self._now, self._alive = address, decode, now, alive
        self._closed = threading.Event()
        self._wait = wait or self._closed.wait
        self._connections = 0
        self._latest = latest(self._connected())

    @property
    def skipped(self) -> int:
        """Pictures that a newer one replaced before they were asked for."""
        return self._latest.skipped

    @property
    def reconnects(self) -> int:
        """Connections that delivered pictures, after the first."""
        return max(self._connections - 1, 0)

    def pictures(self) -> Iterator[Picture]:
        """Yield the newest picture each time; blocks while there is none."""
        return self._latest

    def close(self) -> None:
        """End `pictures` at once, from any thread; the decoding thread ends with its next picture or time-out."""
        self._closed.set()
        self._latest.close()

    def _connected(self) -> Iterator[Picture]:
        name = redact(self._address)
        backoff = Backoff(random.random)
        arrived = float("-inf")
        while not self._closed.is_set():
            fault = "the stream ended"
            first = True
            try:
                with closing(self._decode(self._address)) as frames:
                    for frame in frames:
                        now = self._now()
                        backoff.frame(now)
                        if first:
                            self._connections += 1
                            log.info("%s: connected, %d×%d pixels", name, frame.width, frame.height)
                            first = False
                        there = frame.opaque if isinstance(frame.opaque, float) else now
                        arrived = max(arrived, there)  # some encoders send a picture before those that precede it
                        yield Picture(frame, time.time() - (now - arrived), now)
            except SourceError as error:
                fault = str(error)
            self._alive(self._now())
            delay = backoff.failure()
            log.warning("%s: %s; next attempt in %.1f s", name, fault, delay)
            if self._wait(delay):
                return

"""The worker for asyncio: the same session and sockets, waited for by the event loop."""

import asyncio
import os
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from supplierd.notify import Notifier
from supplierd_client.bell import Bell
from supplierd_client.channel import Channel
from supplierd_client.frame import Frame
from supplierd_client.sockets import Alone, ProcessGuard, Source, deadline_after


class AsyncWorker(Alone):
    """A named consumer of one or more streams, for asyncio.

    As Worker, with `async for frame in worker` and `await worker.read()`. It belongs to one event loop; one task reads
    at a time, any may call `close`. A cancelled read loses nothing: the next one goes on with its demand. Reading feeds
    systemd's watchdog as Worker's does.

    Args: those of Worker.
    """

    def __init__(
        self,
        name: str,
        streams: Sequence[str] = ("*",),
        control: str | None = None,
        *,
        target_fps: float | None = None,
        max_age: float | None = None,
        runtime_dir: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        server_key: str | os.PathLike[str] | None = None,
    ) -> None:
        self.name = name
        self._guard = ProcessGuard("AsyncWorker")
        self._channel = Channel(
            name,
            streams,
            control,
            target_fps=target_fps,
            max_age=max_age,
            runtime_dir=runtime_dir,
            key=key,
            server_key=server_key,
            by_descriptor=True,
        )
        self._notifier = Notifier()
        self._lock = asyncio.Lock()
        self._closing = self._closed = False
        self._something = asyncio.Event()

    async def read(self, timeout: float | None = None) -> Frame | None:  # noqa: ASYNC109  # the blocking worker's signature
        """The freshest frame, as soon as there is one that this worker has not had.

        Args:
            timeout: seconds to wait; None: for ever.

        Returns:
            A frame; None when the time is over, or the worker is closed.

        Raises:
            RefusedError, TakenOverError, ForkedError: as Worker.read.
        """
        self._guard.check()
        deadline = deadline_after(timeout)
        async with self._lock:
            if self._closing:
                return None
            self._channel.ask(time.monotonic())
            self._notifier.ready()
            loop = asyncio.get_running_loop()
            watched: list[Source | Bell] = []
            over = False
            try:
                while not self._closing:
                    self._something.clear()
                    now = time.monotonic()
                    frame = self._channel.step(now)
                    self._notifier.alive(now)
                    if frame is not None or over:
                        return frame
                    watched = self._watch(loop, watched)
                    if any(source.more for source in watched):
                        continue
                    wait = min(self._channel.next_at, self._notifier.next_at, deadline) - now
                    try:
                        async with asyncio.timeout(None if wait == float("inf") else max(0.0, wait)):
                            await self._something.wait()
                    except TimeoutError:
                        for source in watched:
                            source.more = True
                    over = time.monotonic() >= deadline
            finally:
                for source in watched:
                    loop.remove_reader(source.descriptor)
        return None

    def _watch(self, loop: asyncio.AbstractEventLoop, watched: list[Source | Bell]) -> list[Source | Bell]:
        """Have the loop watch the sockets that there are now."""
        sources = self._channel.sources
        for source in watched:
            if source not in sources:
                loop.remove_reader(source.descriptor)
        for source in sources:
            if source not in watched:
                loop.add_reader(source.descriptor, self._signalled, source)
        return sources

    def _signalled(self, source: Source | Bell) -> None:
        source.more = True
        self._something.set()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closing

    async def close(self) -> None:
        """Take leave. A waiting `read` ends, and an iteration with it. May be called more than once."""
        if self._guard.forked:
            return
        self._closing = True
        self._something.set()
        async with self._lock:
            if not self._closed:
                self._closed = True
                self._channel.close()

    def __aiter__(self) -> Self:
        return self  # a generator that is left in the midst would leave a task behind, to close it

    async def __anext__(self) -> Frame:
        frame = await self.read()
        if frame is None:
            raise StopAsyncIteration
        return frame

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

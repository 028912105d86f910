"""The worker for asyncio: the same session and sockets, waited for by the event loop."""

import asyncio
import os
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from supplierd.notify import Notifier
from supplierd_client.bell import Bell
from supplierd_client.channel import GENERAL_EVERY, Channel
from supplierd_client.express import Express
from supplierd_client.frame import Frame
from supplierd_client.sockets import Alone, ProcessGuard, Source, deadline_after

_NEVER: Final = float("inf")


class AsyncWorker(Alone):
    """A named consumer of one or more streams, for asyncio.

    As Worker, with `async for frame in worker` and `await worker.read()`. It belongs to one event loop; one task reads
    at a time, any may call `close`. A cancelled read loses nothing: the next one goes on with its demand. Reading feeds
    systemd's watchdog as Worker's does. From its first read until it is closed, the loop watches its sockets.

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
        self._loop: asyncio.AbstractEventLoop | None = None  # the one that watches
        self._sources: list[Source | Bell] = []  # the channel's, as far as `_watch` knows
        self._watched: list[Source | Bell] = []
        self._waiter: asyncio.Future[bool] | None = None  # what a reader waits for
        self._express: Express | None = None
        self._express_until = _NEVER  # then everything must be looked at, whatever happens

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
        if not await self._acquire(deadline):
            return None  # another task has been reading all the time
        try:
            if self._closing:
                return None
            self._loop_is(asyncio.get_running_loop())
            now = time.monotonic()
            if now < self._express_until and self._express is not None and self._sources is self._channel.sources:
                frame = await self._read_express(self._express, now, min(deadline, self._express_until))
                if frame is not None:
                    return frame
                self._channel.look_everywhere()
            return await self._read(deadline)
        finally:
            self._lock.release()

    async def _acquire(self, deadline: float) -> bool:
        """Be the task that reads; False where it is not this one's turn by then."""
        if deadline == _NEVER:
            return await self._lock.acquire()
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await self._lock.acquire()
        except TimeoutError:
            return False

    async def _read_express(self, express: Express, now: float, until: float) -> Frame | None:
        """The next frame by the short way; None where that does not do."""
        if not express.ask(now):
            return None
        self._watch()
        return express.take() if await self._wait(min(until, self._channel.next_at), now) else None

    async def _read(self, deadline: float) -> Frame | None:
        """Look at everything, and wait for whatever comes."""
        channel, notifier = self._channel, self._notifier
        channel.ask(time.monotonic())
        notifier.ready()
        over = False
        while not self._closing:
            now = time.monotonic()
            try:
                frame = channel.step(now)
            finally:
                self._watch()  # a descriptor that was closed must not be watched any more
            notifier.alive(now)
            if frame is not None or over:
                self._express_until = min(now + GENERAL_EVERY, notifier.next_at)
                return frame
            if any(source.more for source in self._sources):
                continue
            if not await self._wait(min(channel.next_at, notifier.next_at, deadline), now):
                channel.look_everywhere()
            over = time.monotonic() >= deadline  # after the last look, which the shortest read takes, too
        return None

    # --- waiting ------------------------------------------------------------------------------------------------------

    async def _wait(self, until: float, now: float) -> bool:
        """Until a source has something, this worker is closed, or the time has come; whether a source has."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiter = waiter
        timer = None if until == _NEVER else loop.call_later(max(0.0, until - now), _end, waiter, False)
        try:
            return await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _loop_is(self, loop: asyncio.AbstractEventLoop) -> None:
        """A reader runs in this loop; as a rule in the same one as ever."""
        if loop is not self._loop:
            self._unwatch()
            self._loop = loop

    def _watch(self) -> None:
        """Have the loop watch the sockets that there are now."""
        loop, sources = self._loop, self._channel.sources
        assert loop is not None
        if sources is not self._sources:
            for source in self._watched:
                if source not in sources:
                    loop.remove_reader(source.descriptor)
            self._watched = [source for source in self._watched if source in sources]
            self._sources = sources
            self._express = self._channel.express(())
        for source in sources:
            if source not in self._watched:
                loop.add_reader(source.descriptor, _told, weakref.ref(self), source.descriptor)
                self._watched.append(source)

    def _unwatch(self) -> None:
        """Nothing is watched any more."""
        if self._loop is not None and not self._loop.is_closed():
            for source in self._watched:
                self._loop.remove_reader(source.descriptor)
        self._watched = []

    def _readable(self, descriptor: int) -> None:
        """The loop says that a source has something."""
        source = next((source for source in self._watched if source.descriptor == descriptor), None)
        if source is None:
            return
        if self._waiter is not None:
            # Fetched now: the loop looks once more before the reader goes on, and would wake it once more.
            if isinstance(source, Bell) and not source.fetch():
                return
            source.more = True
            _end(self._waiter, True)
        elif self._loop is not None:  # nobody reads now: else the loop would say so at each of its turns
            source.more = True
            self._loop.remove_reader(source.descriptor)
            self._watched.remove(source)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closing

    async def close(self) -> None:
        """Take leave. A waiting `read` ends, and an iteration with it. May be called more than once."""
        if self._guard.forked:
            return
        self._closing = True
        if self._waiter is not None:
            _end(self._waiter, False)
        async with self._lock:
            self._shut()

    def _shut(self) -> None:
        """Close what is open."""
        if not self._closed:
            self._closed = True
            self._unwatch()
            self._channel.close()

    def __del__(self) -> None:
        with suppress(Exception):
            if not self._guard.forked:
                self._shut()

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


def _end(waiter: asyncio.Future[bool], signalled: bool) -> None:
    """End a reader's wait."""
    if not waiter.done():
        waiter.set_result(signalled)


def _told(worker: weakref.ref[AsyncWorker], descriptor: int) -> None:
    """What a loop calls: it keeps no worker alive that its program has forgotten."""
    found = worker()
    if found is not None:
        found._readable(descriptor)

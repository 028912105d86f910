"""The worker: asks the daemon for the freshest frame, one at a time.

All protocol is in session.py; here are the waiting and the threads. Whoever holds the lock owns the sockets; `close`
from another thread wakes the reader through an event descriptor, and closes the sockets when it has let go.
"""

import math
import os
import select
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

import zmq

from supplierd.notify import Notifier
from supplierd_client.bell import Bell
from supplierd_client.channel import GENERAL_EVERY, Channel
from supplierd_client.express import Express
from supplierd_client.frame import Frame
from supplierd_client.sockets import LONGEST_WAIT, Alone, ProcessGuard, Source, deadline_after

_NEVER: Final = float("inf")
_POLLIN: Final = int(zmq.POLLIN)


class Worker(Alone):
    """A named consumer of one or more streams.

    Iterating, or `read`, blocks until a frame is there, and always gives the freshest one: never an older one after a
    newer one, never one from a queue. Between reads nothing is sent, and nothing need be done. A restart of the daemon
    is waited out. One thread reads at a time; `close` may be called from any.

    Under systemd, the first read says that the service is ready, and reading feeds the watchdog: while it waits and
    when it takes a frame. So a program that hangs between two reads is restarted by WatchdogSec, and one that has no
    frames to work on is not. The work on a frame may take up to three quarters of WatchdogSec.

    Args:
        name: 1 to 64 characters of A-Z a-z 0-9 . _ -. A second worker of the same name takes over from the first.
        streams: names of streams, or ["*"] for all that there are and will be.
        control: the daemon's endpoint; None: the one in the runtime directory.
        target_fps: frames a second (of each stream) that this worker wants to be promised: frames beyond this rate are
            left out by contract and do not count as dropped. None: as many as it can take.
        max_age: seconds; an older frame is refused, and the next one asked for. None: any age.
        runtime_dir: an absolute path; None: as the daemon chooses it.
        key: a file NAME.secret, for a daemon that asks for keys, which it does on tcp only; None: $SUPPLIERD_KEY.
        server_key: the daemon's file NAME.public, with it; None: $SUPPLIERD_SERVER_KEY.

    Raises:
        ValueError: a name, an endpoint, a rate, a path or a key file is not allowed.
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
        self._guard = ProcessGuard("Worker")
        self._lock = threading.RLock()  # a signal handler may close in the midst of `read`
        self._open = threading.Lock()  # taken by the one `close` that closes
        self._closing = False
        self._reader = self._closer = 0  # the threads that are in `read` and in `close`
        self._notifier = Notifier()
        self._sources: list[Source | Bell] = []  # those that are waited for, by `_poll` or by `_awaited`
        self._poll: select.poll | None = None
        self._by_descriptor: dict[int, Source | Bell] = {}
        self._awaited: list[Any] = []
        self._express: Express | None = None
        self._express_until = _NEVER  # then everything must be looked at, whatever happens
        self._channel = Channel(
            name,
            streams,
            control,
            target_fps=target_fps,
            max_age=max_age,
            runtime_dir=runtime_dir,
            key=key,
            server_key=server_key,
        )
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def read(self, timeout: float | None = None) -> Frame | None:
        """The freshest frame, as soon as there is one that this worker has not had.

        Args:
            timeout: seconds to wait; None: for ever; 0: only what is at hand. In a program that handles many signals a
                second it may take up to a second longer.

        Returns:
            A frame; None when the time is over, or the worker is closed.

        Raises:
            RefusedError: the daemon does not want this worker; the text says why.
            TakenOverError: another worker has joined under this name.
            ForkedError: called in a forked child.
        """
        self._guard.check()
        deadline = deadline_after(timeout)
        if not self._lock.acquire(
            timeout=-1 if timeout is None else min(max(0.0, float(timeout)), threading.TIMEOUT_MAX)
        ):
            return None  # another thread has been reading all the time
        try:
            self._reader = threading.get_ident()
            if self._closing:
                return None
            now = time.monotonic()
            if now < self._express_until and self._express is not None and self._sources is self._channel.sources:
                frame = self._express.frame(now, min(deadline, self._express_until))
                if frame is not None:
                    return frame
                self._channel.look_everywhere()
            return self._read(deadline)
        finally:
            self._reader = 0
            if self._closer and self._closer == threading.get_ident():
                self._shut()
            self._lock.release()

    def _read(self, deadline: float) -> Frame | None:
        """Look at everything, and wait for whatever comes."""
        channel, notifier = self._channel, self._notifier
        now = time.monotonic()
        channel.ask(now)
        if not notifier.is_ready:
            notifier.ready()
        over = False
        while not self._closing:
            frame = channel.step(now)
            if now >= notifier.next_at:
                notifier.alive(now)
            if frame is not None or over:
                self._express_until = min(now + GENERAL_EVERY, notifier.next_at)
                return frame
            self._wait(min(channel.next_at, notifier.next_at, deadline), now)
            now = time.monotonic()
            over = now >= deadline  # after the last look, which the shortest read takes, too
        return None

    def _wait(self, until: float, now: float) -> None:
        """Until something arrives, this worker is closed, or the time has come."""
        sources = self._channel.sources
        if sources is not self._sources:
            self._prepare(sources)
        milliseconds = -1 if until == _NEVER else 0
        if now < until < _NEVER:
            milliseconds = min(math.ceil((until - now) * 1e3), LONGEST_WAIT)
        if self._poll is None:
            for readable, _ in zmq.zmq_poll(self._awaited, milliseconds):
                for source in sources:
                    if isinstance(source, Source) and source.socket is readable:
                        source.more = True
            return
        signalled = self._poll.poll(milliseconds)
        for descriptor, _ in signalled:
            if descriptor != self._wake:
                self._by_descriptor[descriptor].more = True
        if not signalled:  # a send may have swallowed what a descriptor had to tell
            self._channel.look_everywhere()

    def _prepare(self, sources: list[Source | Bell]) -> None:
        """Be ready to wait for these. ZeroMQ's sockets by zmq_poll, which costs least where frames come over them; with
        a bell by their descriptors, which nearly never tell of anything then."""
        self._sources, self._poll, self._express = sources, None, None
        if self._channel.by_descriptor:
            self._by_descriptor = {source.descriptor: source for source in sources}
            poll = self._poll = select.poll()
            descriptors = (self._wake, *self._by_descriptor)
            for descriptor in descriptors:
                poll.register(descriptor, select.POLLIN)
            self._express = self._channel.express(descriptors)
        else:
            self._awaited = [(self._wake, _POLLIN), *((s.socket, _POLLIN) for s in sources if isinstance(s, Source))]

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closing

    def close(self) -> None:
        """Take leave. A blocked `read` ends, and an iteration with it.

        May be called repeatedly, from any thread, and from a signal handler that interrupts `read`.
        """
        if self._guard.forked or not self._open.acquire(blocking=False):
            return
        self._closer = threading.get_ident()
        self._closing = True
        os.eventfd_write(self._wake, 1)
        if self._reader != threading.get_ident():  # else `read` closes on its way out
            with self._lock:
                self._shut()

    def _shut(self) -> None:
        """Close what is open. The lock is held."""
        if self._wake >= 0:
            self._channel.close()
            os.close(self._wake)
            self._wake = -1

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self.read()) is not None:
            yield frame
            del frame

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(Exception):
            self.close()

"""Drain-to-newest: take the newest item of a buffered source and leave no backlog behind.

Strategy: a queue is read by the consumer itself, which blocks for one item and then takes whatever more is there; an
iterator, which produces at its own pace, is read by a daemon thread into a slot one item deep.
Rules: items keep their order, the newest wins, every item passed over is counted in `skipped`.
"""

from __future__ import annotations

import inspect
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Generic, Protocol, Self, TypeVar, cast, overload

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

QUEUE_POLL_SECONDS = 0.1  # a blocked queue cannot be woken from outside: how soon it notices `close()`
_NOTHING: Any = object()


class QueueLike(Protocol[T_co]):
    """What `latest` needs of a queue: `queue.Queue`, `queue.SimpleQueue` and `multiprocessing.Queue` have it."""

    def get(self, block: bool = True, timeout: float | None = None) -> T_co:
        """Return the next item, waiting up to `timeout` seconds; raises queue.Empty."""

    def get_nowait(self) -> T_co:
        """Return the next item; raises queue.Empty when there is none."""


class Latest(Iterator[T], Generic[T]):
    """Iterator over the newest items of a source. Made by `latest()`; one consumer, `close()` from any thread."""

    def __init__(self) -> None:
        self.skipped = 0
        """Items that a newer one replaced before the consumer came for them."""

    def close(self) -> None:
        """Wake a blocked consumer and end the iteration. Idempotent; the source itself is left open."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@overload
def latest(source: QueueLike[T], *, end: object = ...) -> Latest[T]: ...
@overload
def latest(source: Iterable[T]) -> Latest[T]: ...
def latest(source: QueueLike[T] | Iterable[T], *, end: object = _NOTHING) -> Latest[T]:
    """Return an iterator that always gives the newest item of `source` and skips the older ones.

    `source` is a queue (`get` and `get_nowait`: threads or processes) or any iterable. An iterable is read from this
    call on, by a daemon thread, so its buffers never fill while the consumer is busy; the iteration ends when the
    iterable does, after its last item, and an exception of the iterable is raised to the consumer in its place.

    A queue does not know its end. Pass `end`, an object that the producer puts last: it is recognised by identity
    (`None` works across processes) and ends the iteration after the newest item before it. Without `end`, only
    `close()` ends it.

    Raises TypeError for anything else, an `asyncio.Queue` included.
    """
    if hasattr(source, "get_nowait") and hasattr(source, "get"):
        if inspect.iscoroutinefunction(source.get):
            raise TypeError("latest() takes thread or process queues; asyncio code reads frames with AsyncWorker")
        return _QueueLatest(cast("QueueLike[T]", source), end)
    if end is not _NOTHING:
        raise TypeError("latest(): `end` is for queues; an iterable ends by itself")
    if not isinstance(source, Iterable):
        kind = type(source).__name__
        raise TypeError(f"latest() takes a queue (get and get_nowait) or an iterable, not {kind}")
    return _IteratorLatest(iter(source))


class _QueueLatest(Latest[T]):
    def __init__(self, source: QueueLike[T], end: object) -> None:
        super().__init__()
        self._source = source
        self._end = end
        self._closed = False

    def __next__(self) -> T:
        newest: Any = _NOTHING
        while not self._closed:
            try:
                item = self._source.get(True, QUEUE_POLL_SECONDS) if newest is _NOTHING else self._source.get_nowait()
            except queue.Empty:
                if newest is _NOTHING:
                    continue
                return cast("T", newest)
            if item is self._end:
                self._closed = True
                break
            self.skipped += newest is not _NOTHING
            newest = item
        if newest is _NOTHING:
            raise StopIteration
        return cast("T", newest)

    def close(self) -> None:
        self._closed = True


class _IteratorLatest(Latest[T]):
    """The slot, the error and the two flags are guarded by `_changed`."""

    def __init__(self, source: Iterator[T]) -> None:
        super().__init__()
        self._changed = threading.Condition()
        self._slot: Any = _NOTHING
        self._error: BaseException | None = None
        self._ended = False
        self._closed = False
        threading.Thread(target=self._pump, args=(source,), name="latest", daemon=True).start()

    def _pump(self, source: Iterator[T]) -> None:
        error: BaseException | None = None
        try:
            for item in source:
                with self._changed:
                    if self._closed:
                        return
                    self.skipped += self._slot is not _NOTHING
                    self._slot = item
                    self._changed.notify_all()
                del item  # the slot alone keeps a frame alive
        except BaseException as caught:  # handed to the consumer, whatever it is
            error = caught
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def __next__(self) -> T:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._ended or self._slot is not _NOTHING)
            item, self._slot = self._slot, _NOTHING
            if item is not _NOTHING and not self._closed:
                return cast("T", item)
            error, self._error = self._error, None
            if error is not None and not self._closed:
                raise error
            raise StopIteration

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

"""The drain-to-newest helper, over queues of threads and processes and over iterators. No test waits by sleeping."""

from __future__ import annotations

import asyncio
import multiprocessing
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from supplierd_client.latest import Latest, latest

DEADLINE = 10.0


class Script:
    """An iterator that a test drives step by step: `give` returns when the reading thread has come for the next."""

    def __init__(self) -> None:
        self._items: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._asked = threading.Semaphore(0)

    def __iter__(self) -> Iterator[Any]:
        while True:
            self._asked.release()
            item = self._items.get(timeout=DEADLINE)
            if isinstance(item, BaseException):
                raise item
            if item is StopIteration:
                return
            yield item

    def wait_until_asked(self) -> None:
        assert self._asked.acquire(timeout=DEADLINE)

    def give(self, *items: Any) -> None:
        for item in items:
            self._items.put(item)
            self.wait_until_asked()

    def finish(self, last: Any = StopIteration) -> None:
        self._items.put(last)


def scripted() -> tuple[Script, Latest[Any]]:
    script = Script()
    newest = latest(script)
    script.wait_until_asked()
    return script, newest


@pytest.mark.parametrize("kind", [queue.Queue, queue.LifoQueue, queue.SimpleQueue])
def test_a_queue_is_drained_to_what_came_last(kind: type[Any]) -> None:
    source = kind()
    for item in (1, 1, 1) if kind is queue.LifoQueue else (1, 2, 3):
        source.put(item)
    newest = latest(source)
    assert next(newest) == (1 if kind is queue.LifoQueue else 3)
    assert newest.skipped == 2


def test_each_item_comes_once_when_the_consumer_keeps_up() -> None:
    source: queue.Queue[int] = queue.Queue()
    newest = latest(source)
    got = []
    for item in range(5):
        source.put(item)
        got.append(next(newest))
    assert got == [0, 1, 2, 3, 4]
    assert newest.skipped == 0


@pytest.mark.parametrize(("items", "expected", "skipped"), [([], [], 0), ([1], [1], 0), ([1, 2, 3], [3], 2)])
def test_the_end_marker_of_a_queue_ends_after_the_last_item(
    items: list[int], expected: list[int], skipped: int
) -> None:
    source: queue.Queue[int | None] = queue.Queue()
    for item in [*items, None]:
        source.put(item)
    newest = latest(source, end=None)
    assert list(newest) == expected
    assert newest.skipped == skipped
    assert list(newest) == []


def test_none_is_an_item_unless_it_is_the_end_marker() -> None:
    source: queue.Queue[int | None] = queue.Queue()
    source.put(None)
    assert next(latest(source)) is None


def test_closing_wakes_a_consumer_that_waits_for_a_queue() -> None:
    source: queue.Queue[int] = queue.Queue()
    newest = latest(source)
    assert closed_while_waiting(newest) == []
    source.put(1)
    assert source.get_nowait() == 1  # nobody reads the queue any more


def test_a_queue_between_processes() -> None:
    context = multiprocessing.get_context("spawn")
    source = context.Queue()
    source.put(1)
    newest: Latest[int | None] = latest(source, end=None)
    assert next(newest) == 1
    source.put(2)
    source.put(3)
    source.put(None)
    assert list(newest)[-1] == 3
    source.close()
    source.join_thread()


def test_an_iterator_is_read_while_the_consumer_is_busy() -> None:
    script, newest = scripted()
    script.give(1, 2, 3)
    assert next(newest) == 3
    assert newest.skipped == 2
    script.give(4)
    assert next(newest) == 4
    assert newest.skipped == 2
    script.finish()


def test_an_iterator_ends_after_its_last_item() -> None:
    script, newest = scripted()
    script.give(1, 2)
    script.finish()
    assert list(newest) == [2]
    assert list(newest) == []


def test_an_iterators_exception_comes_after_its_last_item_and_once() -> None:
    script, newest = scripted()
    script.give(1)
    script.finish(OSError("camera gone"))
    assert next(newest) == 1
    with pytest.raises(OSError, match="camera gone"):
        next(newest)
    assert list(newest) == []


def test_closing_wakes_a_consumer_that_waits_for_an_iterator() -> None:
    script, newest = scripted()
    assert closed_while_waiting(newest) == []
    script.finish()


def test_a_closed_iterator_is_read_no_further() -> None:
    read: list[int] = []
    ended = threading.Event()
    gate = threading.Event()

    def source() -> Iterator[int]:
        try:
            for item in range(1000):
                assert gate.wait(DEADLINE)
                read.append(item)
                yield item
        finally:
            ended.set()

    with latest(source()) as newest:
        pass
    gate.set()
    assert ended.wait(DEADLINE)
    assert read == [0]
    assert list(newest) == []


def test_the_slot_does_not_keep_what_was_taken_or_replaced() -> None:
    class Item:
        alive = 0

        def __init__(self) -> None:
            Item.alive += 1

        def __del__(self) -> None:
            Item.alive -= 1

    step = threading.Semaphore(0)
    asked = threading.Semaphore(0)

    def source() -> Iterator[Item]:
        while True:
            asked.release()
            if not step.acquire(timeout=DEADLINE):
                return
            yield Item()

    newest = latest(source())
    asked.acquire()
    for _ in range(5):
        step.release()
        assert asked.acquire(timeout=DEADLINE)
    assert Item.alive == 1
    next(newest)
    assert Item.alive == 0
    newest.close()
    step.release()


@pytest.mark.parametrize("source", [42, None, object()])
def test_what_is_neither_queue_nor_iterable_is_refused(source: Any) -> None:
    with pytest.raises(TypeError, match="takes a queue"):
        latest(source)


def test_an_asyncio_queue_is_refused_with_advice() -> None:
    source: Any = asyncio.Queue()
    with pytest.raises(TypeError, match="AsyncWorker"):
        latest(source)


def test_an_end_marker_for_an_iterator_is_refused() -> None:
    source: Any = [1]
    with pytest.raises(TypeError, match="for queues"):
        latest(source, end=None)


def closed_while_waiting(newest: Latest[Any]) -> list[Any]:
    """Let a thread iterate, close from here, and return what it got once it has ended."""
    got: list[Any] = []
    started = threading.Event()

    def consume() -> None:
        started.set()
        got.extend(newest)

    consumer = threading.Thread(target=consume)
    consumer.start()
    assert started.wait(DEADLINE)
    newest.close()
    consumer.join(DEADLINE)
    assert not consumer.is_alive()
    return got

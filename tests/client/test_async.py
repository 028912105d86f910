"""The asyncio worker: the same protocol in an event loop, with cancellation, time-outs and several tasks."""

import asyncio
import time
from collections.abc import Callable

import numpy as np
import pytest
from supplierd_client import AsyncWorker, Frame, Publisher
from supplierd_client.channel import Channel

from tests.client.looping import SHARED, by_both_ways, run, until, waiting
from tests.client.playing import Camera
from tests.support.daemon import Daemon
from tests.support.waiting import DEADLINE

AT_ONCE = 0.8
"""Seconds in which a reader must have ended; the repetition of a demand would take a second."""


def test_a_frame_arrives_as_it_was_published(running: Daemon, name: Callable[[str], str]) -> None:
    stream = name("cam")
    sent = np.arange(12, dtype=np.float32).reshape(3, 4)

    async def test() -> None:
        async with AsyncWorker(name("worker"), [stream], running.control) as worker:
            assert await worker.read(0) is None
            assert await worker.read(0.02) is None
            publisher.publish(sent, metadata={"a": 1})
            frame = await worker.read(DEADLINE)
            assert frame is not None
            assert np.array_equal(frame.array, sent)
            assert frame.metadata == {"a": 1}
            assert not worker.closed
        assert worker.closed
        assert await worker.read() is None

    with Publisher(stream, running.inbox) as publisher:
        run(test())


def test_a_read_without_waiting_gives_what_is_at_hand(running: Daemon, name: Callable[[str], str]) -> None:
    stream, worker_name = name("cam"), name("worker")

    async def test() -> None:
        async with AsyncWorker(worker_name, [stream], running.control) as worker:
            assert await worker.read(0.1) is None
            publisher.publish(b"x")
            end = time.monotonic() + DEADLINE
            while (frame := await worker.read(0)) is None:
                assert time.monotonic() < end
            assert bytes(frame.data) == b"x"

    with Publisher(stream, running.inbox) as publisher:
        run(test())


@by_both_ways
def test_iterating_while_other_tasks_run(running: Daemon, name: Callable[[str], str], size: int) -> None:
    stream = name("cam")
    numbers: list[int] = []

    async def test() -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        async with AsyncWorker(name("worker"), [stream], running.control) as worker:
            async for frame in worker:
                assert (frame.array == frame.seq % 256).all()
                numbers.append(frame.seq)
                if len(numbers) == 100:
                    break
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert turns > 100

    with Camera(stream, running.inbox, 0.002, size):
        run(test())
    assert numbers == sorted(set(numbers))


def test_its_frames_take_the_short_way(
    running: Daemon, name: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = name("cam")
    long_ways = 0
    step = Channel.step

    def counted(channel: Channel, now: float) -> Frame | None:
        nonlocal long_ways
        long_ways += 1
        return step(channel, now)

    async def test() -> None:
        nonlocal long_ways
        async with AsyncWorker(name("worker"), [stream], running.control) as worker:
            for count in range(110):
                assert await worker.read(DEADLINE) is not None
                long_ways = 0 if count < 10 else long_ways

    monkeypatch.setattr(Channel, "step", counted)
    with Camera(stream, running.inbox, 0.002, SHARED):
        run(test())
    assert long_ways < 50


def test_waiting_takes_no_processor_time(running: Daemon, name: Callable[[str], str]) -> None:
    async def test() -> None:
        async with AsyncWorker(name("worker"), [name("cam")], running.control) as worker:
            await worker.read(0.2)
            before = time.process_time()
            assert await worker.read(0.8) is None
            assert time.process_time() - before < 0.2

    run(test())


@pytest.mark.parametrize("when", ["before the join", "while waiting"])
def test_closing_ends_a_waiting_read_and_the_iteration(running: Daemon, name: Callable[[str], str], when: str) -> None:
    worker_name = name("worker")

    async def test() -> None:
        worker = AsyncWorker(worker_name, [name("cam")], running.control)

        async def iterate() -> list[int]:
            return [frame.seq async for frame in worker]

        tasks = [asyncio.create_task(iterate()), asyncio.create_task(iterate())]
        await asyncio.sleep(0)
        if when == "while waiting":
            await until(lambda: waiting(running, worker_name))
        async with asyncio.timeout(AT_ONCE):
            await asyncio.gather(worker.close(), worker.close())
            assert await asyncio.gather(*tasks) == [[], []]
        await worker.close()

    run(test())
    if when == "while waiting":
        running.wait_for_state(worker_name, "gone")


def test_a_close_that_was_cancelled_is_finished_by_the_next(running: Daemon, name: Callable[[str], str]) -> None:
    worker_name = name("worker")

    async def test() -> None:
        worker = AsyncWorker(worker_name, [name("cam")], running.control)
        reading = asyncio.create_task(worker.read())
        await until(lambda: waiting(running, worker_name))
        closing = asyncio.create_task(worker.close())
        await asyncio.sleep(0)
        closing.cancel()
        await worker.close()
        assert await reading is None

    run(test())
    running.wait_for_state(worker_name, "gone")


def test_a_cancelled_read_loses_nothing(running: Daemon, name: Callable[[str], str]) -> None:
    stream, worker_name = name("cam"), name("worker")

    async def test() -> None:
        async with AsyncWorker(worker_name, [stream], running.control) as worker:
            task = asyncio.create_task(worker.read())
            await until(lambda: waiting(running, worker_name))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            seq = publisher.publish(b"x")
            frame = await worker.read(DEADLINE)
            assert frame is not None
            assert frame.seq == seq

    with Publisher(stream, running.inbox) as publisher:
        run(test())


@by_both_ways
def test_reads_that_are_cancelled_at_any_moment(running: Daemon, name: Callable[[str], str], size: int) -> None:
    stream, worker_name = name("cam"), name("worker")
    numbers: list[int] = []

    async def test() -> None:
        async with AsyncWorker(worker_name, [stream], running.control) as worker:
            for pause in range(200):
                try:
                    async with asyncio.timeout(pause % 10 / 2000):
                        frame = await worker.read()
                except TimeoutError:
                    continue
                assert frame is not None
                numbers.append(frame.seq)

    with Camera(stream, running.inbox, 0.003, size):
        run(test())
    assert numbers == sorted(set(numbers))
    running.wait_for_state(worker_name, "gone")
    mailbox = running.mailbox(worker_name, stream)
    assert mailbox is not None
    assert mailbox.consumed == len(numbers) > 0
    assert mailbox.discarded.get("lost", 0) == 0


@by_both_ways
def test_tasks_may_share_a_worker(running: Daemon, name: Callable[[str], str], size: int) -> None:
    stream = name("cam")
    numbers: list[int] = []

    async def test() -> None:
        async with AsyncWorker(name("worker"), [stream], running.control) as worker:

            async def read() -> None:
                for _ in range(20):
                    frame = await worker.read(DEADLINE)
                    assert frame is not None
                    numbers.append(frame.seq)

            await asyncio.gather(read(), read(), read())

    with Camera(stream, running.inbox, 0.002, size):
        run(test())
    assert len(set(numbers)) == 60


def test_a_task_that_has_to_wait_for_another_reads_no_longer_than_it_said(
    running: Daemon, name: Callable[[str], str]
) -> None:
    async def test() -> None:
        async with AsyncWorker(name("worker"), [name("cam")], running.control) as worker:
            first = asyncio.create_task(worker.read(2 * AT_ONCE))
            await asyncio.sleep(0)
            async with asyncio.timeout(AT_ONCE):
                assert await worker.read(0) is None
                assert await worker.read(0.1) is None
            assert not first.done()
            assert await first is None

    run(test())


def test_max_age_refuses_old_frames(running: Daemon, name: Callable[[str], str]) -> None:
    stream = name("cam")

    async def test() -> None:
        async with AsyncWorker(name("worker"), [stream], running.control, max_age=0.5) as worker:
            publisher.publish(b"old", captured_at=time.time() - 1)
            assert await worker.read(0.2) is None
            publisher.publish(b"fresh")
            frame = await worker.read(DEADLINE)
            assert frame is not None
            assert bytes(frame.data) == b"fresh"

    with Publisher(stream, running.inbox) as publisher:
        run(test())

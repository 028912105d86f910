"""The asyncio worker's sessions, loops and descriptors."""

import asyncio
import gc
import os
import time
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from supplierd_client import AsyncWorker, RefusedError, TakenOverError

from tests.client.looping import by_both_ways, run, until, waiting
from tests.client.playing import Camera
from tests.support.daemon import Daemon
from tests.support.waiting import DEADLINE, wait_for


@by_both_ways
def test_it_may_go_on_in_another_loop(running: Daemon, name: Callable[[str], str], size: int) -> None:
    stream, worker_name = name("cam"), name("worker")
    worker = AsyncWorker(worker_name, [stream], running.control)
    numbers: list[int] = []

    async def test(last: bool) -> None:
        for _ in range(10):
            frame = await worker.read(DEADLINE)
            assert frame is not None
            numbers.append(frame.seq)
        if last:
            await worker.close()

    with Camera(stream, running.inbox, 0.002, size):
        for last in (False, False, True):
            run(test(last))
    assert numbers == sorted(set(numbers))
    running.wait_for_state(worker_name, "gone")


@by_both_ways
def test_what_arrives_while_nobody_reads_does_not_keep_the_loop_busy(
    running: Daemon, name: Callable[[str], str], size: int
) -> None:
    stream, worker_name = name("cam"), name("worker")

    async def test() -> None:
        async with AsyncWorker(worker_name, [stream], running.control) as worker:
            assert await worker.read(DEADLINE) is not None
            async with AsyncWorker(worker_name, [stream], running.control) as second:  # the first is told of it
                assert await second.read(DEADLINE) is not None
            before = time.process_time()
            await asyncio.sleep(0.4)
            assert time.process_time() - before < 0.2
            with pytest.raises(TakenOverError):
                await worker.read(0)

    with Camera(stream, running.inbox, 0.05, size):
        run(test())


def test_several_workers_in_one_loop(running: Daemon, name: Callable[[str], str]) -> None:
    stream = name("cam")

    async def test() -> None:
        async def read(worker: AsyncWorker) -> None:
            async with worker:
                for _ in range(20):
                    assert await worker.read(DEADLINE) is not None

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(read(AsyncWorker(name("worker"), [stream], running.control)))

    with Camera(stream, running.inbox, 0.005):
        run(test())


def test_a_second_worker_of_a_name_takes_over(running: Daemon, name: Callable[[str], str]) -> None:
    worker_name, stream = name("worker"), name("cam")

    async def test() -> None:
        async with AsyncWorker(worker_name, [stream], running.control) as first:
            reading = asyncio.create_task(first.read())
            await until(lambda: waiting(running, worker_name))
            async with AsyncWorker(worker_name, [stream], running.control) as second:
                taking_over = asyncio.create_task(second.read())
                with pytest.raises(TakenOverError, match=worker_name):
                    await reading
                with pytest.raises(TakenOverError):
                    await first.read(0)
                taking_over.cancel()
                await asyncio.wait([taking_over])

    run(test())


def test_a_worker_that_is_not_wanted_learns_why(running: Daemon, name: Callable[[str], str]) -> None:
    async def test() -> None:
        async with AsyncWorker(name("worker"), [name("cam")], running.control, target_fps=5000) as worker:
            with pytest.raises(RefusedError, match="1000 frames a second") as error:
                await worker.read(DEADLINE)
            assert error.value.reason == "bad_target_fps"

    run(test())


def test_a_restarted_daemon_is_found_again(daemon: Daemon) -> None:
    async def test() -> None:
        async with AsyncWorker("worker", ["cam-1"], daemon.control) as worker:
            before = await worker.read(DEADLINE)
            await asyncio.to_thread(daemon.kill)
            reading = asyncio.create_task(worker.read(DEADLINE))
            await asyncio.to_thread(daemon.start)
            frame = await reading
            assert before is not None
            assert frame is not None
            assert frame.seq > before.seq
            began = time.monotonic()
            for _ in range(10):
                assert await worker.read(DEADLINE) is not None
            assert time.monotonic() - began < 2.0, "the loop watches the new session's socket"

    with Camera("cam-1", daemon.inbox):
        run(test())


def test_a_loop_that_ends_during_a_read_leaves_no_descriptor(home: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))

    async def test() -> None:
        worker = AsyncWorker("worker", runtime_dir=home)
        task = asyncio.create_task(worker.read())
        await asyncio.sleep(0)
        task.cancel()
        await worker.close()
        with pytest.raises(asyncio.CancelledError):
            await task

    for _ in range(3):
        run(test())
    wait_for(lambda: len(os.listdir("/proc/self/fd")) <= before, "the descriptors to be closed")


def test_bad_arguments_are_refused_with_what_is_allowed(home: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=r'\["cam-1"\]'):
            AsyncWorker("worker", "cam-1", runtime_dir=home)
        with pytest.raises(ValueError, match="tcp://host:port"):
            AsyncWorker("worker", control="localhost")

    async def test() -> None:
        async with AsyncWorker("worker", ["cam-1"], runtime_dir=home) as worker:
            with pytest.raises(ValueError, match="timeout is nan: give seconds"):
                await worker.read(float("nan"))

    run(test())


@by_both_ways
def test_one_that_its_program_forgets_goes_away(running: Daemon, name: Callable[[str], str], size: int) -> None:
    stream, worker_name = name("cam"), name("worker")

    async def test() -> None:
        worker = AsyncWorker(worker_name, [stream], running.control)
        for _ in range(5):
            assert await worker.read(DEADLINE) is not None
        forgotten = weakref.ref(worker)
        del worker
        gc.collect()
        assert forgotten() is None

    with Camera(stream, running.inbox, 0.005, size):
        run(test())
        running.wait_for_state(worker_name, "gone")

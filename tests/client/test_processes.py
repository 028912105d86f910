"""The client as a guest in its process: forks, what it takes, and what it leaves behind."""

import asyncio
import gc
import itertools
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from supplierd_client import AsyncWorker, ForkedError, Publisher, Worker

from tests.client.playing import in_threads, round_trip
from tests.support.daemon import Daemon, environment
from tests.support.waiting import DEADLINE, wait_for

FORKED = """
import gc, multiprocessing, os, sys
from supplierd_client import AsyncWorker, ForkedError, Publisher, Worker
import asyncio

inbox, control, stream = sys.argv[1:]
publisher, worker = Publisher(stream, inbox), Worker(stream, [stream], control)
other = AsyncWorker(stream + "-async", [stream], control)
publisher.publish(b"before")
kept = worker.read(10)

child = os.fork()
if child == 0:
    for forbidden in (
        lambda: publisher.publish(b"x"), lambda: publisher.loan((1,)), lambda: publisher.connected,
        lambda: worker.read(0), lambda: next(iter(worker)), lambda: asyncio.run(other.read(0)),
    ):
        try:
            forbidden()
        except ForkedError as error:
            assert "spawn" in str(error) and str(os.getppid()) in str(error), error
        else:
            os._exit(1)
    assert bytes(kept.data) == b"before"
    publisher.close()
    worker.close()
    asyncio.run(other.close())
    mine = Publisher(stream + "-child", inbox)
    mine.publish(b"of the child")
    mine.close()
    del publisher, worker, other, forbidden, mine
    gc.collect()
    sys.exit(0)  # an orderly end, with every finaliser
assert os.waitpid(child, 0)[1] == 0
for _ in range(3):
    seq = publisher.publish(b"after")
    assert worker.read(10).seq == seq
publisher.close()
worker.close()
asyncio.run(other.close())
print("well")
"""


def test_a_forked_child_is_told_and_its_parent_goes_on(running: Daemon, name: Callable[[str], str]) -> None:
    # From 3.12 on Python warns of each fork of a process with threads, as libzmq's are.
    python = [sys.executable, "-W", "ignore::DeprecationWarning"]
    done = subprocess.run(
        [*python, "-c", FORKED, running.inbox, running.control, name("forked")],
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
        env=environment(),
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "well\n", ""), done


def test_a_fork_during_a_read_harms_nobody(running: Daemon, name: Callable[[str], str]) -> None:
    stream = name("cam")
    with Publisher(stream, running.inbox) as publisher, Worker(name("worker"), [stream], running.control) as worker:
        round_trip(publisher, worker, b"x")
        child = os.fork()
        if child == 0:
            try:
                worker.read(0)
            except ForkedError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        round_trip(publisher, worker, b"x")


UNCLOSED = """
import sys
from supplierd_client import AsyncWorker, Publisher, Worker
inbox, control, stream = sys.argv[1:]
publisher, worker, other = Publisher(stream, inbox), Worker(stream, [stream], control), AsyncWorker("a-" + stream)
publisher.publish(b"x")
print(bytes(worker.read(10).data).decode())
"""


def test_a_program_that_closes_nothing_ends_at_once(running: Daemon, name: Callable[[str], str]) -> None:
    worker = name("worker")
    done = subprocess.run(
        [sys.executable, "-c", UNCLOSED, running.inbox, running.control, worker],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=environment(),
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "x\n"), done
    running.wait_for_state(worker, "gone")


LEFT_BEHIND = 2 * 1024 * 1024
"""Bytes: the allocator's own noise. 200 workers that leaked only their control socket would be several times it."""


def rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


AT_A_TIME = 20
"""Joining takes a worker some 60 ms of waiting: so many do it at once."""


def workers(control: str, stream: str) -> None:
    """Open so many workers in as many threads, each under a name of its own, read a frame with each, and close them."""
    numbers = itertools.count()

    def read_one() -> None:
        with Worker(f"{stream}-{next(numbers)}", [stream], control) as worker:
            assert worker.read(DEADLINE) is not None

    in_threads(AT_A_TIME, read_one)


def async_workers(control: str, stream: str) -> None:
    """The same in one event loop."""

    async def read_one(number: int) -> None:
        async with AsyncWorker(f"{stream}-{number}", [stream], control) as worker:
            assert await worker.read(DEADLINE) is not None

    async def read_all() -> None:
        await asyncio.gather(*map(read_one, range(AT_A_TIME)))

    asyncio.run(read_all())


def publishers(inbox: str, stream: str) -> None:
    """Open so many publishers, publish a frame with each, and close them."""
    with ExitStack() as stack:
        for number in range(AT_A_TIME):
            stack.enter_context(Publisher(f"{stream}-{number}", inbox, shared_memory="on")).publish(bytes(5000))


@pytest.mark.parametrize("kind", [workers, async_workers, publishers], ids=lambda kind: kind.__name__)
def test_opening_and_closing_leaves_nothing_behind(
    running: Daemon, name: Callable[[str], str], kind: Callable[[str, str], None]
) -> None:
    stream, threads = name("cam"), len(os.listdir("/proc/self/task"))
    with Publisher(stream, running.inbox) as publisher:
        publisher.publish(b"x")

        def cycles(count: int) -> None:
            for _ in range(count // AT_A_TIME):
                kind(running.inbox if kind is publishers else running.control, stream)
            gc.collect()

        cycles(60)
        held, memory = descriptors(), rss()
        cycles(200)
        wait_for(lambda: descriptors() <= held, "the descriptors to be closed")
        assert rss() - memory < LEFT_BEHIND
    wait_for(lambda: len(os.listdir("/proc/self/task")) <= threads, "the threads to end")


def test_what_a_worker_reads_is_freed_with_its_frames(running: Daemon, name: Callable[[str], str]) -> None:
    stream, size = name("cam"), 1_000_000
    with (
        Publisher(stream, running.inbox, shared_memory="off") as publisher,
        Worker(name("worker"), [stream], running.control) as worker,
    ):
        for _ in range(20):
            round_trip(publisher, worker, bytes(size))
        memory = rss()
        for _ in range(60):
            round_trip(publisher, worker, bytes(size))
        assert rss() - memory < 10 * size

"""When the loop gives way to whoever wakes it. Each test has a thread of its own, whose scheduling is changed."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from supplierd_client import Publisher, Worker

from supplierd.daemon import precedence
from supplierd.daemon.precedence import INSISTS, LATE
from tests.client.playing import joined
from tests.support.daemon import Daemon
from tests.support.twins import both
from tests.support.waiting import DEADLINE, wait_for

every_module = pytest.mark.parametrize("module", both(precedence))

NORMAL: Final = os.SCHED_OTHER
GIVES_WAY: Final = os.SCHED_BATCH
LONG: Final = round(LATE * 1e6) + 1
"""Nanoseconds."""


class Loop:
    """A thread whose place is minded, and the kernel's account of it, which is written here."""

    def __init__(self, module: Any, account: Path, thread: ThreadPoolExecutor) -> None:
        self.account, self._thread = account, thread
        self.wait(0)
        self.precedence = module.Precedence(str(account))

    def run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return self._thread.submit(call, *arguments).result(10.0)

    def wait(self, nanoseconds: int) -> None:
        """The loop has waited for cores so long, altogether."""
        self.account.write_text(f"123456789 {nanoseconds} 42\n")

    def serve(self, deliveries: int, now: float = 100.0) -> int:
        """A frame; the thread's policy after it."""
        self.run(self.precedence.served, deliveries, now)
        return self.policy()

    def policy(self) -> int:
        policy: int = self.run(os.sched_getscheduler, 0)
        return policy


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture(params=both(precedence))
def loop(request: pytest.FixtureRequest, tmp_path: Path, thread: ThreadPoolExecutor) -> Iterator[Loop]:
    made = Loop(request.param, tmp_path / "schedstat", thread)
    yield made
    made.run(made.precedence.close)


def test_while_each_frame_goes_to_one_worker_it_gives_way(loop: Loop) -> None:
    assert loop.policy() == NORMAL
    assert loop.serve(0) == NORMAL, "nobody was waiting for that frame"
    for now in range(100):
        assert loop.serve(1, float(now)) == GIVES_WAY
        assert loop.serve(0, float(now)) == GIVES_WAY


def test_with_several_workers_it_insists(loop: Loop) -> None:
    loop.serve(1)
    assert loop.serve(2) == NORMAL
    assert loop.serve(1, 100.0 + INSISTS - 1) == NORMAL, "it does not go to and fro"
    assert loop.serve(1, 100.0 + INSISTS) == GIVES_WAY


def test_where_others_want_the_cores_it_insists(loop: Loop) -> None:
    loop.serve(1)
    loop.wait(LONG - 1)
    assert loop.serve(1) == GIVES_WAY
    loop.wait(LONG - 1 + LONG - 1)
    assert loop.serve(1) == GIVES_WAY, "what counts is from frame to frame"
    loop.wait(3 * LONG)
    assert loop.serve(1) == NORMAL
    assert loop.serve(1, 100.0 + INSISTS - 1) == NORMAL
    loop.wait(10 * LONG)
    assert loop.serve(1, 100.0 + INSISTS) == GIVES_WAY, "what it waited while it insisted is not held against it"
    assert loop.serve(1, 100.0 + INSISTS) == GIVES_WAY


@pytest.mark.parametrize("policy", [os.SCHED_BATCH, os.SCHED_IDLE])
def test_what_somebody_has_chosen_stays(loop: Loop, policy: int) -> None:
    loop.run(os.sched_setscheduler, 0, policy, os.sched_param(0))
    assert loop.serve(1) == policy
    assert loop.serve(2) == policy
    loop.run(loop.precedence.close)
    assert loop.policy() == policy


@pytest.mark.parametrize("text", ["", "0 0 0\n", "1 2\n", "a b c\n"])
def test_without_the_kernels_account_it_never_gives_way(loop: Loop, text: str) -> None:
    loop.account.write_text(text)
    assert loop.serve(1) == NORMAL
    loop.wait(0)
    assert loop.serve(1, 1e9) == NORMAL


def test_an_account_that_ends_ends_it(loop: Loop) -> None:
    assert loop.serve(1) == GIVES_WAY
    loop.account.write_text("")
    assert loop.serve(1) == NORMAL


@every_module
def test_a_missing_account_is_no_error(module: Any, thread: ThreadPoolExecutor) -> None:
    loop = module.Precedence("")
    thread.submit(loop.served, 1, 100.0).result(10.0)
    assert thread.submit(os.sched_getscheduler, 0).result(10.0) == NORMAL
    loop.close()


def test_where_it_is_not_permitted_nothing_changes(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    assert loop.serve(1) == NORMAL
    assert loop.serve(2) == NORMAL


def test_closed_it_leaves_the_thread_as_it_was_found(loop: Loop) -> None:
    loop.serve(1)
    loop.run(loop.precedence.close)
    assert loop.policy() == NORMAL
    assert loop.serve(1, 1e9) == NORMAL


@every_module
def test_it_reads_the_accounts_of_this_kernel(module: Any, thread: ThreadPoolExecutor) -> None:
    """Which of its own thread's, and whatever it says: no frame is lost by it."""
    loop = module.Precedence()
    for now in range(100):
        thread.submit(loop.served, 1, now * 1.0).result(10.0)
    assert thread.submit(os.sched_getscheduler, 0).result(10.0) in (NORMAL, GIVES_WAY)
    thread.submit(loop.close).result(10.0)
    assert thread.submit(os.sched_getscheduler, 0).result(10.0) == NORMAL


@pytest.mark.skipif(not Path(precedence.SCHEDSTAT).exists(), reason="this kernel keeps no account")
def test_a_daemon_gives_way_with_one_worker_and_not_with_two(daemon: Daemon) -> None:
    def serve(*workers: Worker) -> None:
        """Let the workers ask, and publish a frame."""
        for worker in workers:
            joined(worker, daemon)
        publisher.publish(np.zeros(10_000, np.uint8))

    def has(policy: int) -> bool:
        return os.sched_getscheduler(daemon.pid) == policy

    with Publisher("cam-1", daemon.inbox) as publisher, Worker("one", ["cam-1"], daemon.control) as one:
        serve(one)
        wait_for(lambda: has(GIVES_WAY), "the daemon to give way")
        assert one.read(DEADLINE) is not None
        with Worker("two", ["cam-1"], daemon.control) as two:
            assert two.read(DEADLINE) is not None, "the newest frame there is"
            serve(one, two)
            wait_for(lambda: has(NORMAL), "the daemon to go first")

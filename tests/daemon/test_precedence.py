"""When the loop gives way to whoever wakes it. Each test has a thread of its own, whose scheduling is changed."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from supplierd_client import Publisher, Worker

from supplierd.daemon import precedence
from supplierd.daemon.precedence import INSISTS, INSISTS_AT_MOST, LATE, OFTEN_LATE
from tests.client.playing import joined
from tests.support.daemon import Daemon
from tests.support.twins import both
from tests.support.waiting import DEADLINE, wait_for

every_module = pytest.mark.parametrize("module", both(precedence))

NORMAL: Final = os.SCHED_OTHER
GIVES_WAY: Final = os.SCHED_BATCH
LONG: Final = round(LATE * 1e6) + 1
"""Nanoseconds."""


def keeps_accounts() -> bool:
    """Whether the kernel does."""
    account = Path(precedence.SCHEDSTAT)
    return account.exists() and account.read_text().split()[-1] != "0"


class Loop:
    """A thread whose place is minded, and the kernel's account of it, which is written here."""

    def __init__(self, module: Any, account: Path, thread: ThreadPoolExecutor) -> None:
        self.account, self._thread, self.waited = account, thread, 0
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
        try:
            pool.submit(os.sched_setscheduler, 0, NORMAL, os.sched_param(0)).result(10.0)
        except PermissionError:
            pytest.skip("the tests run as idle ones, which may not change that")
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
        assert loop.serve(0, float(now)) == GIVES_WAY, "its worker is slow, and gets it later"


def test_with_several_workers_it_insists(loop: Loop) -> None:
    loop.serve(1)
    assert loop.serve(2) == NORMAL
    assert loop.serve(1, 100.0 + INSISTS - 1) == NORMAL, "it does not go to and fro"
    assert loop.serve(1, 100.0 + INSISTS) == GIVES_WAY


@pytest.mark.parametrize("deliveries", [0, 1])
def test_where_others_want_the_cores_it_insists(loop: Loop, deliveries: int) -> None:
    loop.serve(1)
    loop.wait(LONG - 1)
    assert loop.serve(deliveries) == GIVES_WAY
    loop.wait(LONG - 1 + LONG - 1)
    assert loop.serve(deliveries) == GIVES_WAY, "what counts is from frame to frame"
    loop.wait(2 * (LONG - 1) + LONG)
    assert loop.serve(deliveries) == NORMAL
    assert loop.serve(1, 100.0 + INSISTS - 1) == NORMAL
    loop.wait(10 * LONG)
    assert loop.serve(1, 100.0 + INSISTS) == GIVES_WAY, "what it waited while it insisted is not held against it"
    assert loop.serve(1, 100.0 + INSISTS) == GIVES_WAY


def test_where_wakers_have_more_to_do_it_insists(loop: Loop) -> None:
    def frames(late: float) -> int:
        """How many frames it gives way, each of which it waits for so many milliseconds; at most 100."""
        loop.serve(1, now)
        for count in range(100):
            loop.waited += round(late * 1e6)
            loop.wait(loop.waited)
            if loop.serve(1, now) == NORMAL:
                return count
        return 100

    now = 100.0
    assert 1 < frames(2 * OFTEN_LATE) < 16
    now += INSISTS
    assert frames(0.99 * OFTEN_LATE) == 100


def test_the_longer_others_want_the_cores_the_rarer_it_tries(loop: Loop) -> None:
    def insists_for(now: float) -> float:
        """How long, after it had to wait at a time."""
        assert loop.serve(1, now) == GIVES_WAY
        loop.waited += 2 * LONG
        loop.wait(loop.waited)
        assert loop.serve(1, now) == NORMAL
        return next(seconds for seconds in range(1000) if loop.serve(1, now + seconds) == GIVES_WAY)

    now, pauses = 100.0, []
    for _ in range(7):
        pauses.append(insists_for(now))
        now += pauses[-1]
    assert pauses == [INSISTS, 2 * INSISTS, 4 * INSISTS, 8 * INSISTS, *[INSISTS_AT_MOST] * 3]
    assert insists_for(now + INSISTS_AT_MOST) == INSISTS, "it went well for as long"


@pytest.mark.parametrize("policy", [os.SCHED_BATCH, os.SCHED_IDLE])
def test_what_somebody_has_chosen_stays(loop: Loop, policy: int) -> None:
    loop.run(os.sched_setscheduler, 0, policy, os.sched_param(0))
    assert loop.serve(1) == policy
    assert loop.serve(2) == policy
    loop.run(loop.precedence.close)
    assert loop.policy() == policy


def test_what_somebody_chooses_while_it_gives_way_stays(loop: Loop) -> None:
    loop.serve(1)
    loop.run(os.sched_setscheduler, 0, os.SCHED_IDLE, os.sched_param(0))
    assert loop.serve(2) == os.SCHED_IDLE
    assert loop.serve(1, 1e9) == os.SCHED_IDLE
    loop.run(loop.precedence.close)
    assert loop.policy() == os.SCHED_IDLE


@pytest.mark.parametrize("text", ["", "0 0 0\n", "1 2\n", "a b c\n"])
def test_without_the_kernels_account_it_does_not_give_way(loop: Loop, text: str) -> None:
    loop.account.write_text(text)
    assert loop.serve(1) == NORMAL
    loop.wait(0)
    assert loop.serve(1, 100.0 + INSISTS - 1) == NORMAL
    assert loop.serve(1, 100.0 + INSISTS) == GIVES_WAY


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
def test_the_account_is_that_of_the_loops_own_thread(module: Any, thread: ThreadPoolExecutor) -> None:
    def accounts() -> list[str]:
        """Those that are open."""
        links = []
        for path in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):  # the folder's own descriptor
                links.append(os.readlink(path))
        return [link for link in links if link.endswith("/schedstat")]

    loop = module.Precedence()
    thread.submit(loop.served, 1, 100.0).result(10.0)
    own = thread.submit(threading.get_native_id).result(10.0)
    assert accounts() == [f"/proc/{os.getpid()}/task/{own}/schedstat"]
    thread.submit(loop.close).result(10.0)
    assert not accounts()


@pytest.mark.skipif(not keeps_accounts(), reason="this kernel keeps no account")
@pytest.mark.skipif(os.sched_getscheduler(0) != NORMAL, reason="the daemon would have the policy of the tests")
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

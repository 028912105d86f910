"""The context, the options that every socket has, and the count of those who never shook hands."""

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import zmq

from supplierd.transport import sockets
from supplierd.transport.monitor import Monitor, NoAnswerError
from supplierd.transport.sockets import Context, Socket, StrangerCount, Waiter, open_socket
from supplierd.wire.endpoints import ipc
from tests.support.peers import ZMTP_1, Background, plain, raw_connection
from tests.support.waiting import DEADLINE, wait_for


def test_every_socket_is_defused(context: Context) -> None:
    for kind in (zmq.PULL, zmq.PUSH, zmq.ROUTER):
        with open_socket(context, kind, 1000) as opened:
            assert opened.get(zmq.LINGER) == 0
            assert opened.get(zmq.MAXMSGSIZE) == 1000
            assert 0 < int(opened.get(zmq.HANDSHAKE_IVL)) <= 5000
            assert opened.get_string(zmq.ZAP_DOMAIN).rstrip("\0") == sockets.ZAP_DOMAIN.decode()


@pytest.mark.parametrize(("workers", "cores", "threads"), [(1, 8, 1), (8, 8, 1), (9, 8, 2), (64, 4, 4), (64, 16, 8)])
def test_one_io_thread_for_each_eight_workers(
    monkeypatch: pytest.MonkeyPatch, workers: int, cores: int, threads: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert sockets.io_threads(workers) == threads


def test_the_limit_of_open_files_is_raised_to_the_hard_one() -> None:
    """Out of descriptors, libzmq's ipc listener aborts the process."""
    program = """
import resource
from supplierd.transport.sockets import raise_descriptor_limit
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
print(raise_descriptor_limit() == hard, resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "True"]
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 64


def test_names_of_a_routers_peers_cannot_be_known() -> None:
    """Whoever gives itself the name that another peer is to get makes libzmq abort."""
    program = """
import zmq
from supplierd.transport.sockets import make_context
with make_context(1) as context, context.socket(zmq.ROUTER) as router, context.socket(zmq.DEALER) as peer:
    router.bind("inproc://router")
    peer.connect("inproc://router")
    peer.send(b"")
    print(router.recv().hex())
"""
    done = [subprocess.run([sys.executable, "-c", program], check=True, capture_output=True) for _ in range(3)]
    assert len({each.stdout for each in done}) == 3


# --- strangers ---


@pytest.fixture
def listener(context: Context, home: Path) -> Iterator[Socket]:
    with open_socket(context, zmq.PULL, 1000) as opened:
        opened.bind(ipc(home / "listener.sock"))
        yield opened


@pytest.fixture
def strangers(listener: Socket) -> Iterator[StrangerCount]:
    counter = StrangerCount(listener)
    yield counter
    counter.close()


@pytest.fixture
def endpoint(listener: Socket) -> str:
    return listener.get_string(zmq.LAST_ENDPOINT)


def wait_count(strangers: StrangerCount, count: int) -> None:
    seen = 0

    def enough() -> bool:
        nonlocal seen
        seen += strangers.take()
        return seen >= count

    wait_for(enough, f"{count} strangers")
    assert seen == count


def test_who_shakes_hands_is_no_stranger(strangers: StrangerCount, listener: Socket, endpoint: str) -> None:
    for _ in range(3):
        with plain(zmq.PUSH, endpoint) as peer:
            peer.send(b"x")
            wait_for(lambda: listener.poll(0), "the message")
            listener.recv()
    with raw_connection(endpoint):
        pass
    wait_count(strangers, 1)  # the connection after them all; none of them was counted before it


@pytest.mark.parametrize("first_words", [b"", b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096), ZMTP_1, b"\xff" * 100])
def test_bytes_that_are_no_handshake_are_counted(strangers: StrangerCount, endpoint: str, first_words: bytes) -> None:
    with raw_connection(endpoint) as stranger, suppress(OSError):  # it may be shown the door while still talking
        stranger.sendall(first_words)
    wait_count(strangers, 1)


def test_a_socket_of_the_wrong_type_is_a_stranger(strangers: StrangerCount, endpoint: str) -> None:
    with plain(zmq.DEALER, endpoint, reconnect_ivl=60_000) as wrong:
        wrong.send(b"x", zmq.NOBLOCK)
        wait_count(strangers, 1)


def test_counting_ends_though_thousands_of_events_are_unread(listener: Socket, endpoint: str) -> None:
    """At the 2001st libzmq's thread would wait, and the end of the counting for it."""
    counter = StrangerCount(listener)

    def come_and_go() -> None:
        for _ in range(1500):
            with raw_connection(endpoint):
                pass
        counter.close()

    waiting = threading.Thread(target=come_and_go, daemon=True)
    waiting.start()
    waiting.join(DEADLINE)
    assert not waiting.is_alive()


def test_many_strangers_at_once_are_all_counted_and_nobody_waits(strangers: StrangerCount, endpoint: str) -> None:
    for _ in range(300):
        with raw_connection(endpoint):
            pass
    wait_count(strangers, 300)


def test_peers_that_come_and_go_at_once_do_not_change_the_sum(
    strangers: StrangerCount, listener: Socket, endpoint: str
) -> None:
    """Which connection shook hands is a guess, and the I/O threads' words come out of order; the sum is right all the
    same, but for the guesses that are open at the end."""
    known, unknown = 100, 100

    def come_and_go() -> None:
        with plain(zmq.PUSH, endpoint, immediate=1) as peer:
            assert peer.poll(5000, zmq.POLLOUT)

    def knock() -> None:
        with raw_connection(endpoint):
            pass

    counted = 0
    with Background(come_and_go, limit=known) as one, Background(knock, limit=unknown) as other:
        while not (one.done and other.done):
            counted += strangers.take()

    def settled() -> bool:
        nonlocal counted
        counted += strangers.take()
        return abs(counted - unknown) <= 2

    wait_for(settled, "the last events")


# --- the monitor ---


def test_no_daemon_is_an_error_that_says_where(home: Path) -> None:
    monitor = Monitor(ipc(home / "control.sock"))
    for _ in range(2):
        with pytest.raises(NoAnswerError, match=r"no daemon answered on ipc://.*control\.sock within 0\.05 s"):
            monitor.snapshot(0.05)
    monitor.close()


# --- waiting ---


def took(waiter: Waiter, ready: set[Socket | int]) -> float:
    began = time.monotonic()
    waiter.gather(ready, 10_000)
    return time.monotonic() - began


def test_while_patient_sources_wait_an_urgent_one_is_heard_at_once() -> None:
    patient, urgent = os.eventfd(1), os.eventfd(0)
    try:
        waiter = Waiter()
        waiter.add(patient, patient=True)
        waiter.add(urgent)
        waiter.wait(0)  # both were new
        ready = waiter.wait(10)
        assert ready == {patient}
        before = set(ready)
        waiter.gather(ready, 0)
        assert ready == before  # nothing else came
        os.eventfd_write(urgent, 1)
        assert took(waiter, ready) < 5
        assert ready == {patient, urgent}
        assert took(waiter, {urgent}) < 5  # it does not wait with an urgent one in hand
        assert took(waiter, set()) < 5  # nor for nothing
        waiter.remove(patient)
        waiter.remove(urgent)
        assert waiter.wait(0) == set()
    finally:
        os.close(patient)
        os.close(urgent)

"""The publisher never waits, numbers its frames without a gap, and lives with daemons that come, go and hang."""

import copy
import gc
import itertools
import os
import pickle
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from supplierd_client import Publisher, Worker

from tests.client.conftest import WITHOUT_METRICS
from tests.client.playing import in_threads, round_trip, took
from tests.support.daemon import Daemon
from tests.support.waiting import DEADLINE, wait_for

AT_ONCE = 0.5
"""Seconds: far less than any time-out, far more than a busy machine takes for one call."""


def test_threads_may_publish_together(running: Daemon, name: Callable[[str], str]) -> None:
    stream = name("cam")
    with Publisher(stream, running.inbox) as publisher, Worker(name("worker"), [stream], running.control) as worker:
        given: list[int] = []
        in_threads(4, lambda: given.extend([publisher.publish(b"x") for _ in range(250)]))
        assert sorted(given) == list(range(1, 1001)), "each frame has a number of its own, and none is left out"
        assert publisher.published == 1000
        round_trip(publisher, worker, b"last")
        found = running.stream(stream)
        assert found is not None
        assert found.published == 1001 - publisher.unsent + found.dropped["disconnected"]
        assert found.published == found.received + sum(found.dropped.values())


def test_numbers_rise_in_the_order_of_publishing(running: Daemon, name: Callable[[str], str]) -> None:
    with Publisher(name("cam"), running.inbox) as publisher:
        together = threading.Lock()
        order: list[int] = []

        def publish() -> None:
            for _ in range(100):
                with together:
                    order.append(publisher.publish(b"x"))

        in_threads(3, publish)
        assert order == list(range(1, 301))


def test_without_a_daemon_frames_are_counted_and_nobody_waits(home: Path) -> None:
    with Publisher("cam-1", runtime_dir=home) as publisher:
        assert not publisher.connected
        for seq in range(1, 51):
            assert took(lambda: publisher.publish(np.zeros(100_000, np.uint8))) < AT_ONCE
            assert publisher.published == publisher.unsent == seq
        began = time.monotonic()
    assert time.monotonic() - began < AT_ONCE


def test_a_daemon_that_hangs_is_not_waited_for(running: Daemon, name: Callable[[str], str]) -> None:
    with Publisher(name("cam"), running.inbox) as publisher:
        publisher.publish(b"x")
        running.freeze()
        try:
            for size in (10, 10_000, 1_000_000) * 20:
                assert took(lambda size=size: publisher.publish(bytes(size))) < AT_ONCE  # type: ignore[misc]
            assert took(publisher.close) < AT_ONCE
        finally:
            running.thaw()


@pytest.mark.parametrize("as_array", [False, True])
def test_a_daemon_that_comes_late_gets_the_frames_from_then_on(daemons: Callable[..., Daemon], as_array: bool) -> None:
    def payload(content: bytes) -> Any:
        return np.frombuffer(content, np.uint8) if as_array else content

    daemon = daemons(WITHOUT_METRICS)
    with Publisher("cam-1", daemon.inbox) as publisher, Worker("worker", ["cam-1"], daemon.control) as worker:
        publisher.publish(payload(b"lost"))
        assert worker.read(0.0) is None
        daemon.start()
        wait_for(lambda: publisher.connected, "the publisher to connect")
        assert bytes(round_trip(publisher, worker, payload(b"seen")).data) == b"seen"
        found = daemon.stream("cam-1")
        assert found is not None
        assert (found.published, found.received, found.dropped["disconnected"]) == (2, 1, 1)


def test_the_last_frame_before_closing_arrives(running: Daemon, name: Callable[[str], str]) -> None:
    for _ in range(3):
        stream = name("cam")
        with Worker(name("worker"), [stream], running.control) as worker:
            with Publisher(stream, running.inbox) as publisher:
                publisher.publish(b"first and last")
            frame = worker.read(DEADLINE)
            assert frame is not None
            assert bytes(frame.data) == b"first and last"


def test_a_later_run_supersedes_an_earlier_one(running: Daemon, name: Callable[[str], str]) -> None:
    stream = name("cam")
    with Worker(name("worker"), [stream], running.control) as worker, Publisher(stream, running.inbox) as earlier:
        first = round_trip(earlier, worker, b"1")
        with Publisher(stream, running.inbox) as later:
            second = round_trip(later, worker, b"2")
            assert second.epoch > first.epoch
            refused = running.rejected("old_epoch")
            earlier.publish(b"of a ghost")
            running.wait_for_rejected("old_epoch", refused + 1)
            assert bytes(round_trip(later, worker, b"3").data) == b"3"


def test_closing_may_be_repeated_and_ends_publishing(running: Daemon, name: Callable[[str], str]) -> None:
    publisher = Publisher(name("cam"), running.inbox)
    assert publisher.connected
    publisher.close()
    publisher.close()
    assert not publisher.connected
    with pytest.raises(ValueError, match="is closed"):
        publisher.publish(b"x")
    with pytest.raises(ValueError, match="is closed"):
        publisher.loan((2, 2))


def test_closing_while_others_publish_leaves_them_an_error_and_no_crash(
    running: Daemon, name: Callable[[str], str]
) -> None:
    publisher = Publisher(name("cam"), running.inbox)
    enough = itertools.count()

    def publish() -> None:
        for _ in range(1000):
            publisher.publish(b"x" * 1000)
            if next(enough) == 200:
                publisher.close()

    def publish_until_closed() -> None:
        with pytest.raises(ValueError, match="is closed"):
            publish()

    in_threads(3, publish_until_closed)


def test_one_that_is_forgotten_is_closed(running: Daemon, name: Callable[[str], str]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    publisher = Publisher(name("cam"), running.inbox)
    assert len(os.listdir("/proc/self/fd")) > before
    del publisher
    gc.collect()
    wait_for(lambda: len(os.listdir("/proc/self/fd")) <= before, "the descriptors to be closed")


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a name with a space": ({"stream": "my cam"}, "use 1 to 64 of A-Z"),
    "no name": ({"stream": ""}, "use 1 to 64 of A-Z"),
    "a number as name": ({"stream": 1}, "use 1 to 64 of A-Z"),
    "a long name": ({"stream": "x" * 65}, "use 1 to 64 of A-Z"),
    "no transport": ({"inbox": "localhost:5601"}, "tcp://host:port"),
    "no such port": ({"inbox": "tcp://localhost:99999"}, "a number from 1 to 65535"),
    "another transport": ({"inbox": "inproc://inbox"}, "tcp://host:port"),
    "no port": ({"inbox": "tcp://localhost"}, "tcp://host:port"),
    "a long path": ({"inbox": "ipc:///" + "x" * 200}, "cannot be used"),
    "a relative directory": ({"runtime_dir": "run"}, "begin it with /"),
    "a deep directory": ({"runtime_dir": "/" + "x" * 100}, "shorter runtime directory"),
    "a wrong lane": ({"shared_memory": "maybe"}, '"auto", "on" or "off"'),
    "too few slots": ({"arena_slots": 1}, "slots"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_arguments_are_refused_with_what_is_allowed(what: str, home: Path) -> None:
    arguments, words = BAD[what]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=words):
            Publisher(**{"stream": "cam-1", "runtime_dir": home, **arguments})
        gc.collect()


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_it_cannot_be_copied(home: Path, copied: Callable[[object], object]) -> None:
    with Publisher("cam-1", runtime_dir=home) as publisher, Worker("w", ["cam-1"], runtime_dir=home) as worker:
        for alone in (publisher, worker):
            with pytest.raises(TypeError, match="cannot be copied or pickled: make a"):
                copied(alone)
        assert publisher.publish(b"x") == 1

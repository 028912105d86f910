"""A frame in shared memory as its worker sees it: a read-only view that cannot change while anybody can see it."""

import signal
from collections.abc import Callable, Iterator
from mmap import mmap
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from supplierd_client import LoanError, Publisher, Worker

from supplierd.arena.holding import Hold
from tests.e2e.lane import LaneActor, exchange, inline, leases, publish, read
from tests.e2e.lane_parts import SIZE, is_whole, place
from tests.support.daemon import AGAIN_AFTER, Daemon, assert_adds_up
from tests.support.waiting import wait_for

Lane = Callable[..., LaneActor]


@pytest.fixture
def publisher(daemon: Daemon) -> Iterator[Publisher]:
    with Publisher("cam-1", daemon.inbox) as publisher:
        yield publisher


@pytest.fixture
def worker(daemon: Daemon) -> Iterator[Worker]:
    with Worker("detector", ["cam-1"], daemon.control) as worker:
        yield worker


def root(array: npt.NDArray[Any]) -> object:
    """The object to which the memory of an array belongs."""
    base: Any = array
    while getattr(base, "base", None) is not None:
        base = base.base
    return base


def test_a_frame_is_a_read_only_view_of_what_was_published(publisher: Publisher, worker: Worker) -> None:
    picture = np.arange(120 * 160 * 3, dtype=np.uint16).reshape(120, 160, 3)
    publisher.publish(picture, metadata={"exposure": 3})
    frame = read(worker)
    assert frame.array.dtype == picture.dtype
    np.testing.assert_array_equal(frame.array, picture)
    assert (frame.seq, frame.metadata) == (1, {"exposure": 3})
    assert not frame.array.flags.owndata
    assert isinstance(root(frame.array), mmap | Hold)
    assert isinstance(root(frame.array[10:20, ::2]), mmap | Hold)
    assert place(frame.array)
    with pytest.raises(ValueError, match="read-only"):
        frame.array[0, 0, 0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        frame.array.flags.writeable = True
    with pytest.raises(ValueError, match="WRITEABLE"):
        frame.array.setflags(write=True)
    with pytest.raises(TypeError, match="read-only"):
        frame.data[0] = 1
    assert frame.array.data.readonly
    np.testing.assert_array_equal(frame.array, picture)


def test_every_worker_sees_the_same_memory(daemon: Daemon, publisher: Publisher, worker: Worker, lane: Lane) -> None:
    other = lane("watch", control=daemon.control, name="other")
    daemon.wait_for_state("other", "waiting", "starved")
    frame = exchange(publisher, worker)
    seen = wait_for(lambda: other.frames, "the other's frame")[0]
    assert (seen["seq"], seen["whole"]) == (frame.seq, True)
    assert tuple(seen["place"]) == place(frame.array)


def test_a_kept_frame_stays_while_500_more_come(daemon: Daemon, publisher: Publisher, worker: Worker) -> None:
    kept = exchange(publisher, worker)
    for _ in range(50):
        for _ in range(10):
            publish(publisher)
        assert is_whole(read(worker))
        assert is_whole(kept)
    assert publisher.published == 501
    assert not inline(daemon)
    exchange(publisher, worker)
    wait_for(lambda: leases(daemon, "detector") == 1, "the kept frame to be told")
    assert_adds_up(daemon.snapshot())


@pytest.mark.parametrize("view", ["array", "slice", "memoryview"])
def test_the_lease_lasts_as_long_as_any_view(daemon: Daemon, publisher: Publisher, worker: Worker, view: str) -> None:
    frame = exchange(publisher, worker)
    content = frame.seq % 256
    kept: Any = {"array": frame.array, "slice": frame.array[5:10], "memoryview": frame.data[5:10]}[view]
    frame.release()
    assert frame.array.size == len(frame.data) == 0
    del frame
    for _ in range(20):
        exchange(publisher, worker)
    wait_for(lambda: leases(daemon, "detector") == 1, "the view to be told")
    assert set(bytes(kept)) == {content}
    del kept
    exchange(publisher, worker)
    exchange(publisher, worker)
    wait_for(lambda: leases(daemon, "detector") == 0, "the view's end to be told")


def test_release_frees_the_slot_at_once(daemon: Daemon, worker: Worker) -> None:
    with Publisher("cam-1", daemon.inbox, arena_slots=5) as publisher:
        frames = [exchange(publisher, worker) for _ in range(2)]
        for _ in range(3):
            exchange(publisher, worker)  # 2 held, 3 newer ones spared: no slot is left
        freed = place(frames[0].array)
        assert place(publisher.loan((SIZE,)).array) is None
        frames[0].release()
        assert place(publisher.loan((SIZE,)).array) == freed


def test_a_loan_is_published_where_it_was_filled(publisher: Publisher, worker: Worker) -> None:
    loan = publisher.loan((100, 1000), np.uint8)
    array = loan.array
    where = place(array)
    array[:] = 1
    publisher.publish(loan)
    with pytest.raises(ValueError, match="read-only"):
        array[:] = 2
    frame = read(worker)
    assert where is not None
    assert place(frame.array) == where
    assert frame.array.shape == (100, 1000)
    assert is_whole(frame)
    with pytest.raises(LoanError, match="take another one"):
        _ = loan.array
    with pytest.raises(LoanError, match="take another one"):
        publisher.publish(loan)


def test_an_abandoned_loan_frees_its_slot(daemon: Daemon, worker: Worker) -> None:
    with Publisher("cam-1", daemon.inbox, arena_slots=4) as publisher:
        loans = [publisher.loan((SIZE,)) for _ in range(5)]
        assert [place(loan.array) is not None for loan in loans] == [True, True, True, True, False]
        loans.pop(1).release()
        assert place(publisher.loan((SIZE,)).array), "a loan that is forgotten at once"
        assert place(publisher.loan((SIZE,)).array)
        private = loans.pop()
        private.array[:] = 1
        publisher.publish(private)
        frame = worker.read(AGAIN_AFTER) or exchange(publisher, worker)
        assert is_whole(frame)
        assert place(frame.array) is None
        assert inline(daemon) == {"no_slot": 1}


def test_native_code_that_writes_dies_alone(daemon: Daemon, publisher: Publisher, worker: Worker, lane: Lane) -> None:
    careless = lane("poke", control=daemon.control)
    wait_for(lambda: daemon.worker("careless"), "it to join")
    frame = exchange(publisher, worker)
    assert careless.process.wait(15) == -signal.SIGSEGV
    (word,) = careless.words
    assert (word["seq"], tuple(word["place"])) == (frame.seq, place(frame.array))
    assert is_whole(frame)
    assert is_whole(exchange(publisher, worker))
    assert_adds_up(daemon.snapshot())

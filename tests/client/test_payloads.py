"""What is published is what arrives: every number type and layout, in shared memory and inline; and what is refused."""

import datetime
import itertools
import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from supplierd_client import Frame, Publisher, Worker

from tests.client.playing import round_trip
from tests.support.daemon import Daemon
from tests.support.waiting import wait_for

DTYPES = ("|u1", "|i1", "|b1", "<u2", ">u2", "<i4", ">i8", "<f2", "<f4", ">f4", "<f8", ">f8", "<c8", ">c16", "<f16")
SIZES = (3, 1000, 20000)
"""Elements: one message in ZeroMQ's own buffer, one among others, and one with a buffer of its own."""

LANES: list[Any] = [pytest.param("off", id="inline"), pytest.param("on", id="shared")]
NUMBERS = itertools.count(1)
Pair = tuple[Publisher, Worker]


@contextmanager
def made(running: Daemon, lane: Any) -> Iterator[Pair]:
    stream = f"cam-{lane}-{next(NUMBERS)}"
    with (
        Publisher(stream, running.inbox, shared_memory=lane) as publisher,
        Worker(stream, [stream], running.control) as worker,
    ):
        yield publisher, worker


@pytest.fixture(scope="module", params=LANES)
def pair(request: pytest.FixtureRequest, running: Daemon) -> Iterator[Pair]:
    """A publisher and its worker, over messages and over shared memory, for all tests here."""
    with made(running, request.param) as pair:
        yield pair


@pytest.fixture(params=LANES)
def own_pair(request: pytest.FixtureRequest, running: Daemon) -> Iterator[Pair]:
    """The same for one test, that ends it."""
    with made(running, request.param) as pair:
        yield pair


def assert_read_only(frame: Frame) -> None:
    array: Any = frame.array
    with pytest.raises(ValueError, match="read-only"):
        array[...] = 0
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.setflags(write=True)
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.view(np.uint8).flags.writeable = True
    assert frame.data.readonly
    with pytest.raises(TypeError):
        frame.data[0] = 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_of_every_number_type(pair: Pair, dtype: str) -> None:
    for size in SIZES:
        sent = (np.arange(size) % 100).astype(dtype)
        frame = round_trip(*pair, sent)
        assert frame.array.dtype == np.dtype(dtype)
        assert np.array_equal(frame.array, sent)
        assert frame.array.ctypes.data % min(sent.itemsize, 8) == 0, "not aligned"
        assert bytes(frame.data) == sent.tobytes()
        assert frame.encoding == "raw"
        assert_read_only(frame)


PICTURE = np.arange(4 * 6 * 3, dtype=np.uint16).reshape(4, 6, 3)
LAYOUTS: dict[str, np.ndarray[Any, Any]] = {
    "picture": PICTURE,
    "Fortran order": np.asfortranarray(PICTURE),
    "every other pixel": PICTURE[:, ::2],
    "mirrored": PICTURE[:, ::-1],
    "colours first": PICTURE.transpose(2, 0, 1),
    "broadcast": np.broadcast_to(np.uint8(7), (5, 4)),
    "read-only": np.frombuffer(b"0123456789", np.uint8),
    "a scalar's array": np.array([5.0]),
    "eight dimensions": np.zeros((1, 2, 1, 2, 1, 2, 1, 2), np.uint8),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_of_every_layout(pair: Pair, layout: str) -> None:
    sent = LAYOUTS[layout]
    array = round_trip(*pair, sent).array
    assert array.shape == sent.shape
    assert array.dtype == sent.dtype
    assert np.array_equal(array, sent)
    assert array.flags.c_contiguous


@pytest.mark.parametrize("payload", [b"pixels", bytearray(b"pixels"), memoryview(b"pixels"), PICTURE.data])
@pytest.mark.parametrize("encoding", [None, "jpeg"])
def test_bytes_with_and_without_an_encoding(pair: Pair, payload: Any, encoding: str | None) -> None:
    frame = round_trip(*pair, payload, encoding=encoding)
    assert frame.encoding == (encoding or "bytes")
    assert bytes(frame.data) == bytes(payload)
    assert frame.array.dtype == np.uint8
    assert frame.array.ndim == 1
    assert_read_only(frame)


def test_an_array_of_encoded_bytes(pair: Pair) -> None:
    encoded = np.frombuffer(b"\xff\xd8 jpeg", np.uint8)
    frame = round_trip(*pair, encoded, encoding="jpeg")
    assert frame.encoding == "jpeg"
    assert np.array_equal(frame.array, encoded)


def test_frames_of_one_shape_do_not_pass_for_one_another(pair: Pair) -> None:
    """A publisher knows an array again by dtype and shape: all else about it is that frame's own."""
    array = np.frombuffer(b"abcdefgh", np.uint8)
    swapped = array.view("<u2").astype(">u2")
    kinds: list[tuple[Any, str | None, dict[str, int]]] = [
        (array, None, {}), (b"abcdefgh", None, {}), (array, None, {}), (array, "jpeg", {}), (b"abcdefgh", "jpeg", {}),
        (array, None, {"n": 1}), (array, None, {}), (array.view(np.int8), None, {}), (array.reshape(2, 4), None, {}),
        (array.view("<u2"), None, {}), (swapped, None, {}), (swapped.copy(), None, {}), (array[::-1], None, {}),
        (array, "raw", {}), (b"ijklmnop", None, {"n": 2}), (array, None, {}),
    ]  # fmt: skip
    for payload, encoding, metadata in kinds:
        frame = round_trip(*pair, payload, encoding=encoding, metadata=metadata)
        plain = isinstance(payload, bytes)
        sent = np.frombuffer(payload, np.uint8) if plain else np.asarray(payload)
        assert frame.encoding == (encoding or ("bytes" if plain else "raw"))
        assert frame.metadata == metadata
        assert frame.array.dtype == sent.dtype
        assert frame.array.shape == sent.shape
        assert bytes(frame.data) == sent.tobytes()


def test_the_caller_may_go_on_writing_to_what_it_published(pair: Pair) -> None:
    publisher, worker = pair
    array = np.full(300_000, 1, np.uint8)
    publisher.publish(array)
    array[:] = 2
    frame = worker.read(5)
    assert frame is not None
    assert (frame.array == 1).all()


def test_metadata_and_times_travel(pair: Pair) -> None:
    metadata = {
        "exposure": 0.01,
        "tags": ["a", "b"],
        "gps": {"lat": 1.5},
        "ok": True,
        "none": None,
        "raw": b"\0",
        "ä": -1,
    }
    captured_at = time.time() - 0.25
    frame = round_trip(*pair, b"x", captured_at=captured_at, metadata=metadata)
    assert frame.metadata == metadata
    assert frame.captured_at == pytest.approx(captured_at, abs=1e-6)
    assert 0.25 <= frame.age < 5
    assert frame.same_clock
    frame = round_trip(*pair, b"x")
    assert frame.metadata == {}
    assert 0 <= frame.age < 5
    assert abs(frame.captured_at - time.time()) < 5


@pytest.mark.parametrize(
    "payload", [np.zeros((100, 100), np.uint8), bytes(10_000), b"small"], ids=["array", "bytes", "small"]
)
def test_metadata_that_stays_or_changes_travels_with_its_own_frame(pair: Pair, payload: Any) -> None:
    boxes = [[1, 2]]
    for metadata in [{"boxes": boxes, "n": 1}] * 5 + [{"n": n} for n in range(70)] + [None, {"boxes": boxes}, {}, None]:
        frame = round_trip(*pair, payload, metadata=metadata)
        assert frame.metadata == (metadata or {})
    for number in range(5):
        boxes.append([number])
        assert round_trip(*pair, payload, metadata={"boxes": boxes}).metadata["boxes"] == boxes


@pytest.mark.parametrize("payload", [np.zeros((100, 100), np.uint8), b"small"], ids=["slot", "inline"])
def test_metadata_that_looks_the_same_is_not_taken_from_a_map_of_the_users(pair: Pair, payload: Any) -> None:
    """Two maps used in turns: one of them is being filled while the other is published."""
    maps: list[dict[str, Any]] = [{"roi": [0, 0, 10, 10]}, {"roi": [0, 0, 10, 10]}]
    round_trip(*pair, payload, metadata=maps[0])
    for unfit in (77, object()):
        maps[0]["roi"][0] = unfit
        assert round_trip(*pair, payload, metadata=maps[1]).metadata == {"roi": [0, 0, 10, 10]}


def test_who_changes_a_frames_metadata_changes_no_other_frames(pair: Pair) -> None:
    picture = np.zeros((100, 100), np.uint8)
    for _ in range(5):
        frame = round_trip(*pair, picture, metadata={"boxes": [[1, 2]], "n": 1})
        assert frame.metadata == {"boxes": [[1, 2]], "n": 1}
        own: Any = frame.metadata
        own["boxes"][0].append(3)
        own["seen"] = True
        assert frame.metadata == {"boxes": [[1, 2, 3]], "n": 1, "seen": True}
        assert pickle.loads(pickle.dumps(frame)).metadata == frame.metadata


def test_a_capture_time_in_the_future_is_passed_on(pair: Pair) -> None:
    assert round_trip(*pair, b"x", captured_at=time.time() + 100).age < -90


def test_a_frame_says_what_it_is(pair: Pair) -> None:
    publisher, worker = pair
    frame = round_trip(publisher, worker, np.zeros((2, 3), np.float32))
    assert frame.stream == publisher.stream
    assert frame.epoch == publisher.epoch
    assert repr(frame).startswith(f"<Frame {publisher.stream} {frame.seq}: raw 2×3 float32, ")
    assert repr(frame).endswith(" ms old>")


def test_a_frame_outlives_its_worker_and_its_publisher(own_pair: Pair) -> None:
    publisher, worker = own_pair
    frame = round_trip(publisher, worker, np.full(100_000, 7, np.uint8))
    part, data = frame.array[10:20], frame.data
    worker.close()
    publisher.close()
    assert (frame.array == 7).all()
    del frame
    assert (part == 7).all()
    assert data[-1] == 7


def test_later_frames_do_not_change_one_that_is_kept(pair: Pair) -> None:
    kept = [round_trip(*pair, np.full(50_000, value, np.uint8)) for value in range(20)]
    assert all((frame.array == value).all() for value, frame in enumerate(kept))


def test_a_frame_can_be_sent_to_another_process(pair: Pair) -> None:
    frame = round_trip(*pair, np.arange(24, dtype=np.float32).reshape(4, 6))
    copied = pickle.loads(pickle.dumps(frame))
    assert (copied.array == frame.array).all()
    assert not copied.array.flags.writeable
    for name in ("stream", "seq", "epoch", "encoding", "captured_at", "age", "same_clock", "metadata"):
        assert getattr(copied, name) == getattr(frame, name)


def test_a_released_frame_is_empty_and_what_was_taken_of_it_stays(pair: Pair) -> None:
    frame = round_trip(*pair, np.full(50_000, 7, np.uint8))
    part = frame.array[:10]
    frame.release()
    frame.release()
    assert frame.array.size == len(frame.data) == 0
    assert (part == 7).all()
    assert frame.seq == pair[0].published


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no dimensions": (np.array(5.0), {}, "0 dimensions"),
    "an empty array": (np.zeros((0, 3)), {}, "empty payload"),
    "no bytes": (b"", {}, "empty payload"),
    "a structured array": (np.zeros(3, [("x", "u1")]), {}, "plain numbers"),
    "objects": (np.array([None]), {}, "plain numbers"),
    "text": (np.array(["a"]), {}, "plain numbers"),
    "times": (np.array(["2020-01-01"], "M8[D]"), {}, "plain numbers"),
    "nine dimensions": (np.zeros((1,) * 9), {}, "9 dimensions"),
    "a long encoding": (b"x", {"encoding": "x" * 33}, "1 to 32 printable"),
    "an encoding with a line break": (b"x", {"encoding": "a\nb"}, "1 to 32 printable"),
    "a masked array": (np.ma.masked_greater(np.zeros(3), 1), {}, "its mask would be lost"),
    "a record with a field of that name": (np.zeros(3, [("mask", "u1")]).view(np.recarray), {}, "plain numbers"),
    "no number as capture time": (b"x", {"captured_at": float("nan")}, "Unix seconds"),
    "an infinite capture time": (b"x", {"captured_at": float("inf")}, "Unix seconds"),
    "nanoseconds as capture time": (b"x", {"captured_at": 1.8e18}, "captured_at is 1.8e.18"),
    "more than can be multiplied": (b"x", {"captured_at": 1e300}, "Unix seconds"),
    "more than a number with a point can be": (b"x", {"captured_at": 10**400}, "Unix seconds"),
    "a date as capture time": (b"x", {"captured_at": datetime.datetime(2026, 1, 1)}, "Unix seconds"),
    "text as capture time": (b"x", {"captured_at": "123"}, "Unix seconds"),
    "no encoding": (b"x", {"encoding": ""}, "1 to 32 printable"),
    "a number as encoding": (b"x", {"encoding": 5}, "1 to 32 printable"),
    "a list as metadata": (b"x", {"metadata": [1]}, "give a map"),
    "a number as metadata": (b"x", {"metadata": 5}, "give a map"),
    "an object in the metadata": (b"x", {"metadata": {"a": object()}}, "metadata cannot be packed"),
    "an array in the metadata": (b"x", {"metadata": {"a": np.zeros(2)}}, "metadata cannot be packed"),
    "a number as key of the metadata": (b"x", {"metadata": {1: 2}}, "metadata cannot be packed"),
    "a number as key within the metadata": (b"x", {"metadata": {"a": [{1: 2}]}}, "metadata cannot be packed"),
    "too much metadata": (b"x", {"metadata": {"a": b"x" * 70_000}}, "shorten the metadata"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_published_is_refused_and_takes_no_number(pair: Pair, what: str) -> None:
    publisher, worker = pair
    payload, options, words = REFUSED[what]
    before = publisher.published
    with pytest.raises(ValueError, match=words):
        publisher.publish(payload, **options)
    assert round_trip(publisher, worker, b"good").seq == before + 1


def test_a_refused_capture_time_leaves_the_loan_as_it_is(pair: Pair) -> None:
    publisher, worker = pair
    loan = publisher.loan((100, 100))
    loan.array[...] = 5
    for unfit in (1e12, -1e12, 9.3e9, -9.3e9, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="Unix seconds"):
            publisher.publish(loan, captured_at=unfit)
    for captured_at in (-7e9, 9e9, None):
        seq = publisher.publish(loan if captured_at is None else b"x", captured_at=captured_at)
        frame = wait_for(lambda: worker.read(0.1), "a frame")
        assert frame.seq == seq
        assert captured_at is None or frame.captured_at == pytest.approx(captured_at)
    assert (frame.array == 5).all()


@pytest.mark.parametrize(
    "payload", ["text", [1, 2], 5, memoryview(b"123456")[::2]], ids=["text", "list", "int", "view"]
)
def test_what_is_no_payload_is_a_type_error(pair: Pair, payload: Any) -> None:
    with pytest.raises(TypeError):
        pair[0].publish(payload)

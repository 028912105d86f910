"""Each limit that a hostile or broken peer meets, at its edge: what is over it is refused and counted."""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from supplierd_client import Publisher, Worker

from supplierd.core.bucket import TokenBucket
from supplierd.daemon.dialogue import MAX_CLIENT_TEXT, MAX_STREAMS_PER_JOIN
from supplierd.daemon.doors import JOINS_PER_SECOND
from supplierd.wire import control
from supplierd.wire import frame as wire
from supplierd.wire.errors import WireError
from supplierd.wire.names import MAX_NAME_LENGTH, is_name
from tests.security.stage import join
from tests.support.daemon import Daemon
from tests.support.peers import Background, Talk, frame_message, plain
from tests.support.waiting import wait_for

MAX_MESSAGE = 64 * 1024
MAX_WORKERS = 8
MAX_STREAMS = 4


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with low limits."""
    document = f"""
        [daemon]
        max_workers = {MAX_WORKERS}
        max_streams = {MAX_STREAMS}
        [inbox]
        max_message_bytes = {MAX_MESSAGE}
        [streams.cam-1]
        """
    daemon = Daemon(tmp_path_factory.mktemp("d"), document).start()
    yield daemon
    daemon.close()


def refused(daemon: Daemon, reason: str, message: bytes) -> None:
    before = daemon.rejected(reason)
    with plain(zmq.PUSH, daemon.inbox, immediate=1) as peer:
        peer.send(message)
        daemon.wait_for_rejected(reason, before + 1)


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_message_size(small: Daemon) -> None:
    head = len(frame_message(payload=b""))
    seen = small.snapshot().streams[0].received
    with plain(zmq.PUSH, small.inbox) as peer:
        peer.send(frame_message(payload=bytes(MAX_MESSAGE - head)))
        small.settled(lambda s: s.streams[0].received == seen + 1, "the largest frame")
    refused(small, "oversized", frame_message(payload=bytes(MAX_MESSAGE - head + 1)))


def test_header_size() -> None:
    def header(size: int) -> wire.Header:
        return wire.Header("cam-1", 1, bytes(16), 1, 0, 0, encoding="bytes", metadata={"x": "y" * size})

    fixed = wire.PREFIX.unpack_from(wire.encode_head(header(60_000)))[3] - 60_000
    assert wire.encode_head(header(wire.MAX_HEADER_BYTES - fixed))
    with pytest.raises(WireError, match=f"at most {wire.MAX_HEADER_BYTES} fit"):
        wire.encode_head(header(wire.MAX_HEADER_BYTES - fixed + 1))


@pytest.mark.parametrize("depth", [2_000, 60_000])
def test_nesting(small: Daemon, depth: int) -> None:
    """Of the header, and of a control message: msgpack gives up at 1024 levels, before the interpreter would."""
    nested = b"\x91" * depth + b"\xc0"
    head = wire.PREFIX.pack(wire.MAGIC, wire.VERSION, 0, len(nested), 1, 0, 0)
    refused(small, "bad_header", (head + nested).ljust(len(head + nested) + 128, b"\0"))
    with Talk(small.control) as peer:
        answer = peer.ask(nested)
    assert isinstance(answer, control.Error)
    assert answer.reason == "bad_message"


@pytest.mark.parametrize("depth", [960, 1010, 1020])
@pytest.mark.parametrize(
    "key", ["stream", "epoch", "boot", "encoding", "dtype", "shape", "arena", "inline", "metadata"]
)
def test_nesting_of_one_value(small: Daemon, key: str, depth: int) -> None:
    """What msgpack just takes is nested too deep to be shown."""
    fields = {"stream": "cam-1", "epoch": 1, "boot": bytes(16), "encoding": "raw", "dtype": "|u1", "shape": [64]}
    fields.pop(key, None)
    pairs = [msgpack.packb(word) for pair in fields.items() for word in pair]
    packed = bytes([0x81 + len(fields)]) + b"".join(pairs) + msgpack.packb(key) + b"\x91" * depth + b"\xc0"
    head = wire.PREFIX.pack(wire.MAGIC, wire.VERSION, key == "arena", len(packed), 1, 0, 0)
    message = head + packed
    padding = bytes(-len(message) % wire.ALIGNMENT)
    refused(small, "bad_name" if key == "stream" else "bad_header", message + padding + bytes(64 * (key != "arena")))


@pytest.mark.parametrize("key", ["type", "worker", "streams"])
def test_nesting_of_a_control_messages_value(small: Daemon, key: str) -> None:
    fields = {"type": "join"}
    fields.pop(key, None)
    packed = b"".join(msgpack.packb(word) for pair in fields.items() for word in pair)
    with Talk(small.control) as peer:
        for depth in range(940, 1024, 20):
            answer = peer.ask(bytes([0x81 + len(fields)]) + packed + msgpack.packb(key) + b"\x91" * depth + b"\xc0")
            assert isinstance(answer, control.Error)
            assert answer.reason == "bad_message"


def test_items_that_are_claimed_and_not_there(small: Daemon) -> None:
    """Room is made for what a header claims: so that is bounded, too."""
    claim = b"\xdd" + (wire.MAX_ITEMS + 1).to_bytes(4, "big")
    head = wire.PREFIX.pack(wire.MAGIC, wire.VERSION, 0, len(claim), 1, 0, 0)
    refused(small, "bad_header", (head + claim).ljust(len(head + claim) + 128, b"\0"))


def test_control_message_size(small: Daemon) -> None:
    with Talk(small.control) as peer:
        answer = peer.ask(msgpack.packb({"type": "stats", "more": bytes(control.MAX_CONTROL_BYTES)}))
    assert isinstance(answer, control.Error)
    assert answer.reason == "oversized"


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * (MAX_NAME_LENGTH + 1),
        "../../etc/passwd",
        "a\nb",
        'a"b',
        "a{b}",
        "a b",
        "-a",
        ".a",
        "é",
        "a\0",
        "a\x1b[2J",
    ],
)
def test_name_length_and_characters(small: Daemon, name: str) -> None:
    """Nothing that could reach into a label, a log line, a path or a terminal."""
    assert not is_name(name)
    refused(small, "bad_name", _frame_of(name))
    with Talk(small.control) as peer:
        for message in (join(name), join("pose", [name])):
            answer = peer.ask(message)
            assert isinstance(answer, control.Refused)
            assert answer.reason == "bad_name"


def test_the_longest_name(small: Daemon) -> None:
    longest = "x" * MAX_NAME_LENGTH
    with plain(zmq.PUSH, small.inbox) as peer:
        peer.send(_frame_of(longest))
        wait_for(lambda: small.stream(longest), "the stream")


def _frame_of(name: str) -> bytes:
    packed = msgpack.packb({"stream": name, "epoch": 1, "boot": bytes(16), "encoding": "bytes"})
    head = wire.PREFIX.pack(wire.MAGIC, wire.VERSION, 0, len(packed), 1, 0, 0)
    return bytes((head + packed).ljust(256, b"\0"))


def test_no_name_becomes_a_path(small: Daemon) -> None:
    """A worker's endpoint is named by the daemon."""
    with Talk(small.control) as peer:
        answer = peer.ask(join("name-in-a-path"))
        assert isinstance(answer, control.Welcome)
        peer.socket.send(control.encode(control.Leave(answer.session)))
    assert Path(answer.endpoint.removeprefix("ipc://")).parent == small.runtime_dir
    assert "name-in-a-path" not in answer.endpoint


def test_label_values(small: Daemon) -> None:
    """What a peer says of itself becomes a label only where it is one of the known words."""
    hostile = 'x"} 1\nfaked_metric{a="b'
    with Talk(small.control) as peer:
        answer = peer.ask(control.Join("labels", bytes(16), 1, [1], hostile * 9, ["*"], arena=hostile))
        assert isinstance(answer, control.Welcome)
        found = small.worker("labels")
        assert found is not None
        assert found.inline_reason == "other"
        assert found.client.isprintable()
        assert len(found.client) == MAX_CLIENT_TEXT
        scraped = small.scrape()
        peer.socket.send(control.encode(control.Leave(answer.session)))
    assert "faked_metric" not in scraped.samples
    assert scraped.value("supplierd_worker_inline", worker="labels", class_="normal", reason="other") == 1


# --- counts -----------------------------------------------------------------------------------------------------------


def test_streams(small: Daemon) -> None:
    for number in range(MAX_STREAMS - len(small.snapshot().streams)):
        with plain(zmq.PUSH, small.inbox) as peer:
            peer.send(frame_message(f"more-{number}"))
            wait_for(lambda n=number: small.stream(f"more-{n}"), "the stream")  # type: ignore[misc]
    refused(small, "too_many_streams", frame_message("one-more"))
    assert len(small.snapshot().streams) == MAX_STREAMS
    with Talk(small.control) as talk:
        answer = talk.ask(join("pose", [f"wish-{n}" for n in range(MAX_STREAMS_PER_JOIN)]))
        assert isinstance(answer, control.Refused)
        assert answer.reason == "too_many_streams"
        answer = talk.ask(join("pose", [f"wish-{n}" for n in range(MAX_STREAMS_PER_JOIN + 1)]))
        assert isinstance(answer, control.Refused)
        assert answer.reason == "bad_join"


def test_workers(small: Daemon) -> None:
    with Talk(small.control) as peer:
        answers = [peer.ask(join(f"one-of-many-{number}")) for number in range(MAX_WORKERS + 1)]
        sessions = [answer.session for answer in answers if isinstance(answer, control.Welcome)]
        assert len(small.snapshot().workers) <= MAX_WORKERS
        assert isinstance(answers[-1], control.Refused)
        assert answers[-1].reason == "too_many_workers"
        for session in sessions:
            peer.socket.send(control.encode(control.Leave(session)))
        wait_for(lambda: all(w.state == "gone" for w in small.snapshot().workers), "all to have left")


# --- rates ------------------------------------------------------------------------------------------------------------


@given(
    rate=st.floats(0.1, 1000),
    burst=st.integers(1, 100),
    gaps=st.lists(st.floats(0, 10), max_size=200),
)
def test_a_bucket_gives_no_more_than_its_rate_and_its_burst(rate: float, burst: int, gaps: list[float]) -> None:
    bucket, now, taken = TokenBucket(rate, burst), 1000.0, 0
    for gap in gaps:
        now += gap
        taken += bucket.take(now)
        assert taken <= burst + (now - 1000.0) * rate + 1e-6
    assert TokenBucket(rate, burst).take(now)


def test_a_bucket_fills_again() -> None:
    bucket = TokenBucket(2.0, 3)
    assert [bucket.take(10.0) for _ in range(5)] == [True, True, True, False, False]
    assert [bucket.take(10.5), bucket.take(10.5)] == [True, False]
    assert [bucket.take(99.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(0.0)


def test_a_flood_of_joins_does_not_hold_up_frames(daemons: Callable[..., Daemon]) -> None:
    daemon = daemons(f"[daemon]\nmax_workers = {MAX_WORKERS}\n").start()
    attempt = 0

    with (
        Publisher("cam-1", daemon.inbox) as publisher,
        Worker("pose", ["cam-1"], daemon.control) as worker,
        Talk(daemon.control) as flood,
    ):
        publisher.publish(b"0")
        assert worker.read(10.0) is not None

        def knock() -> None:
            nonlocal attempt
            attempt += 1
            flood.socket.send(control.encode(join("flood", attempt=attempt)))
            while flood.socket.poll(0):
                flood.socket.recv()

        ages = []
        with Background(knock) as flooding:
            daemon.wait_for_rejected("too_many_joins", 10)
            for number in range(1, 41):
                publisher.publish(str(number).encode())
                frame = worker.read(5.0)
                assert frame is not None
                ages.append(frame.age)
                flooding.wait_turns(5)
            snapshot = daemon.snapshot()
    assert sorted(ages)[len(ages) // 2] < 0.1
    assert snapshot.rejected["too_many_joins"] > JOINS_PER_SECOND / 10

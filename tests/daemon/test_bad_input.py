"""Bad input on each socket of a running daemon: counted by its reason, logged now and then, and nobody else notices.

All tests share one daemon. Meanwhile a publisher and a worker go on hand in hand: each frame is published when the one
before has arrived, so that a single lost frame ends the test.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

import msgpack
import pytest
import zmq
from supplierd_client import Publisher, Worker

from supplierd.wire import control
from supplierd.wire import frame as wire
from tests.support.daemon import Daemon, assert_adds_up, free_port
from tests.support.fixtures import short_directory
from tests.support.peers import ZMTP_1, Background, Talk, frame_message, plain, raw_connection, zmtp_1_message
from tests.support.scrape import assert_adds_up as assert_scrape_adds_up
from tests.support.waiting import wait_for

LIMIT = 64 * 1024


class Stage(NamedTuple):
    """The daemon, and what goes on meanwhile."""

    daemon: Daemon
    traffic: Background
    endpoints: dict[str, str]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    tcp = [f"tcp://127.0.0.1:{free_port()}" for _ in range(2)]
    document = f"""
        [inbox]
        endpoints = ["ipc", "{tcp[0]}"]
        max_message_bytes = {LIMIT}
        [control]
        endpoints = ["ipc", "{tcp[1]}"]
        """
    with short_directory() as home:
        daemon = Daemon(home, document, arguments=["--log-format", "text"])
        with (
            contextlib.closing(daemon),
            Publisher("calm", daemon.start().inbox, shared_memory="off") as publisher,
            Worker("calm", ["calm"], daemon.control) as worker,
        ):

            def one_frame() -> None:
                seq = publisher.publish(b"frame")
                frame = worker.read(timeout=10)
                assert frame is not None, f"frame {seq} was lost"
                assert frame.seq == seq

            with Background(one_frame, every=0.002) as traffic:
                traffic.wait_turns(3)
                link = next(daemon.runtime_dir.glob("w-*.sock"))
                endpoints = {
                    "inbox": daemon.inbox,
                    "tcp inbox": tcp[0],
                    "control": daemon.control,
                    "tcp control": tcp[1],
                    "link": f"ipc://{link}",
                }
                yield Stage(daemon, traffic, endpoints)


@pytest.fixture(autouse=True)
def undisturbed(stage: Stage) -> Iterator[None]:
    """After each test the daemon and its traffic are as before it."""
    pid = stage.daemon.pid
    yield
    stage.traffic.wait_turns(10)
    assert stage.daemon.running
    assert stage.daemon.pid == pid
    assert "Traceback" not in stage.daemon.log()
    assert not [line for line in stage.daemon.log().splitlines() if line.split()[1] == "error"]
    mailbox = stage.daemon.mailbox("calm", "calm")
    assert mailbox is not None
    assert sum(mailbox.dropped.values()) == 0
    assert_adds_up(stage.daemon.snapshot())


def raw(shape: object, dtype: object, payload: bytes = b"123456") -> bytes:
    """A raw frame whose description may not fit its payload."""
    head = wire.encode_head(wire.Header("bad", 1, bytes(16), 1, 0, 0, 0, wire.RAW, dtype, shape))  # type: ignore[arg-type]
    return head + payload


def patched(offset: int, value: bytes) -> bytes:
    """A frame with some of its first bytes changed."""
    message = frame_message("bad")
    return message[:offset] + value + message[offset + len(value) :]


FRAMES = {
    "nothing": ("truncated", b""),
    "a word": ("truncated", b"hello"),
    "a cut prefix": ("truncated", frame_message("bad")[:31]),
    "a cut header": ("truncated", frame_message("bad")[:50]),
    "a header longer than the message": ("truncated", patched(6, b"\xff\xff")),
    "random bytes": ("bad_magic", b"\0" + os.urandom(1000)),
    "another version": ("bad_version", patched(4, b"\x02")),
    "unknown flags": ("bad_header", patched(5, b"\x80")),
    "a header that is no map": ("bad_header", patched(32, b"\xc3")),
    "a header of rubbish": ("bad_header", patched(32, b"\xc1\xc1\xc1")),
    "sequence number 0": ("bad_header", patched(8, bytes(8))),
    "an empty payload": ("empty_payload", frame_message("bad", payload=b"")),
    "too small for its shape": ("bad_payload", raw([100, 100], "|u1")),
    "a shape that overflows": ("bad_payload", raw([1 << 40, 1 << 40], "<f8")),
    "objects": ("bad_header", raw([6], "|O8")),
    "a name that leads elsewhere": ("bad_name", frame_message("../../etc/passwd")),
    "a name that breaks lines": ("bad_name", frame_message('x"\n00:00:00 error   forged\x1b[2J')),
    "an oversized one": ("oversized", frame_message("bad", payload=bytes(LIMIT))),
}


@pytest.mark.parametrize("inbox", ["inbox", "tcp inbox"])
@pytest.mark.parametrize("what", FRAMES)
def test_a_frame_that_is_none(stage: Stage, inbox: str, what: str) -> None:
    reason, message = FRAMES[what]
    before = stage.daemon.rejected(reason)
    # Again and again: now and then libzmq's conflated receiver loses a message, and nothing follows that would tell.
    with plain(zmq.PUSH, stage.endpoints[inbox]) as peer, Background(lambda: peer.send(message), every=0.05):
        stage.daemon.wait_for_rejected(reason, before + 1)
    assert stage.daemon.stream("bad") is None


@pytest.mark.parametrize(
    ("reason", "file"),
    [
        ("no_arena", "../../../etc/passwd"),
        ("no_arena", "/etc/passwd"),
        ("no_arena", "nowhere.arena"),
        ("no_arena", ""),
        ("no_arena", "x\0y"),
        ("no_arena", "x" * 5000),
    ],
)
def test_a_descriptor_of_what_is_not_there(stage: Stage, reason: str, file: str) -> None:
    before = stage.daemon.rejected(reason)
    message = frame_message("forged", payload=b"", arena=wire.ArenaRef(file, 0, 1, 4096, 100))
    with plain(zmq.PUSH, stage.endpoints["inbox"]) as peer, Background(lambda: peer.send(message), every=0.05):
        stage.daemon.wait_for_rejected(reason, before + 1)
    assert stage.daemon.stream("forged") is None


def test_frames_that_come_late(stage: Stage) -> None:
    """An older frame of the same run, and one of an earlier run: counted, and refused."""
    late, early = (stage.daemon.rejected(reason) for reason in ("old_seq", "old_epoch"))
    with plain(zmq.PUSH, stage.endpoints["tcp inbox"]) as peer:

        def publish(seq: int, epoch: int) -> None:
            peer.send(frame_message("late", seq, epoch=epoch))

        publish(5, 1000)
        wait_for(lambda: stage.daemon.stream("late"), "the stream")
        publish(5, 1000)
        stage.daemon.wait_for_rejected("old_seq", late + 1)
        publish(4, 1000)
        stage.daemon.wait_for_rejected("old_seq", late + 2)
        publish(9, 999)
        stage.daemon.wait_for_rejected("old_epoch", early + 1)
    stream = stage.daemon.stream("late")
    assert stream is not None
    assert (stream.last_seq, stream.received) == (5, 1)


CONTROL = {
    "nothing": ("bad_message", b""),
    "random bytes": ("bad_message", b"\xc1" + os.urandom(1000)),
    "no map": ("bad_message", msgpack.packb([1, 2, 3])),
    "no type": ("bad_message", msgpack.packb({"worker": "w"})),
    "an unknown type": ("bad_message", msgpack.packb({"type": "shutdown"})),
    "a type that is no word": ("bad_message", msgpack.packb({"type": ["join"]})),
    "the daemon's own words": ("bad_message", control.encode(control.Goodbye("now"))),
    "a missing field": ("bad_message", msgpack.packb({"type": "demand", "session": 1})),
    "a field of another type": ("bad_message", msgpack.packb({"type": "demand", "session": "1", "number": 1})),
    "deep nesting": ("bad_message", b"\x91" * 10_000),
    "too long": ("oversized", control.encode(control.Join("w", bytes(16), 1, [1], "x" * 70_000, ["*"]))),
}


@pytest.mark.parametrize("channel", ["control", "tcp control"])
@pytest.mark.parametrize("what", CONTROL)
def test_a_control_message_that_is_none_is_answered(stage: Stage, channel: str, what: str) -> None:
    reason, message = CONTROL[what]
    before = stage.daemon.rejected(reason)
    with Talk(stage.endpoints[channel]) as peer:
        answer = peer.ask(message)
    assert isinstance(answer, control.Error)
    assert answer.reason == reason
    assert answer.message
    assert stage.daemon.rejected(reason) == before + 1


@pytest.mark.parametrize("channel", ["control", "tcp control"])
def test_a_control_message_of_several_parts(stage: Stage, channel: str) -> None:
    before = stage.daemon.rejected("multipart")
    with plain(zmq.REQ, stage.endpoints[channel]) as old_habit, Talk(stage.endpoints[channel]) as peer:
        old_habit.send(control.encode(control.Stats()))  # a REQ puts an empty part before its message
        peer.socket.send_multipart([b"a", b"b", b"c"])
        answer = peer.hear()
        assert isinstance(answer, control.Error)
        stage.daemon.wait_for_rejected("multipart", before + 2)


SOCKETS = ("inbox", "tcp inbox", "control", "tcp control", "link")
EARLY = 2
"""Strangers that may have been counted before they came, when peers of an earlier test shook hands at once."""
WORDS = (
    b"",
    os.urandom(2000),
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ZMTP_1 + zmtp_1_message(frame_message("injected")),
    b"\xff" + bytes(7) + b"\x01\x7f\x03",  # half a greeting
    b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"HAVOC".ljust(20, b"\0") + bytes(32),  # an unknown mechanism
)


@pytest.mark.parametrize("socket", SOCKETS)
def test_connections_that_do_not_shake_hands(stage: Stage, socket: str) -> None:
    before = stage.daemon.rejected("no_handshake")
    for words in WORDS:
        with raw_connection(stage.endpoints[socket]) as stranger, contextlib.suppress(OSError):
            stranger.sendall(words)
    stage.daemon.wait_for_rejected("no_handshake", before + len(WORDS) - EARLY)
    assert stage.daemon.stream("injected") is None


WRONG_KINDS = {
    "inbox": (zmq.SUB, zmq.DEALER, zmq.PULL, zmq.PAIR),
    "control": (zmq.PUB, zmq.PUSH, zmq.PULL, zmq.PAIR),
    "link": (zmq.PUSH, zmq.SUB, zmq.DEALER, zmq.PAIR),
}


@pytest.mark.parametrize("socket", SOCKETS)
def test_peers_of_the_wrong_kind(stage: Stage, socket: str) -> None:
    kinds = WRONG_KINDS[socket.removeprefix("tcp ")]
    before = stage.daemon.rejected("no_handshake")
    with contextlib.ExitStack() as stack:
        for kind in kinds:
            wrong = stack.enter_context(plain(kind, stage.endpoints[socket], reconnect_ivl=60_000))
            if kind not in (zmq.SUB, zmq.PULL):
                with contextlib.suppress(zmq.Again):
                    wrong.send(frame_message("injected"), zmq.NOBLOCK)
        stage.daemon.wait_for_rejected("no_handshake", before + len(kinds) - EARLY)
    assert stage.daemon.stream("injected") is None


@pytest.mark.parametrize("text", ["same", "names", "workers"])
def test_a_flood_is_logged_about_once_a_second(stage: Stage, text: str) -> None:
    """The same mistake, or one with a new name each time: the disk is not filled, and no memory of each is kept."""
    began, before = time.monotonic(), len(stage.daemon.log().splitlines())
    count = 3000
    reason = {"same": "bad_magic", "names": "too_many_streams", "workers": "bad_name"}[text]
    seen = stage.daemon.rejected(reason)
    if text == "workers":
        with Talk(stage.endpoints["control"]) as peer:
            for number in range(count):
                peer.socket.send(control.encode(control.Join(f"bad name {number}", bytes(16), 1, [1], "", ["*"])))
            stage.daemon.wait_for_rejected(reason, seen + 50)
    else:
        with plain(zmq.PUSH, stage.endpoints["tcp inbox"], sndhwm=10) as peer:
            for number in range(count):
                name = f"name-{number}"
                peer.send(frame_message(name) if text == "names" else b"x" * 100)
            stage.daemon.wait_for_rejected(reason, seen + count - 100)
    lines = len(stage.daemon.log().splitlines()) - before
    # One line for each of the few kinds of event in each second, and those for the first 32 streams.
    assert lines <= 4 * (time.monotonic() - began + 1) + 40


def test_everything_is_counted_on_metrics(stage: Stage) -> None:
    scraped = stage.daemon.scrape()
    rejected = stage.daemon.snapshot().rejected
    assert scraped.labels("supplierd_messages_rejected_total") == {"reason"}
    for reason, count in rejected.items():
        assert scraped.value("supplierd_messages_rejected_total", reason=reason) == count
    wanted = {reason for reason, _ in (*FRAMES.values(), *CONTROL.values())} | {"multipart", "no_handshake"}
    assert wanted <= rejected.keys()
    assert_scrape_adds_up(scraped)


def test_hostile_words_cannot_break_a_line(stage: Stage) -> None:
    for line in stage.daemon.log().splitlines():
        assert line[2] == line[5] == ":", line
        assert line.isprintable()
        assert not line.startswith("00:00:00 error")

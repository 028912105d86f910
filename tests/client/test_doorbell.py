"""The publisher's end of a doorbell, on a real socket and beside the daemon's end of it.

Time is an argument, so nothing here waits. Where a put is refused, the publisher uses ZeroMQ.
"""

import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import zmq
from supplierd_client.doorbell import NOT_OVERTAKEN, RETRY_AFTER, Doorbell

from supplierd.transport.doorbells import Doorbells
from supplierd.transport.inbox import Inbox
from supplierd.wire.bell import MAX_PACKET
from supplierd.wire.doorbell import GREETING, doorbell_path
from tests.support.doorbells import open_files, send_descriptors, taken
from tests.support.waiting import DEADLINE

AT_ONCE = 0.5
"""Seconds: far less than any time-out, far more than a busy machine takes for one call."""


class Side:
    """The daemon's side, which comes and goes."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self.doorbells: Doorbells | None = None

    def come(self) -> None:
        self.doorbells = Doorbells([self._inbox])

    def go(self) -> None:
        assert self.doorbells is not None
        self.doorbells.close()
        self.doorbells = None

    def taken(self) -> list[bytes]:
        assert self.doorbells is not None
        return taken(self.doorbells)

    @property
    def count(self) -> int:
        assert self.doorbells is not None
        return len(self.doorbells.by_event)


@pytest.fixture
def side(home: Path) -> Iterator[Side]:
    with zmq.Context() as context, closing(Inbox(context, f"ipc://{home}/inbox", None, 100_000)) as inbox:
        made = Side(inbox)
        made.come()
        yield made
        if made.doorbells is not None:
            made.go()


@pytest.fixture
def doorbell(home: Path) -> Iterator[Doorbell]:
    with closing(Doorbell(f"ipc://{home}/inbox")) as made:
        yield made


def connect(side: Side, doorbell: Doorbell, now: float = 0.0) -> None:
    """Until messages can be put."""
    assert not doorbell.open(0.0, now)
    assert side.taken() == []
    assert doorbell.open(0.0, now)


def descriptors(doorbell: Doorbell) -> list[int]:
    """Of the line, the file and the eventfd."""
    line = [] if doorbell._line is None else [doorbell._line.fileno()]
    return [*line, *doorbell._ends]


# --- messages ---------------------------------------------------------------------------------------------------------


def test_a_message_is_taken_and_the_next_one_replaces_what_was_not(side: Side, doorbell: Doorbell) -> None:
    connect(side, doorbell)
    assert doorbell.put(b"1", 0.0)
    assert side.taken() == [b"1"]
    for number in range(2, 1000):
        assert doorbell.put(b"%d" % number, 0.0)
    assert side.taken() == [b"999"]
    assert side.taken() == []


def test_the_longest_message_goes_by_it(side: Side, doorbell: Doorbell) -> None:
    connect(side, doorbell)
    for byte in (b"a", b"b"):
        assert doorbell.put(byte * MAX_PACKET, 0.0)
    assert side.taken() == [b"b" * MAX_PACKET]


def test_a_longer_message_takes_back_the_one_before_and_is_not_overtaken(side: Side, doorbell: Doorbell) -> None:
    connect(side, doorbell)
    assert doorbell.put(b"before", 10.0)
    assert not doorbell.put(b"x" * (MAX_PACKET + 1), 10.0)
    assert side.taken() == []
    assert not doorbell.put(b"after", 10.0 + 0.9 * NOT_OVERTAKEN)
    assert side.taken() == []
    assert doorbell.put(b"later", 10.0 + NOT_OVERTAKEN)
    assert side.taken() == [b"later"]


def test_who_goes_by_zeromq_takes_back_what_was_not_taken(side: Side, doorbell: Doorbell) -> None:
    doorbell.yield_to(0.0)  # before anybody is there
    connect(side, doorbell)
    assert not doorbell.put(b"overtaking", 0.9 * NOT_OVERTAKEN)
    assert doorbell.put(b"1", NOT_OVERTAKEN)
    doorbell.yield_to(2.0)
    doorbell.yield_to(2.5)
    assert side.taken() == []
    assert not doorbell.put(b"2", 2.4 + NOT_OVERTAKEN)
    assert doorbell.put(b"3", 2.5 + NOT_OVERTAKEN)
    assert side.taken() == [b"3"]


def test_a_daemon_that_stands_still_is_not_waited_for(side: Side, doorbell: Doorbell) -> None:
    connect(side, doorbell)
    began = time.monotonic()
    for number in range(1000):
        assert doorbell.put(b"%d" % number, 0.0)
    assert time.monotonic() - began < AT_ONCE
    assert side.taken() == [b"999"]


# --- coming and going -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ["", "tcp://127.0.0.1:1", "ipc:///" + "a" * 110])
def test_where_there_can_be_none_all_goes_over_zeromq(endpoint: str) -> None:
    before = open_files()
    with closing(Doorbell(endpoint)) as doorbell:
        for now in (0.0, 100.0):
            assert not doorbell.put(b"1", now)
            doorbell.yield_to(now)
        assert open_files() == before


def test_where_nobody_is_it_is_tried_again_after_a_while(side: Side, doorbell: Doorbell) -> None:
    side.go()
    assert not doorbell.put(b"1", 100.0)
    side.come()
    assert not doorbell.put(b"2", 99.9 + RETRY_AFTER)
    assert side.taken() == []
    assert side.count == 0
    assert not doorbell.put(b"3", 100.0 + RETRY_AFTER)  # it knocks
    assert not doorbell.put(b"4", 100.1 + RETRY_AFTER)  # and is not waited for
    assert side.taken() == []
    assert side.count == 1
    assert doorbell.put(b"5", 100.2 + RETRY_AFTER)
    assert side.taken() == [b"5"]


@pytest.mark.parametrize("last", ["none", "taken", "left"])
def test_an_end_is_seen_at_the_next_message(side: Side, doorbell: Doorbell, last: str) -> None:
    before = open_files()
    connect(side, doorbell)
    if last != "none":
        assert doorbell.put(b"1", 0.0)
    if last == "taken":
        assert side.taken() == [b"1"]
    side.go()
    side.come()
    assert not doorbell.put(b"2", 10.0)
    assert descriptors(doorbell) == []
    assert open_files() == before
    assert not doorbell.put(b"3", 9.9 + RETRY_AFTER)
    connect(side, doorbell, 10.0 + RETRY_AFTER)
    assert side.taken() == [], "what was meant for the former daemon"
    assert doorbell.put(b"4", 10.1 + RETRY_AFTER)
    assert side.taken() == [b"4"]


def test_a_programs_default_timeout_is_not_waited_for(side: Side, doorbell: Doorbell) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DEADLINE)
    try:
        connect(side, doorbell)
        began = time.monotonic()
        assert doorbell.put(b"1", 0.0)
        assert side.taken() == [b"1"]
        side.go()
        assert not doorbell.put(b"2", 0.0)
        assert time.monotonic() - began < AT_ONCE
    finally:
        socket.setdefaulttimeout(before)


def test_without_a_descriptor_it_goes_over_zeromq(
    side: Side, doorbell: Doorbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", fail)
        assert not doorbell.put(b"1", 0.0)
    connect(side, doorbell, RETRY_AFTER)


def test_an_end_is_seen_when_something_goes_by_zeromq(side: Side, doorbell: Doorbell) -> None:
    connect(side, doorbell)
    side.go()
    doorbell.yield_to(0.0)
    assert descriptors(doorbell) == []


def test_what_was_put_is_taken_after_closing(side: Side, doorbell: Doorbell) -> None:
    connect(side, doorbell)
    assert doorbell.put(b"last", 0.0)
    doorbell.close()
    doorbell.close()
    assert side.taken() == [b"last"]
    assert side.count == 0
    assert not doorbell.put(b"more", 100.0)
    assert not doorbell.put(b"more", 200.0)
    assert side.taken() == []


def test_whoever_is_refused_comes_again(
    side: Side, doorbell: Doorbell, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Doorbell(f"ipc://{home}/inbox")) as other:
        monkeypatch.setattr("supplierd.transport.doorbells.MOST", 1)
        connect(side, other)
        assert not doorbell.put(b"1", 0.0)
        assert side.taken() == []
        assert not doorbell.put(b"2", 0.1)  # sees that
        other.close()
        assert side.taken() == []
        assert not doorbell.put(b"3", 0.05 + RETRY_AFTER)
        connect(side, doorbell, 0.1 + RETRY_AFTER)


def test_a_greeting_is_waited_for_as_long_as_said(side: Side, doorbell: Doorbell) -> None:
    began = time.monotonic()
    assert not doorbell.open(0.05, 0.0)
    assert 0.05 <= time.monotonic() - began < AT_ONCE
    assert side.taken() == []
    assert doorbell.open(DEADLINE, 0.0)
    assert time.monotonic() - began < AT_ONCE


def test_nothing_stays_open_over_many_lives(side: Side, doorbell: Doorbell) -> None:
    before = open_files()
    for turn in range(100):
        now = turn * (RETRY_AFTER + 1.0)
        connect(side, doorbell, now)
        assert doorbell.put(b"1", now)
        if turn % 2:
            assert side.taken() == [b"1"]
        side.go()
        side.come()
        assert not doorbell.put(b"2", now)
    assert open_files() == before


def test_a_crowd_before_the_door_is_not_waited_for(home: Path, doorbell: Doorbell) -> None:
    """As where a daemon stands still for long."""
    with ExitStack() as stack:
        listener = stack.enter_context(listening(home))
        listener.listen(0)
        while True:
            one = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            one.setblocking(False)
            try:
                one.connect(doorbell_path(f"ipc://{home}/inbox"))
            except BlockingIOError:
                break
        before, began = open_files(), time.monotonic()
        assert not doorbell.put(b"1", 0.0)
        assert time.monotonic() - began < AT_ONCE
        assert open_files() == before


# --- strange daemons --------------------------------------------------------------------------------------------------


def listening(home: Path) -> socket.socket:
    """Somebody else at the path of the doorbell."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(doorbell_path(f"ipc://{home}/inbox"))
    listener.listen()
    listener.settimeout(DEADLINE)
    return listener


STRANGE = {
    "another version": (GREETING[:-1] + b"\x02", "me"),
    "less of it": (GREETING[:-1], "me"),
    "nothing but descriptors": (b"x", "me"),
    "no descriptors": (GREETING, ""),
    "one descriptor": (GREETING, "m"),
    "sockets, as once": (GREETING, "ss"),
    "a pipe": (GREETING, "io"),
    "a pipe, reversed": (GREETING, "oi"),
    "a pipe's end that only reads": (GREETING, "mi"),
    "files to read": (GREETING, "rr"),
    "a file to read, and an event": (GREETING, "re"),
    "a file, and one to read": (GREETING, "mr"),
}
"""By what it is: what is sent, and the kinds of what comes with it."""


@pytest.mark.parametrize("what", STRANGE)
def test_another_greeting_is_none(home: Path, doorbell: Doorbell, what: str) -> None:
    greeting, kinds = STRANGE[what]
    with ExitStack() as stack:
        listener = stack.enter_context(listening(home))
        ends = dict(zip("io", os.pipe(), strict=True), m=os.memfd_create("m"), e=os.eventfd(0, os.EFD_NONBLOCK))
        ends["r"] = os.open(__file__, os.O_RDONLY)
        ends["s"] = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).detach()
        for end in ends.values():
            stack.callback(os.close, end)
        before = open_files()
        assert not doorbell.put(b"1", 0.0)
        line, _ = listener.accept()
        with line:
            send_descriptors(line, greeting, [ends[kind] for kind in kinds])
            assert not doorbell.put(b"2", 0.0)
            assert line.recv(1) == b""
        assert open_files() == before
        assert not doorbell.put(b"3", 0.9 * RETRY_AFTER)
        assert not select.select([listener], [], [], 0)[0]
        assert not doorbell.put(b"4", RETRY_AFTER)
        assert select.select([listener], [], [], 0)[0]


def test_a_daemon_that_says_more_is_done_with(side: Side, doorbell: Doorbell) -> None:
    connect(side, doorbell)
    assert side.doorbells is not None
    (end,) = side.doorbells.by_event.values()
    end.line.send(b"more")
    assert not doorbell.put(b"1", 0.0)
    assert side.taken() == []
    assert side.count == 0


def test_what_listens_to_streams_is_none(home: Path, doorbell: Doorbell) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(doorbell_path(f"ipc://{home}/inbox"))
        listener.listen()
        assert not doorbell.put(b"1", 0.0)


# --- other processes --------------------------------------------------------------------------------------------------


def test_another_program_inherits_nothing(side: Side, doorbell: Doorbell) -> None:
    connect(side, doorbell)
    found = descriptors(doorbell)
    assert len(found) == 3
    assert not any(os.get_inheritable(descriptor) for descriptor in found)


def test_a_forked_child_closes_its_copies_and_its_parent_goes_on(side: Side, doorbell: Doorbell) -> None:
    """Neither does the daemon take the parent for alive when it has gone, nor the parent the daemon."""
    connect(side, doorbell)
    assert doorbell.put(b"before", 0.0)
    reading, told = os.pipe()
    ended, end = os.pipe()
    child = os.fork()
    if not child:
        os.close(end)
        silent = descriptors(doorbell) == [] and not doorbell.put(b"child", 100.0)
        os.write(told, b"y" if silent else b"n")
        os.read(ended, 1)  # until the parent has seen what it wants to see
        os._exit(0)
    try:
        assert os.read(reading, 1) == b"y"
        assert side.taken() == [b"before"]
        assert doorbell.put(b"after", 0.0)
        assert side.taken() == [b"after"]
        doorbell.close()
        assert side.taken() == []
        assert side.count == 0, "the child's copies keep it"
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
    finally:
        for descriptor in (reading, told, ended, end):
            os.close(descriptor)
        os.waitpid(child, 0)

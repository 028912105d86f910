"""The doorbells on real sockets: publishers come and go, the newest message is what is taken, nobody is waited for.

Nothing here waits: what is written is there when the call returns, and so is what epoll has to tell of it.
"""

import errno
import fcntl
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from itertools import permutations
from typing import Final

import pytest

from supplierd.transport.doorbells import Doorbells
from supplierd.transport.inbox import Inbox
from supplierd.wire.bell import MAX_PACKET
from supplierd.wire.doorbell import NOTHING, PUT, SIZE, encode_put
from tests.support.doorbells import Enter, open_files, readable, taken
from tests.support.kernel import kernel

MOST_COUNTED: Final = 2**64 - 2
"""That an eventfd holds."""
TORN: Final = {
    "zeros": bytes(SIZE),
    "a wrong checksum": encode_put(9, b"torn")[:-1] + b"x",
    "a number from another put": encode_put(9, b"torn")[:8] + bytes(8) + b"torn",
    "a length behind the end": PUT.pack(0, MAX_PACKET + 1, 9),
    "the longest length": PUT.pack(0, 2**32 - 1, 9),
    "a message that is too long": encode_put(9, b"x" * (MAX_PACKET + 1)),
    "an empty message": encode_put(9, b""),
    "a repeated number": encode_put(1, b"torn"),
}
"""By what it is: what is no put, after one that had the number 1."""

# --- a message --------------------------------------------------------------------------------------------------------


def test_a_message_and_the_next(doorbells: Doorbells, enter: Enter, inboxes: list[Inbox]) -> None:
    knocker = enter()
    assert not readable(doorbells)
    for message in (b"1", b"2" * MAX_PACKET, b"3"):
        knocker.put(message)
        assert readable(doorbells)
        assert list(doorbells.take()) == [(inboxes[0], message)]
        assert not readable(doorbells)


def test_of_a_message_that_was_replaced_the_newest_is_taken(doorbells: Doorbells, enter: Enter) -> None:
    knocker = enter()
    for number in range(1000):
        knocker.put(b"%d" % number)
    assert taken(doorbells) == [b"999"]
    assert not readable(doorbells)
    assert taken(doorbells) == []


def test_a_message_that_is_taken_back_in_between_changes_nothing(doorbells: Doorbells, enter: Enter) -> None:
    """The loop is told of it, and then finds nothing."""
    knocker = enter()
    knocker.put(b"1")
    os.pwrite(knocker.file, NOTHING, 0)
    assert readable(doorbells)
    assert taken(doorbells) == []
    assert not readable(doorbells)
    knocker.put(b"2")
    assert taken(doorbells) == [b"2"]


def test_inboxes_are_kept_apart(doorbells: Doorbells, enter: Enter, inboxes: list[Inbox]) -> None:
    one, two = (enter(inbox) for inbox in inboxes)
    two.put(b"2")
    one.put(b"1")
    assert dict(doorbells.take()) == {inboxes[0]: b"1", inboxes[1]: b"2"}


def test_one_message_of_each_at_a_time(doorbells: Doorbells, enter: Enter) -> None:
    """Somebody who puts without end silences nobody."""
    loud, calm = enter(), enter()
    for number in range(3):
        for count in range(1000):
            loud.put(b"%d" % count)
        calm.put(b"calm %d" % number)
        assert sorted(taken(doorbells)) == [b"999", b"calm %d" % number]
        assert not readable(doorbells)


@pytest.mark.parametrize("what", TORN)
def test_what_is_no_put_is_passed_over_and_the_next_one_is_taken(doorbells: Doorbells, enter: Enter, what: str) -> None:
    strange, calm = enter(), enter()
    strange.put(b"first")
    assert taken(doorbells) == [b"first"]
    strange.write(TORN[what])
    assert readable(doorbells)
    calm.put(b"calm")
    assert taken(doorbells) == [b"calm"]
    assert not readable(doorbells)
    strange.put(b"next")
    assert taken(doorbells) == [b"next"]
    assert len(doorbells.by_event) == 2


def test_a_number_may_be_any_but_the_last_one(doorbells: Doorbells, enter: Enter) -> None:
    knocker = enter()
    for number in (5, 4, 2**64 - 1, 0):
        knocker.write(encode_put(number, b"%d" % number))
        assert taken(doorbells) == [b"%d" % number]
        knocker.write(encode_put(number, b"again"))
        assert taken(doorbells) == []


def test_who_tells_of_nothing_wakes_the_loop_for_nothing(doorbells: Doorbells, enter: Enter) -> None:
    knocker = enter()
    for number in range(3):
        os.eventfd_write(knocker.event, 1)
        assert readable(doorbells)
        assert taken(doorbells) == []
        assert not readable(doorbells)
        knocker.put(b"%d" % number)
        assert taken(doorbells) == [b"%d" % number]


# --- what a publisher has in its hands --------------------------------------------------------------------------------


def _have_it_block(event: int) -> None:
    fcntl.fcntl(event, fcntl.F_SETFL, fcntl.fcntl(event, fcntl.F_GETFL) & ~os.O_NONBLOCK)


MISCHIEF: Final[dict[str, Callable[[int], object]]] = {
    "it blocks": _have_it_block,
    "it is read": os.eventfd_read,
    "it is full": lambda event: os.eventfd_write(event, MOST_COUNTED - 1),
}
"""What may be done to an eventfd in which there is one."""


@pytest.mark.parametrize("what", MISCHIEF)
def test_whatever_becomes_of_an_eventfd_the_loop_neither_stops_nor_spins(
    doorbells: Doorbells, enter: Enter, what: str
) -> None:
    strange, calm = enter(), enter()
    strange.put(b"1")
    MISCHIEF[what](strange.event)
    found = []
    for _ in range(3):
        calm.put(b"calm")
        found += taken(doorbells)
        assert not readable(doorbells)
    assert sorted(found) == [b"1"] * (what != "it is read") + [b"calm"] * 3
    if what != "it is read":
        os.eventfd_read(strange.event)
    assert not readable(doorbells)
    strange.put(b"2")
    assert taken(doorbells) == [b"2"]
    MISCHIEF[what](strange.event)
    strange.close()
    assert taken(doorbells) == []
    assert len(doorbells.by_event) == 1
    assert not readable(doorbells)


def test_the_file_keeps_its_size_and_can_be_written_for_ever(doorbells: Doorbells, enter: Enter) -> None:
    knocker = enter()
    assert os.fstat(knocker.file).st_size == SIZE
    for size in (0, SIZE - 1, SIZE + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(knocker.file, size)
    with pytest.raises(PermissionError):
        os.pwrite(knocker.file, b"x", SIZE)
    with pytest.raises(PermissionError):
        fcntl.fcntl(knocker.file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    assert os.fstat(knocker.file).st_size == SIZE
    knocker.put(b"x" * MAX_PACKET)
    assert taken(doorbells) == [b"x" * MAX_PACKET]


def test_descriptors_that_come_by_the_line_are_not_kept(doorbells: Doorbells, enter: Enter) -> None:
    before = open_files()
    knocker = enter()
    with suppress(PermissionError):  # of a newer kernel, which refuses them
        socket.send_fds(knocker.line, [b"1"], [0, 0, 0])
    knocker.close()
    assert taken(doorbells) == []
    assert open_files() == before


# --- an end -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(permutations(["line", "file", "event"])), ids="-".join)
@pytest.mark.parametrize("look", ["once", "after each"])
@pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])
def test_an_end_frees_everything_and_the_last_message_is_taken(
    doorbells: Doorbells, enter: Enter, order: tuple[str, ...], look: str, told: bool
) -> None:
    """Once; also where the publisher was killed before it could tell of it."""
    before = open_files()
    knocker = enter()
    if told:
        knocker.put(b"last")
    else:
        os.pwrite(knocker.file, encode_put(1, b"last"), 0)
    found = []
    for name in order:
        knocker.leave(name)
        if look == "after each":
            found += taken(doorbells)
            assert bool(doorbells.by_event) is (order.index("line") > order.index(name))
    found += taken(doorbells) + taken(doorbells)
    assert found == [b"last"]
    assert not doorbells.by_event
    assert open_files() == before
    assert not readable(doorbells)


@pytest.mark.skipif(kernel() < (6, 3), reason="this kernel has no MFD_NOEXEC_SEAL")
def test_the_file_cannot_be_executed(enter: Enter) -> None:
    file = enter().file
    assert os.fstat(file).st_mode & 0o111 == 0
    with pytest.raises(PermissionError):
        os.fchmod(file, 0o777)


def test_an_older_kernel_makes_a_file_that_can(
    doorbells: Doorbells, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = os.memfd_create

    def older(name: str, flags: int) -> int:
        if flags & ~(os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING):
            raise OSError(errno.EINVAL, "Invalid argument")
        return make(name, flags)

    monkeypatch.setattr(os, "memfd_create", older)
    enter().put(b"1")
    assert taken(doorbells) == [b"1"]


@pytest.mark.parametrize("content", [NOTHING, encode_put(2, b"torn")[:-1] + b"x"], ids=["taken back", "torn"])
def test_an_end_with_nothing_whole_gives_nothing(doorbells: Doorbells, enter: Enter, content: bytes) -> None:
    knocker = enter()
    knocker.put(b"1")
    assert taken(doorbells) == [b"1"]
    knocker.write(content)
    knocker.close()
    assert taken(doorbells) == []
    assert not doorbells.by_event


@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR], ids=["read", "write", "both"])
def test_who_shuts_the_line_down_gets_no_loop_to_spin(doorbells: Doorbells, enter: Enter, how: int) -> None:
    strange, calm = enter(), enter()
    strange.line.shutdown(how)
    for _ in range(3):
        calm.put(b"calm")
        assert taken(doorbells) == [b"calm"]
    assert not readable(doorbells)
    strange.close()
    assert taken(doorbells) == []
    assert len(doorbells.by_event) == 1


@pytest.mark.parametrize("word", [b"x" * 10_000, b""], ids=["a word", "an empty word"])
def test_who_says_what_nobody_asked_for_is_shown_out(doorbells: Doorbells, enter: Enter, word: bytes) -> None:
    strange, calm = enter(), enter()
    strange.line.send(word)
    calm.put(b"calm")
    assert taken(doorbells) == [b"calm"]
    assert strange.refused()
    strange.put(b"nobody looks at it any more")
    assert len(doorbells.by_event) == 1
    assert not readable(doorbells)
    assert taken(doorbells) == []


def test_who_leaves_before_he_is_greeted_leaves_nothing(doorbells: Doorbells, enter: Enter) -> None:
    before = open_files()
    enter(greeted=False).close()
    assert taken(doorbells) + taken(doorbells) == []
    assert not doorbells.by_event
    assert open_files() == before
    assert not readable(doorbells)


def test_the_greeting_unread_is_an_end_like_any(doorbells: Doorbells, enter: Enter) -> None:
    before = open_files()
    knocker = enter(greeted=False)
    assert taken(doorbells) == []
    knocker.close()
    assert taken(doorbells) == []
    assert not doorbells.by_event
    assert open_files() == before


@pytest.mark.parametrize("first", ["event", "line"])
def test_who_comes_while_another_goes_is_not_taken_for_him(doorbells: Doorbells, enter: Enter, first: str) -> None:
    """All are heard of in one look; and the newcomer would get the descriptors of the one who has gone."""
    old = enter()
    assert taken(doorbells) == []
    (doorbell,) = doorbells.by_event.values()
    freed = {doorbell.line.fileno(), doorbell.file, doorbell.event}
    if first == "event":
        old.put(b"last")
    else:
        old.leave("line")
    new = enter(greeted=False)
    if first == "line":
        old.put(b"last")
    old.close()
    with ExitStack() as stack:
        while (lower := os.dup(0)) < max(freed):
            stack.callback(os.close, lower)
        os.close(lower)
        assert taken(doorbells) == [b"last"]
    (doorbell,) = doorbells.by_event.values()
    new.enter().put(b"1")
    assert taken(doorbells) == [b"1"]

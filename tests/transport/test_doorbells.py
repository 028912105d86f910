"""The doorbells on real sockets: publishers come and go, the newest message is what is taken, nobody is waited for.

Nothing here waits: a Unix socket's packets are there when `send` returns.
"""

import os
import socket
from contextlib import ExitStack, suppress
from itertools import permutations

import pytest

from supplierd.transport.doorbells import Doorbells
from supplierd.transport.inbox import Inbox
from supplierd.wire.bell import MAX_PACKET
from tests.support.doorbells import Enter, open_files, readable, taken

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
        if number < 999:
            knocker.taking.recv(1, socket.MSG_DONTWAIT)
    assert taken(doorbells) == [b"999"]
    with pytest.raises(BlockingIOError):
        knocker.taking.recv(1, socket.MSG_DONTWAIT)


def test_a_message_that_is_taken_back_in_between_changes_nothing(
    doorbells: Doorbells, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop is told of it, and then finds nothing."""
    knocker = enter()
    knocker.put(b"1")
    (told,) = doorbells._epoll.poll(0)
    knocker.taking.recv(1)

    class Told:
        def poll(self, *_: object) -> list[tuple[int, int]]:
            return [told]

    with monkeypatch.context() as patch:
        patch.setattr(doorbells, "_epoll", Told())
        assert taken(doorbells) == []
    knocker.put(b"2")
    assert taken(doorbells) == [b"2"]


def test_inboxes_are_kept_apart(doorbells: Doorbells, enter: Enter, inboxes: list[Inbox]) -> None:
    one, two = (enter(inbox) for inbox in inboxes)
    two.put(b"2")
    one.put(b"1")
    assert dict(doorbells.take()) == {inboxes[0]: b"1", inboxes[1]: b"2"}


def test_one_message_of_each_at_a_time(doorbells: Doorbells, enter: Enter) -> None:
    """Somebody who does not replace what was not taken silences nobody, and is stopped by the kernel."""
    loud, calm = enter(), enter()
    count = 0
    with suppress(BlockingIOError):
        while count < 10_000:
            loud.put(b"%d" % count)
            count += 1
    assert 1 < count < 100
    calm.put(b"calm")
    assert sorted(doorbells.take(), key=lambda found: found[1])[1][1] == b"calm"
    assert [message for _ in range(count) for message in taken(doorbells)] == [
        b"%d" % number for number in range(1, count)
    ]
    assert not readable(doorbells)
    loud.put(b"again")
    assert taken(doorbells) == [b"again"]


def test_a_message_that_is_too_long_is_cut(doorbells: Doorbells, enter: Enter) -> None:
    knocker = enter()
    knocker.put(b"x" * (MAX_PACKET + 100))
    knocker.put(b"next")
    (message,) = taken(doorbells)
    assert MAX_PACKET <= len(message) <= MAX_PACKET + 1
    assert taken(doorbells) == [b"next"]


def test_descriptors_that_come_with_a_message_are_not_kept(doorbells: Doorbells, enter: Enter) -> None:
    knocker = enter()
    before = open_files()
    socket.send_fds(knocker.giving, [b"1"], [0, 0, 0])
    assert taken(doorbells) == [b"1"]
    assert open_files() == before


# --- an end -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(permutations(["line", "taking", "giving"])), ids="-".join)
@pytest.mark.parametrize("look", ["once", "after each"])
def test_an_end_frees_everything_and_the_last_message_is_taken(
    doorbells: Doorbells, enter: Enter, order: tuple[str, ...], look: str
) -> None:
    before = open_files()
    knocker = enter()
    knocker.put(b"last")
    found = []
    for name in order:
        getattr(knocker, name).close()
        if look == "after each":
            found += taken(doorbells)
    found += taken(doorbells) + taken(doorbells)
    assert found == [b"last"]
    assert not doorbells.by_end
    assert open_files() == before
    assert not readable(doorbells)


@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR], ids=["read", "write", "both"])
@pytest.mark.parametrize("name", ["line", "taking", "giving"])
def test_who_shuts_something_down_gets_no_loop_to_spin(doorbells: Doorbells, enter: Enter, name: str, how: int) -> None:
    strange, calm = enter(), enter()
    getattr(strange, name).shutdown(how)
    for _ in range(3):
        calm.put(b"calm")
        assert taken(doorbells) == [b"calm"]
    assert not readable(doorbells)
    strange.close()
    assert taken(doorbells) == []
    assert len(doorbells.by_end) == 1


@pytest.mark.parametrize("what", ["a word on the line", "an empty word on the line", "an empty message"])
def test_who_says_what_nobody_asked_for_is_shown_out(doorbells: Doorbells, enter: Enter, what: str) -> None:
    strange, calm = enter(), enter()
    (strange.line if "line" in what else strange.giving).send(b"" if "empty" in what else b"x" * 10_000)
    calm.put(b"calm")
    assert taken(doorbells) == [b"calm"]
    assert strange.refused()
    assert len(doorbells.by_end) == 1
    assert not readable(doorbells)


def test_who_sends_on_the_taking_end_disturbs_only_himself(doorbells: Doorbells, enter: Enter) -> None:
    """It comes out at the giving end, and a publisher that leaves it unread there is reset."""
    strange, calm = enter(), enter()
    strange.taking.send(b"x")
    assert not readable(doorbells)
    strange.put(b"1")
    assert taken(doorbells) == [b"1"]
    for name in ("giving", "taking", "line"):
        getattr(strange, name).close()
    calm.put(b"2")
    assert taken(doorbells) == [b"2"]
    assert len(doorbells.by_end) == 1
    assert not readable(doorbells)


def test_who_leaves_before_he_is_greeted_leaves_nothing(doorbells: Doorbells, enter: Enter) -> None:
    before = open_files()
    enter(greeted=False).close()
    assert taken(doorbells) + taken(doorbells) == []
    assert not doorbells.by_end
    assert open_files() == before
    assert not readable(doorbells)


def test_the_greeting_unread_is_an_end_like_any(doorbells: Doorbells, enter: Enter) -> None:
    before = open_files()
    knocker = enter(greeted=False)
    assert taken(doorbells) == []
    knocker.close()
    assert taken(doorbells) == []
    assert not doorbells.by_end
    assert open_files() == before


@pytest.mark.parametrize("first", ["giving", "line"])
def test_who_comes_while_another_goes_is_not_taken_for_him(doorbells: Doorbells, enter: Enter, first: str) -> None:
    """All are heard of in one look; and the newcomer would get the descriptors of the one who has gone."""
    old = enter()
    assert taken(doorbells) == []
    (doorbell,) = doorbells.by_end.values()
    freed = {doorbell.line.fileno(), doorbell.end.fileno()}
    getattr(old, first).close()
    new = enter(greeted=False)
    old.close()
    with ExitStack() as stack:
        while (lower := os.dup(0)) < max(freed):
            stack.callback(os.close, lower)
        os.close(lower)
        assert taken(doorbells) == []
    (doorbell,) = doorbells.by_end.values()
    new.enter().put(b"1")
    assert taken(doorbells) == [b"1"]

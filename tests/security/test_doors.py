"""The daemon's doors without a daemon: what is shut is opened again, whatever was in the way."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
import zmq

from supplierd.daemon.doors import JOINS_PER_SECOND, Doors
from supplierd.transport.descriptors import Descriptors
from supplierd.transport.inbox import Inbox
from supplierd.transport.link import Link
from supplierd.transport.listener import Listener
from supplierd.transport.sockets import Context, Waiter, make_context
from tests.support.daemon import free_port
from tests.support.peers import no_socket, plain
from tests.support.waiting import wait_for


class FewDescriptors(Descriptors):
    """As short as a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted = False

    def look(self) -> bool:
        self.short = self.wanted
        return self.short


@pytest.fixture
def context() -> Iterator[Context]:
    made = make_context(max_workers=8)
    yield made
    made.destroy(linger=0)


@pytest.fixture
def inbox(context: Context) -> Iterator[Inbox]:
    with closing(Inbox(context, f"tcp://127.0.0.1:{free_port()}", None, 1000)) as made:
        yield made


def arrives(inbox: Inbox) -> None:
    """A frame comes in."""
    with plain(zmq.PUSH, inbox.endpoint) as peer:
        peer.send(b"frame")
        assert wait_for(inbox.receive, "a frame").bytes == b"frame"


def connections(listener: Listener) -> int:
    """Those that it has been told of by now."""
    listener.strangers()
    return listener.connections


def opened(doors: Doors, listener: Listener) -> bool:
    """Whether it listens after a tick."""
    doors.look(9.0)
    return listener.listening


def test_the_crowded_door_is_shut_and_opened_again(context: Context, inbox: Inbox) -> None:
    descriptors, links = FewDescriptors(), [Link(context, "tcp://127.0.0.1:*") for _ in range(2)]
    doors = Doors(Waiter(), [inbox], lambda: links, 8, descriptors)
    with ExitStack() as stack:
        for link in links:
            stack.enter_context(closing(link))
        flood = [stack.enter_context(plain(zmq.PULL, links[1].endpoint)) for _ in range(5)]
        wait_for(lambda: connections(links[1]) == len(flood), "the flood")
        doors.look(1.0)
        assert all(door.listening for door in (inbox, *links))
        descriptors.wanted = True
        doors.look(2.0)
        assert [door.listening for door in (inbox, *links)] == [True, True, False]
        assert not doors.may_join(2.0)
        assert links[1].connections == 0
        wait_for(lambda: not links[1].connected(), "the end of the flood")
        descriptors.wanted = False
        wait_for(lambda: opened(doors, links[1]), "the door to be open again")
        assert doors.may_join(3.0)
        wait_for(links[1].connected, "a peer that came back")


def test_a_flood_is_met_in_the_turn_in_which_it_comes(inbox: Inbox) -> None:
    descriptors = FewDescriptors()
    doors = Doors(Waiter(), [inbox], list, 8, descriptors)
    doors.come_and_gone({inbox.events}, 1.0)
    assert inbox.listening
    descriptors.wanted = True
    doors.come_and_gone(set(), 2.0)
    assert inbox.listening
    doors.come_and_gone({inbox.events}, 2.0)
    assert not inbox.listening
    descriptors.wanted = False
    wait_for(lambda: opened(doors, inbox), "the door to be open again")
    arrives(inbox)


def test_a_door_whose_address_was_taken_is_tried_again(inbox: Inbox, caplog: pytest.LogCaptureFixture) -> None:
    doors = Doors(Waiter(), [inbox], list, 8, Descriptors())
    inbox.pause()
    port = int(inbox.endpoint.rpartition(":")[2])
    thief = wait_for(lambda: _listening(port), "the address")
    with caplog.at_level("ERROR", "supplierd.security"):
        doors.reopen(inbox)
    assert "cannot be bound again yet: Address already in use" in caplog.text
    doors.look(1.0)
    assert not inbox.listening
    assert inbox.receive() is None
    thief.close()
    wait_for(lambda: opened(doors, inbox), "the address to be free")
    arrives(inbox)


def test_a_door_for_which_no_socket_can_be_had_is_shut_until_there_is_one(
    context: Context, inbox: Inbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waiter = Waiter()
    doors = Doors(waiter, [inbox], list, 8, Descriptors())

    with (
        plain(zmq.PUSH, inbox.endpoint),
        caplog.at_level("ERROR", "supplierd.security"),
        monkeypatch.context() as patch,
    ):
        wait_for(lambda: connections(inbox) == 1, "a peer")
        patch.setattr(inbox, "_make", no_socket)
        doors.reopen(inbox)
        assert "cannot be bound again yet: Too many open files" in caplog.text
        doors.look(1.0)
        assert not inbox.listening
        assert inbox.receive() is None
    old = inbox.socket
    wait_for(lambda: opened(doors, inbox), "the door to be open again")
    assert inbox.socket is not old
    assert inbox.socket in waiter.sources.values()
    assert old not in waiter.sources.values()
    arrives(inbox)


def test_a_door_that_has_another_socket_but_not_its_address_is_waited_for_all_the_same(
    context: Context, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiter = Waiter()
    doors = Doors(waiter, [inbox], list, 8, Descriptors())

    with monkeypatch.context() as patch:
        patch.setattr(inbox, "_make", no_socket)
        doors.reopen(inbox)
    port = int(inbox.endpoint.rpartition(":")[2])
    with wait_for(lambda: _listening(port), "the address"):
        doors.look(1.0)
        assert not inbox.listening
        assert not [s for s in waiter.sources.values() if isinstance(s, zmq.Socket) and s.closed]
        doors.come_and_gone(waiter.wait(0.0), 1.0)
    wait_for(lambda: opened(doors, inbox), "the address to be free")
    arrives(inbox)


def _listening(port: int) -> socket.socket | None:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError:
        return None


def test_as_many_may_join_at_once_as_there_can_be(inbox: Inbox) -> None:
    doors = Doors(Waiter(), [inbox], list, 1000, Descriptors())
    assert sum(doors.may_join(1.0) for _ in range(5000)) == 1000 + JOINS_PER_SECOND
    assert sum(doors.may_join(2.0) for _ in range(5000)) == JOINS_PER_SECOND

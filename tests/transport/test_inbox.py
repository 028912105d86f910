"""The inbox on real sockets: the newest only, and each message that libzmq would stumble over."""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import zmq

from supplierd.transport.inbox import QUEUE_DEPTH, Inbox, MultipartError
from supplierd.transport.sockets import Context
from supplierd.wire.endpoints import ipc
from tests.support.daemon import free_port
from tests.support.peers import (
    ZMTP_1,
    Background,
    dropped_by_peer,
    no_socket,
    plain,
    raw_connection,
    raw_push,
    zmtp_1_message,
    zmtp_3_head,
    zmtp_3_part,
)
from tests.support.waiting import wait_for

LIMIT = 1024 * 1024


@pytest.fixture(params=["ipc", "tcp"])
def endpoint(request: pytest.FixtureRequest, home: Path) -> str:
    return ipc(home / "inbox.sock") if request.param == "ipc" else f"tcp://127.0.0.1:{free_port()}"


@pytest.fixture
def inbox(context: Context, endpoint: str) -> Iterator[Inbox]:
    """As suits its endpoint: conflated on ipc, drained on tcp."""
    with closing(Inbox(context, endpoint, None, LIMIT)) as opened:
        yield opened


def received(inbox: Inbox) -> bytes:
    return wait_for(inbox.receive, "a message").bytes


def refused(inbox: Inbox) -> MultipartError | None:
    """The refusal that the next message leads to, once one is there."""
    try:
        inbox.receive()
    except MultipartError as error:
        return error
    return None


def refused_at_last(inbox: Inbox, bad: socket.socket) -> MultipartError:
    """The refusal of a message of several parts. A conflated socket is sent more of them meanwhile, as by a publisher
    that goes on: it keeps one back now and then, where its writer and its reader meet, until the next one comes."""
    bad.sendall(zmtp_3_part(b"part one", more=True))
    if not inbox.conflate:
        bad.sendall(zmtp_3_part(b"part two"))  # a plain socket hands out whole messages only
        return wait_for(lambda: refused(inbox), "the refusal")

    def refusal() -> MultipartError | None:
        error = refused(inbox)
        if error is None:
            bad.sendall(zmtp_3_part(b"another part", more=True))
        return error

    return wait_for(refusal, "the refusal")


def test_each_endpoint_conflates_as_suits_it_unless_told_otherwise(context: Context, home: Path) -> None:
    tcp = "tcp://127.0.0.1:*"
    for endpoint, chosen, conflated in [
        (ipc(home / "a"), None, True),
        (ipc(home / "b"), False, False),
        (tcp, None, False),
        (tcp, True, True),
    ]:
        with closing(Inbox(context, endpoint, chosen, LIMIT)) as inbox:
            assert inbox.conflate is conflated
            assert inbox.socket.get(zmq.CONFLATE) == conflated


def test_nothing_there_is_none(inbox: Inbox) -> None:
    assert inbox.receive() is None


def test_a_message_arrives_without_a_copy(inbox: Inbox) -> None:
    with plain(zmq.PUSH, inbox.endpoint) as peer:
        peer.send(b"frame")
        message = wait_for(inbox.receive, "a message")
        assert isinstance(message, zmq.Frame)
        assert bytes(message.buffer) == b"frame"


def test_a_conflated_inbox_keeps_the_newest_of_each_publisher(context: Context, home: Path) -> None:
    with (
        closing(Inbox(context, ipc(home / "inbox.sock"), True, LIMIT)) as inbox,
        plain(zmq.PUSH, inbox.endpoint) as one,
        plain(zmq.PUSH, inbox.endpoint) as other,
    ):
        for number in range(100):
            one.send(b"one %d" % number)
            other.send(b"other %d" % number)
        last: dict[bytes, bytes] = {}
        count = 0
        while not last.keys() >= {b"one", b"other"} or set(last.values()) != {b"99"}:
            name, number_text = received(inbox).split()
            assert int(number_text) > int(last.get(name, b"-1"))
            last[name] = number_text
            count += 1
        assert count < 200  # it did not queue them all


def test_a_plain_inbox_holds_no_more_than_its_depth(context: Context, home: Path) -> None:
    with (
        closing(Inbox(context, ipc(home / "inbox.sock"), False, LIMIT)) as inbox,
        plain(zmq.PUSH, inbox.endpoint, sndhwm=1) as peer,
    ):
        assert inbox.socket.get(zmq.RCVHWM) == QUEUE_DEPTH
        sent = 0
        while peer.poll(200, zmq.POLLOUT):
            peer.send(bytes(LIMIT))
            sent += 1
        assert 0 < sent <= 4 * QUEUE_DEPTH


def test_a_message_of_several_parts_is_refused_by_name_and_others_go_on(inbox: Inbox, endpoint: str) -> None:
    with plain(zmq.PUSH, endpoint) as good, raw_push(endpoint) as bad:
        good.send(b"before")
        assert received(inbox) == b"before"
        error = refused_at_last(inbox, bad)
        assert "several parts" in str(error)
        assert error.peer

        def returned() -> bool:
            good.send(b"after", zmq.NOBLOCK)
            return inbox.receive() is not None

        wait_for(returned, "the good publisher's return")


def test_where_no_other_socket_can_be_had_after_several_parts_the_one_there_is_is_left_alone(
    context: Context, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To read on would end the process."""
    with closing(Inbox(context, ipc(home / "inbox.sock"), None, LIMIT)) as inbox:
        with raw_push(inbox.endpoint) as bad:
            with monkeypatch.context() as patch:
                patch.setattr(inbox, "_make", no_socket)
                refused_at_last(inbox, bad)
            assert not inbox.listening
            assert inbox.spent
            for _ in range(10):
                assert inbox.receive() is None
        inbox.resume()
        assert not inbox.spent
        with plain(zmq.PUSH, inbox.endpoint) as good:
            good.send(b"good")
            assert received(inbox) == b"good"


def test_many_messages_of_several_parts_in_a_row(inbox: Inbox, endpoint: str) -> None:
    """Each rebuild is survived, though the system may take a moment to give an address back."""
    for _ in range(30):
        with raw_push(endpoint) as bad:
            refused_at_last(inbox, bad)
    with plain(zmq.PUSH, endpoint) as good:
        good.send(b"good")
        assert received(inbox) == b"good"


def test_a_sender_that_leaves_may_take_its_message_along(inbox: Inbox) -> None:
    """Between the question whether a message is there and its receipt it may go, with its connection."""

    def come_and_go() -> None:
        with plain(zmq.PUSH, inbox.endpoint) as peer:
            peer.send(b"frame")
            peer.poll(10, zmq.POLLOUT)

    with Background(come_and_go) as one, Background(come_and_go) as other:
        wanted = one.turns + other.turns + 300
        while one.turns + other.turns < wanted:
            inbox.receive()  # raises nothing


def test_a_message_just_beyond_the_limit_arrives_and_a_much_larger_one_costs_the_connection(
    inbox: Inbox, endpoint: str
) -> None:
    with plain(zmq.PUSH, endpoint) as peer:
        peer.send(bytes(LIMIT + 1))
        assert len(received(inbox)) == LIMIT + 1  # to be refused and counted by whoever reads
    allowed = int(inbox.socket.get(zmq.MAXMSGSIZE))
    assert LIMIT < allowed < 1 << 31
    with raw_push(endpoint) as hostile:
        hostile.sendall(zmtp_3_head(1 << 34))  # 16 GiB to come
        assert dropped_by_peer(hostile)


def test_a_peer_of_an_old_protocol_cannot_put_a_message_in(inbox: Inbox, endpoint: str) -> None:
    """ZMTP/1.0 has no handshake, so no key and no socket type would be looked at."""
    with raw_connection(endpoint) as old:
        old.sendall(ZMTP_1 + zmtp_1_message(b"injected"))
        assert dropped_by_peer(old)
    with plain(zmq.PUSH, endpoint) as peer:
        peer.send(b"honest")
        assert received(inbox) == b"honest"


def test_a_silent_connection_is_dropped(context: Context, home: Path) -> None:
    with closing(Inbox(context, ipc(home / "inbox.sock"), None, LIMIT)) as inbox:
        with raw_connection(inbox.endpoint) as silent:
            assert dropped_by_peer(silent)
        wait_for(lambda: inbox.strangers() == 1, "the stranger to be counted")


def test_an_address_in_use_is_an_error(inbox: Inbox, context: Context, endpoint: str) -> None:
    if endpoint.startswith("tcp://"):
        with pytest.raises(zmq.ZMQError, match="Address already in use"):
            Inbox(context, endpoint, None, LIMIT)

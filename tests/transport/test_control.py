"""The control channel on real sockets: whole messages in, answers out, and nobody can hold the daemon up."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import zmq

from supplierd.transport.control import FAREWELL_MS, MAX_MESSAGE_BYTES, ControlChannel, Peer
from supplierd.transport.sockets import Context
from supplierd.wire.endpoints import ipc
from tests.support.daemon import free_port
from tests.support.peers import ZMTP_1, dropped_by_peer, plain, raw_connection, zmtp_1_message
from tests.support.waiting import wait_for


@pytest.fixture(params=["ipc", "tcp"])
def channel(request: pytest.FixtureRequest, context: Context, home: Path) -> Iterator[ControlChannel]:
    endpoint = ipc(home / "control.sock") if request.param == "ipc" else f"tcp://127.0.0.1:{free_port()}"
    with closing(ControlChannel(context, endpoint)) as opened:
        yield opened


def heard(channel: ControlChannel) -> tuple[Peer, bytes | None]:
    return wait_for(channel.receive, "a message")


def test_it_knows_whether_its_peers_are_local(channel: ControlChannel) -> None:
    assert channel.local is channel.endpoint.startswith("ipc://")


def test_a_question_and_its_answer(channel: ControlChannel) -> None:
    with plain(zmq.DEALER, channel.endpoint) as peer:
        peer.send(b"question")
        sender, question = heard(channel)
        assert question == b"question"
        assert channel.receive() is None
        channel.send(sender, b"answer")
        assert peer.recv() == b"answer"


@pytest.mark.parametrize("parts", [[b"one", b"two"], [b"", b"body"], [b"", b"", b""]])
def test_a_message_of_several_parts_is_given_as_none(channel: ControlChannel, parts: list[bytes]) -> None:
    with plain(zmq.DEALER, channel.endpoint) as peer:
        peer.send_multipart(parts)
        peer.send(b"whole")
        assert heard(channel)[1] is None
        assert heard(channel)[1] == b"whole"


def test_an_answer_to_nobody_is_passed_over(channel: ControlChannel) -> None:
    channel.send(Peer(channel, b"\0nobody"), b"answer")
    with plain(zmq.DEALER, channel.endpoint) as peer:
        peer.send(b"question")
        gone = heard(channel)[0]
    for _ in range(100):
        channel.send(gone, b"answer")


def test_a_peer_that_asks_and_never_reads_does_not_block_the_daemon(channel: ControlChannel) -> None:
    with plain(zmq.DEALER, channel.endpoint, rcvhwm=1) as deaf:
        deaf.send(b"question")
        sender, _ = heard(channel)
        for _ in range(500):
            channel.send(sender, bytes(100_000))
        with plain(zmq.DEALER, channel.endpoint) as other:
            other.send(b"question")
            sender, _ = heard(channel)
            channel.send(sender, b"answer")
            assert other.recv() == b"answer"


def test_a_message_beyond_the_limit_costs_the_connection(channel: ControlChannel) -> None:
    with plain(zmq.DEALER, channel.endpoint, immediate=1) as peer:
        with peer.get_monitor_socket(zmq.Event.DISCONNECTED) as monitor:
            peer.send(bytes(MAX_MESSAGE_BYTES + 1))
            assert monitor.poll(5000)
            peer.disable_monitor()
        assert channel.receive() is None


def test_a_peer_of_an_old_protocol_is_not_heard(channel: ControlChannel) -> None:
    with raw_connection(channel.endpoint) as old:
        old.sendall(ZMTP_1 + zmtp_1_message(b"injected"))
        assert dropped_by_peer(old)
    assert channel.receive() is None


def test_closing_lets_last_words_through(context: Context, home: Path) -> None:
    channel = ControlChannel(context, ipc(home / "control.sock"))
    with plain(zmq.DEALER, channel.endpoint) as peer:
        peer.send(b"question")
        sender, _ = heard(channel)
        channel.send(sender, b"goodbye")
        channel.close()
        assert peer.recv() == b"goodbye"


def test_closing_waits_for_nobody_longer_than_its_farewell(home: Path) -> None:
    assert FAREWELL_MS <= 500  # two of them fit in the two seconds that a stop may take

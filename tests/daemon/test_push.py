"""Delivery `push`: a plain ZeroMQ socket with no client of ours gets every frame at an endpoint of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest
import zmq
from supplierd_client import Publisher

from supplierd.wire import control
from supplierd.wire import frame as wire
from tests.support.daemon import Daemon, assert_adds_up, free_port
from tests.support.peers import Background, PlainSocket, Talk, plain

Daemons = Callable[..., Daemon]


@pytest.fixture(params=["ipc", "tcp"])
def endpoint(request: pytest.FixtureRequest, home: Path) -> str:
    return f"ipc://{home}/plain.sock" if request.param == "ipc" else f"tcp://127.0.0.1:{free_port()}"


@pytest.fixture
def daemon(daemons: Daemons, endpoint: str) -> Daemon:
    document = f"""
        [workers.plain]
        class = "high"
        delivery = "push"
        endpoint = "{endpoint}"
        """
    return daemons(document).start()


def received(peer: PlainSocket) -> tuple[wire.Header, bytes]:
    """The next frame and its payload, as a program without our client reads it."""
    assert peer.poll(10_000), "no frame came"
    message = peer.recv()
    header = wire.decode(message)
    return header, message[header.payload_offset :]


def test_it_gets_every_frame_inline(daemon: Daemon, endpoint: str) -> None:
    with plain(zmq.PULL, endpoint) as peer, Publisher("cam-1", daemon.inbox) as publisher:
        daemon.wait_for_state("plain", "waiting", "starved")
        for number in range(1, 21):
            content = bytes([number]) * 200_000
            publisher.publish(content, encoding="jpeg", metadata={"number": number})
            if not peer.poll(1000):  # now and then libzmq's conflated receiver loses a frame
                publisher.publish(content, encoding="jpeg", metadata={"number": number})
            header, payload = received(peer)
            assert (header.seq, header.encoding, header.metadata) == (publisher.published, "jpeg", {"number": number})
            assert payload == content
        snapshot = daemon.settled(lambda s: s.streams[0].received == 20, "the last frame to be counted")
    assert_adds_up(snapshot)
    (mailbox,) = snapshot.workers[0].mailboxes
    assert (mailbox.offered, mailbox.consumed, sum(mailbox.dropped.values())) == (20, 20, 0)


def test_a_peer_goes_and_comes_back(daemon: Daemon, endpoint: str) -> None:
    with Publisher("cam-1", daemon.inbox) as publisher:
        assert daemon.wait_for_state("plain", "gone").expected
        with Background(lambda: publisher.publish(b"frame"), every=0.02):
            with plain(zmq.PULL, endpoint) as peer:
                before = [received(peer)[0].seq for _ in range(5)]
            daemon.wait_for_state("plain", "gone")
            missed = daemon.settled(
                lambda s: s.workers[0].mailboxes[0].discarded.get("disconnected", 0) >= 5, "frames that nobody gets"
            )
            with plain(zmq.PULL, endpoint) as peer:
                after = [received(peer)[0].seq for _ in range(5)]
    seqs = before + after
    assert seqs == sorted(set(seqs))
    assert after[-1] > missed.streams[0].last_seq
    for snapshot in (missed, daemon.snapshot()):
        assert_adds_up(snapshot)
        mailbox = snapshot.workers[0].mailboxes[0]
        assert mailbox.offered > snapshot.streams[0].received - before[0]  # none is forgotten since its first one


def test_a_peer_that_does_not_read_holds_nobody_up_and_then_gets_the_newest(daemon: Daemon, endpoint: str) -> None:
    frames = 60
    with plain(zmq.PULL, endpoint, rcvhwm=1) as peer, Publisher("cam-1", daemon.inbox) as publisher:
        daemon.wait_for_state("plain", "waiting", "starved")
        for number in range(frames):
            last = daemon.deliver(publisher, bytes([number]) * 1_000_000)
        seqs = [received(peer)[0].seq]
        while seqs[-1] != last:
            seqs.append(received(peer)[0].seq)
    assert seqs == sorted(set(seqs))
    assert len(seqs) < frames / 2
    assert_adds_up(daemon.snapshot())


def test_nobody_can_join_under_its_name(daemon: Daemon) -> None:
    with Talk(daemon.control) as peer:
        answer = peer.ask(control.Join("plain", bytes(16), 1, [1], "", ["*"]))
    assert isinstance(answer, control.Refused)
    assert answer.reason == "push_worker"


def test_a_second_daemon_does_not_get_its_endpoint(daemon: Daemon, daemons: Daemons, endpoint: str) -> None:
    second = daemons(f'[workers.plain]\ndelivery = "push"\nendpoint = "{endpoint}"')
    second.launch()
    assert second.wait() == 1
    assert endpoint.rpartition("/")[2] in second.log()
    with plain(zmq.PULL, endpoint):
        daemon.wait_for_state("plain", "waiting", "starved")

"""Publishers and workers over tcp: a plain inbox drained to the newest, workers' endpoints on ports of their own."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import zmq
from supplierd_client import Publisher, Worker

from supplierd.wire import control
from tests.support.daemon import Daemon, assert_adds_up, free_port
from tests.support.peers import Background, Talk, frame_message, plain

Daemons = Callable[..., Daemon]


class Tcp:
    """A daemon with an inbox and a control channel on tcp."""

    def __init__(self, daemons: Daemons, conflate: str = '"auto"', more: str = "") -> None:
        self.inbox, self.control = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
        document = f"""
            [inbox]
            endpoints = [{{endpoint = "{self.inbox}", conflate = {conflate}}}, "ipc"]
            [control]
            endpoints = ["ipc", "{self.control}"]
            {more}
            """
        self.daemon = daemons(document).start()


@pytest.fixture
def tcp(daemons: Daemons) -> Tcp:
    return Tcp(daemons)


def test_frames_and_workers_over_tcp(tcp: Tcp) -> None:
    with (
        Publisher("cam-1", tcp.inbox) as publisher,
        Worker("far", control=tcp.control) as far,
        Worker("near", control=tcp.daemon.control) as near,
    ):
        for number in range(1, 11):
            content = bytes([number]) * 300_000
            assert publisher.publish(content) == number
            for worker in (far, near):
                frame = worker.read(timeout=10)
                assert frame is not None
                assert frame.seq == number
                assert frame.data == content
    snapshot = tcp.daemon.settled(lambda s: all(w.state == "gone" for w in s.workers), "the workers to leave")
    assert_adds_up(snapshot)
    assert snapshot.streams[0].received == 10
    assert all(w.mailboxes[0].consumed == 10 for w in snapshot.workers)


def test_each_session_has_a_port_of_its_own_within_the_configured_range(daemons: Daemons) -> None:
    """An old session's client, or whoever stole its frames, does not meet the new one's socket."""
    first = free_port()
    tcp = Tcp(daemons, more=f'worker_ports = "{first}-{first + 50}"')
    ports = []
    with Talk(tcp.control) as peer:
        for attempt in range(1, 6):
            answer = peer.ask(control.Join("w", bytes(16), attempt, [control.VERSION], "test", ["*"]))
            assert isinstance(answer, control.Welcome)
            host, _, port = answer.endpoint.rpartition(":")
            assert host == "tcp://*"  # on the host that the client asked, by whatever name
            ports.append(int(port))
    assert len(set(ports)) == 5
    assert all(first <= port <= first + 50 for port in ports)


@pytest.mark.parametrize("conflate", ['"auto"', "true"])
def test_a_daemon_that_stood_still_goes_on_with_the_newest(daemons: Daemons, conflate: str) -> None:
    """What piled up in buffers meanwhile is superseded, and counted as inbox drops; no worker is handed any of it."""
    tcp = Tcp(daemons, conflate)
    with Publisher("cam-1", tcp.inbox) as publisher, Worker("w", control=tcp.daemon.control) as worker:
        publisher.publish(bytes(100_000))
        assert worker.read(timeout=10) is not None
        tcp.daemon.freeze()
        for _ in range(60):
            last = publisher.publish(bytes(100_000))
        with Background(lambda: publisher.publish(bytes(100_000)), every=0.03) as camera:
            camera.wait_turns(10)
            tcp.daemon.thaw()
            frame = worker.read(timeout=10)
            assert frame is not None
            assert frame.seq >= last
            assert frame.age < 1.0
        snapshot = tcp.daemon.settled(lambda s: s.streams[0].last_seq == publisher.published, "the last frame")
    assert_adds_up(snapshot)
    (stream,) = snapshot.streams
    assert stream.dropped["overwritten"] > 30
    assert stream.published == publisher.published


def test_a_drained_inbox_hands_on_the_newest_of_each_stream_only(tcp: Tcp) -> None:
    """Whatever lies in the inbox at once is one arrival for each stream; the rest counts as overwritten on the way."""
    with plain(zmq.PUSH, tcp.inbox) as peer, Worker("w", control=tcp.daemon.control) as worker:
        peer.send(frame_message("a", 1, epoch=1))
        assert worker.read(timeout=10) is not None
        tcp.daemon.freeze()
        for seq in range(2, 42):
            for name in ("a", "b"):
                peer.send(frame_message(name, seq, epoch=1))
        tcp.daemon.thaw()
        snapshot = tcp.daemon.settled(
            lambda s: len(s.streams) == 2 and all(stream.last_seq == 41 for stream in s.streams), "the last frames"
        )
        assert_adds_up(snapshot)
        seen = {"a": [1], "b": [0]}
        while any(seqs[-1] < 41 for seqs in seen.values()):
            frame = worker.read(timeout=10)
            assert frame is not None
            seen[frame.stream].append(frame.seq)
    assert all(older < newer for seqs in seen.values() for older, newer in pairwise(seqs))
    assert all(stream.received < 41 for stream in snapshot.streams)


def test_one_daemon_takes_several_publishers_on_both_inboxes(tcp: Tcp) -> None:
    with (
        Publisher("far", tcp.inbox) as far,
        Publisher("near", tcp.daemon.inbox) as near,
        Worker("w", control=tcp.daemon.control) as worker,
    ):
        seen = set()
        for _ in range(4):
            far.publish(b"far")
            near.publish(b"near")
            frame = worker.read(timeout=10)
            assert frame is not None
            assert bytes(frame.data).decode() == frame.stream
            seen.add(frame.stream)
    assert seen == {"far", "near"}

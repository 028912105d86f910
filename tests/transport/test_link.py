"""A worker's own socket: the newest frame by reference, nobody blocked, and an endpoint that is never used twice."""

from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
import zmq

from supplierd.transport.link import Link, LinkFactory, link_name, remove_dead_links
from supplierd.transport.sockets import WORKERS_PER_IO_THREAD, Context
from supplierd.wire.endpoints import ipc
from tests.support.daemon import free_port
from tests.support.peers import ZMTP_1, dropped_by_peer, plain, raw_connection
from tests.support.waiting import wait_for

LARGE = 6_000_000


@pytest.fixture(params=["ipc", "tcp"])
def link(request: pytest.FixtureRequest, context: Context, home: Path) -> Iterator[Link]:
    endpoint = ipc(home / "w-1.sock") if request.param == "ipc" else "tcp://127.0.0.1:*"
    with closing(Link(context, endpoint)) as opened:
        yield opened


def test_without_a_peer_it_says_so(link: Link) -> None:
    assert not link.connected()
    assert not link.was_connected
    assert link.send(zmq.Frame(b"frame")) is False


def test_a_peer_comes_and_goes(link: Link) -> None:
    """POLLOUT is how the daemon learns that a worker is gone; no heartbeat is asked of it."""
    with plain(zmq.PULL, link.endpoint):
        wait_for(link.connected, "the peer")
    wait_for(lambda: not link.connected(), "the peer's end")
    assert link.was_connected
    assert link.send(zmq.Frame(b"frame")) is False


def test_a_peer_that_does_not_read_gets_the_newest_and_blocks_nobody(link: Link) -> None:
    with plain(zmq.PULL, link.endpoint, rcvhwm=1) as peer:
        wait_for(link.connected, "the peer")
        for number in range(200):
            assert link.send(zmq.Frame(b"%d " % number + bytes(LARGE)))
        got: list[int] = []
        while not got or got[-1] != 199:
            assert peer.poll(5000)
            got.append(int(peer.recv().split()[0]))
        assert got == sorted(set(got))
        assert len(got) < 20


def test_one_frame_goes_to_many_links_by_reference(context: Context, home: Path) -> None:
    """Sending copies nothing: the message's memory is the one that was handed in, and it is let go when all have it."""
    links = [Link(context, ipc(home / f"w-{i}.sock")) for i in range(8)]
    peers_context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    peers = [peers_context.socket(zmq.PULL) for _ in links]
    for peer, link in zip(peers, links, strict=True):
        peer.connect(link.endpoint)
    wait_for(lambda: all(link.connected() for link in links), "the peers")
    tracked = zmq.Frame(bytes(LARGE), track=True, copy=False)
    for link in links:
        assert link.send(tracked)
    tracker = tracked.tracker
    assert tracker is not None
    assert not tracker.done
    for peer in peers:
        assert len(peer.recv()) == LARGE
    del tracked
    tracker.wait(timeout=5)  # raises where somebody still refers to the memory
    for link in links:
        link.close()
    peers_context.destroy(linger=0)


def test_closing_with_a_frame_under_way_does_not_linger(context: Context, home: Path) -> None:
    """LINGER is 0; the default would hang the end of the process for a stopped worker."""
    link = Link(context, ipc(home / "w-1.sock"))
    with plain(zmq.PULL, link.endpoint, rcvhwm=1):
        wait_for(link.connected, "the peer")
        for _ in range(3):
            link.send(zmq.Frame(bytes(LARGE)))
        link.close()
        context.term()  # waits for ever where a socket lingers


def test_closing_removes_the_socket_file(context: Context, home: Path) -> None:
    link = Link(context, ipc(home / "w-1.sock"))
    assert (home / "w-1.sock").is_socket()
    link.close()
    assert not (home / "w-1.sock").exists()


def test_a_peer_of_an_old_protocol_gets_nothing(link: Link) -> None:
    with raw_connection(link.endpoint) as old:
        old.sendall(ZMTP_1)
        assert dropped_by_peer(old)
    assert not link.connected()


def test_a_peer_that_cannot_receive_is_not_a_peer(link: Link) -> None:
    with plain(zmq.PUSH, link.endpoint):
        wait_for(link.strangers, "it to be refused")
        assert not link.connected()


def test_an_endpoint_in_use_is_an_error(context: Context) -> None:
    with closing(Link(context, "tcp://127.0.0.1:*")) as link, pytest.raises(zmq.ZMQError, match="in use"):
        Link(context, link.endpoint)


# --- the factory ---


@pytest.fixture
def factory(context: Context, home: Path) -> LinkFactory:
    return LinkFactory(context, 2, home, range(49152, 65536))


def test_each_link_has_an_endpoint_of_its_own(factory: LinkFactory, home: Path) -> None:
    links = [factory.open(ipc(home / "control.sock")) for _ in range(5)]
    assert len({link.endpoint for link in links}) == 5
    assert all(Path(link.endpoint.removeprefix("ipc://")).parent == home for link in links)
    for link in links:
        link.close()
    assert len({link_name() for _ in range(1000)}) == 1000


def test_tcp_links_walk_through_the_configured_ports(context: Context, home: Path) -> None:
    """A port is used again only after all others: an old session's client does not meet a new one's socket."""
    first = free_port()
    factory = LinkFactory(context, 2, home, range(first, first + 3))
    ports = []
    for _ in range(4):
        link = wait_for(lambda: opened(factory), "a port")
        ports.append(int(link.endpoint.rpartition(":")[2]))
        assert link.endpoint.startswith("tcp://127.0.0.1:")
        link.close()
    assert len(set(ports)) >= 2
    assert all(a != b for a, b in pairwise(ports))


def opened(factory: LinkFactory) -> Link | None:
    try:
        return factory.open("tcp://127.0.0.1:5602")
    except zmq.ZMQError:
        return None  # a closed one's port is not free yet, or somebody else has it


def test_ports_in_use_are_passed_over_and_none_left_is_an_error(context: Context, home: Path) -> None:
    port = free_port()
    factory = LinkFactory(context, 2, home, range(port, port + 1))
    with closing(factory.open("tcp://127.0.0.1:5602")), pytest.raises(zmq.ZMQError, match="in use"):
        factory.open("tcp://127.0.0.1:5602")


def test_workers_share_io_threads_by_eights(factory: LinkFactory, home: Path) -> None:
    links = [factory.open(ipc(home / "control.sock")) for _ in range(2 * WORKERS_PER_IO_THREAD + 1)]
    masks = [int(link.socket.get(zmq.AFFINITY)) for link in links]
    assert masks == [1] * WORKERS_PER_IO_THREAD + [2] * WORKERS_PER_IO_THREAD + [1]
    for link in links:
        link.close()


def test_what_a_killed_daemon_left_is_removed_and_nothing_else(context: Context, home: Path) -> None:
    link = Link(context, ipc(home / "w-abc.sock"))
    (home / "inbox.sock.lock").touch()
    (home / "notes.txt").touch()
    assert remove_dead_links(home) == 1
    assert sorted(path.name for path in home.iterdir()) == ["inbox.sock.lock", "notes.txt"]
    link.close()

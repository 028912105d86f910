"""The bells on real sockets: connections come and go, nobody can hold the daemon up, and last words are heard.

Time is an argument, so nothing here waits: a Unix socket's packets are there when `send` returns.
"""

import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from supplierd.transport.bells import HANDSHAKE, Bell, Bells
from supplierd.transport.control import Peer
from supplierd.transport.sockets import Message
from supplierd.wire import frame
from supplierd.wire.bell import MAX_PACKET, Heads, Hearer, encode_frame
from supplierd.wire.frame import ArenaRef, Header
from tests.support.kernel import kernel

MOST = 4


@pytest.fixture
def bells(home: Path) -> Iterator[Bells]:
    opened = Bells(home / "bell.sock", MOST)
    yield opened
    opened.shut()


@pytest.fixture
def peers(bells: Bells) -> Iterator["Peers"]:
    with closing(Peers(bells)) as made:
        yield made


class Peers:
    """Whoever connects to the bells of a test."""

    def __init__(self, bells: Bells) -> None:
        self._bells = bells
        self._open: list[socket.socket] = []

    def connect(self) -> socket.socket:
        """A connection that the bells have not accepted yet."""
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._open.append(peer)
        peer.settimeout(5.0)
        peer.connect(str(self._bells.path))
        return peer

    def enter(self, now: float = 0.0) -> tuple[socket.socket, Bell]:
        """A connection, and the daemon's end of it."""
        peer = self.connect()
        assert list(self._bells.take(now)) == []
        peer.send(b"hello")
        ((bell, packet),) = self._bells.take(now)
        assert packet == b"hello"
        return peer, bell

    def close(self) -> None:
        for peer in self._open:
            peer.close()


def readable(bells: Bells) -> bool:
    """Whether the loop would wake for the bells."""
    poll = select.poll()
    poll.register(bells.descriptor, select.POLLIN)
    return bool(poll.poll(0))


def slotted(seq: int = 1, **changes: object) -> tuple[Header, Message]:
    """A frame in shared memory."""
    fields = {"encoding": "jpeg", "arena": ArenaRef("cam-1-1f2e3d4c5b6a7988.arena", 1, 2 * seq, 4096, 100), **changes}
    message = frame.encode_head(Header("cam-1", 5, bytes(16), seq, seq, seq, **fields))  # type: ignore[arg-type]
    return frame.decode(message), Message(message)


def ring(bell: Bell, seq: int, heads: Heads) -> bool:
    """Hand a frame over as a parcel does."""
    header, message = slotted(seq)
    number = heads.number(header)
    return bell.ring(number, encode_frame(number, header), message)


def heard(peer: socket.socket, hearer: Hearer) -> int:
    """The number of the next frame."""
    return hearer.frame(memoryview(peer.recv(MAX_PACKET)))[1][0]


def ended(peer: socket.socket) -> bool:
    """Whether the daemon has ended this connection."""
    try:
        return peer.recv(MAX_PACKET) == b""
    except ConnectionResetError:
        return True


# --- coming and going -------------------------------------------------------------------------------------------------


def test_a_packet_and_its_answer(bells: Bells, peers: Peers) -> None:
    peer, bell = peers.enter()
    bell.send(Peer(bell, b""), b"answer")
    assert peer.recv(MAX_PACKET) == b"answer"
    assert not readable(bells)


def test_one_packet_of_each_at_a_time(bells: Bells, peers: Peers) -> None:
    """A flood on one connection does not silence the others."""
    loud, loud_bell = peers.enter()
    calm, calm_bell = peers.enter()
    for number in range(5):
        loud.send(b"%d" % number)
    calm.send(b"calm")
    assert dict(bells.take(0.0)) == {loud_bell: b"0", calm_bell: b"calm"}
    assert [packet for _ in range(4) for _, packet in bells.take(0.0)] == [b"1", b"2", b"3", b"4"]
    assert not readable(bells)


def test_an_end_is_told_once_it_has_come(bells: Bells, peers: Peers) -> None:
    peer, bell = peers.enter()
    peer.send(b"last words")
    peer.close()
    assert list(bells.take(0.0)) == [(bell, b"last words")]
    assert list(bells.take(0.0)) == [(bell, b"")]
    bells.close(bell)
    assert not readable(bells)


def test_last_words_are_heard_of_a_peer_that_left_something_unread(bells: Bells, peers: Peers) -> None:
    """A worker leaves while a frame is on its way to it: the kernel tells of the unread frame first, as a reset, and
    only then gives the LEAVE."""
    peer, bell = peers.enter()
    assert ring(bell, 1, Heads())
    peer.send(b"leave")
    peer.close()
    found = [found for _ in range(3) for found in bells.take(0.0)]
    assert found == [(bell, b"leave"), (bell, b"")]


def test_an_answer_to_somebody_gone_is_passed_over(bells: Bells, peers: Peers) -> None:
    peer, bell = peers.enter()
    peer.close()
    bell.send(Peer(bell, b""), b"answer")
    assert not ring(bell, 1, Heads())
    assert list(bells.take(0.0)) == [(bell, b"")]
    bells.close(bell)
    bells.close(bell)
    bell.send(Peer(bell, b""), b"answer")
    assert not ring(bell, 2, Heads())


def test_what_a_connection_said_before_it_was_closed_is_not_heard(bells: Bells, peers: Peers) -> None:
    """One is closed for what another said, in the same look at them all; a newcomer may get its descriptor."""
    first, second = peers.enter(), peers.enter()
    for peer, _ in (first, second):
        peer.send(b"x")
    given = []
    for bell, packet in bells.take(0.0):
        given.append(packet)
        bells.close(second[1] if bell is first[1] else first[1])
        peers.connect()
    assert given == [b"x"]
    assert [packet for _, packet in bells.take(0.0)] == []


def test_an_empty_packet_is_an_end(bells: Bells, peers: Peers) -> None:
    """The kernel does not tell the two apart, and nobody has a reason to send one."""
    peer, bell = peers.enter()
    peer.send(b"")
    assert list(bells.take(0.0)) == [(bell, b"")]


# --- strangers --------------------------------------------------------------------------------------------------------


def test_more_connections_than_allowed_are_refused_and_counted(bells: Bells, peers: Peers) -> None:
    kept = [peers.enter() for _ in range(MOST)]
    for _ in range(3):
        peer = peers.connect()
        assert list(bells.take(0.0)) == []
        assert ended(peer)
    assert bells.strangers() == 3
    assert bells.strangers() == 0
    for peer, bell in kept:
        peer.send(b"still here")
        assert list(bells.take(0.0)) == [(bell, b"still here")]
    bells.close(kept[0][1])
    peers.enter()  # there is room again


def test_whoever_names_no_session_in_time_is_closed_and_counted(bells: Bells, peers: Peers) -> None:
    silent, _ = peers.enter(now=10.0)
    known, bell = peers.enter(now=10.0)
    late, _ = peers.enter(now=11.0)
    bell.worker = "w"
    bells.sweep(10.0 + HANDSHAKE - 0.01)
    assert bells.strangers() == 0
    bells.sweep(10.0 + HANDSHAKE)
    assert ended(silent)
    assert bells.strangers() == 1
    late.send(b"x")
    assert [packet for _, packet in bells.take(12.5)] == [b"x"]
    bells.sweep(1000.0)
    assert ended(late)
    assert bells.strangers() == 1
    known.send(b"x")
    assert list(bells.take(1000.0)) == [(bell, b"x")]


def test_a_worker_that_ends_is_no_stranger(bells: Bells, peers: Peers) -> None:
    (_, stranger), (_, bell) = peers.enter(), peers.enter()
    bell.worker = "w"
    for one in (stranger, bell):
        bells.close(one)
    assert bells.strangers() == 1


# --- a peer that does not read ----------------------------------------------------------------------------------------


def test_a_peer_that_does_not_read_blocks_nobody(bells: Bells, peers: Peers) -> None:
    deaf, deaf_bell = peers.enter()
    peer, bell = peers.enter()
    heads, hearer, seq = Heads(), Hearer(), 1
    while ring(deaf_bell, seq, heads):
        seq += 1
        assert seq < 100_000, "a peer that does not read is sent ever more"
    deaf_bell.send(Peer(deaf_bell, b""), b"answer")  # passed over
    assert ring(bell, 1, heads)
    assert heard(peer, hearer) == 1
    hearer = Hearer()
    assert [heard(deaf, hearer) for _ in range(seq - 1)] == list(range(1, seq))
    assert ring(deaf_bell, seq, heads)
    assert heard(deaf, hearer) == seq


def test_a_head_that_could_not_be_sent_is_told_later(bells: Bells, peers: Peers) -> None:
    deaf, bell = peers.enter()
    filled = 0
    while True:
        try:
            bell._send(b"x", socket.MSG_DONTWAIT)
        except BlockingIOError:
            break
        filled += 1
    heads = Heads()
    assert not ring(bell, 1, heads)
    assert [deaf.recv(MAX_PACKET) for _ in range(filled)] == [b"x"] * filled
    assert ring(bell, 2, heads)
    assert heard(deaf, Hearer()) == 2


# --- messages that are too long ---------------------------------------------------------------------------------------


def test_a_frame_whose_message_is_too_long_goes_another_way(bells: Bells, peers: Peers) -> None:
    peer, bell = peers.enter()
    heads = Heads()
    header, message = slotted(1, inline="x" * MAX_PACKET)
    number = heads.number(header)
    assert number
    assert not bell.ring(number, encode_frame(number, header), message)
    assert not bell.ring(0, b"", slotted(1)[1])
    assert ring(bell, 2, heads)
    assert heard(peer, Hearer()) == 2


@pytest.mark.skipif(kernel() < (6, 16), reason="this kernel has no SO_PASSRIGHTS")
def test_descriptors_are_refused(bells: Bells, peers: Peers) -> None:
    peer, _ = peers.enter()
    with pytest.raises(PermissionError):
        socket.send_fds(peer, [b"and a descriptor"], [peer.fileno()])
    peer.send(b"none")
    assert [packet for _, packet in bells.take(0.0)] == [b"none"]


def test_a_packet_that_is_too_long_is_cut(bells: Bells, peers: Peers) -> None:
    peer, bell = peers.enter()
    peer.send(b"x" * MAX_PACKET * 3)
    peer.send(b"next")
    assert list(bells.take(0.0)) == [(bell, b"x" * MAX_PACKET)]
    assert list(bells.take(0.0)) == [(bell, b"next")]


# --- the file ---------------------------------------------------------------------------------------------------------


def test_shutting_ends_everything_and_removes_the_file(bells: Bells, peers: Peers) -> None:
    peer, bell = peers.enter()
    bell.send(Peer(bell, b""), b"goodbye")
    waiting = peers.connect()
    bells.shut()
    assert not bells.path.exists()
    assert peer.recv(MAX_PACKET) == b"goodbye"
    assert ended(peer)
    assert ended(waiting)


@pytest.mark.parametrize("left", ["socket", "file", "dangling link"])
def test_what_a_killed_daemon_left_is_no_obstacle(home: Path, left: str) -> None:
    path = home / "bell.sock"
    match left:
        case "socket":
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as former:
                former.bind(str(path))
        case "file":
            path.write_text("")
        case _:
            path.symlink_to("elsewhere")
    bells = Bells(path, MOST)
    with closing(Peers(bells)) as peers:
        peers.enter()
    bells.shut()


@pytest.mark.parametrize("where", ["no such directory/bell.sock", "taken", "x" * 120])
def test_a_path_that_cannot_be_bound_leaves_nothing_open(home: Path, where: str) -> None:
    (home / "taken").mkdir()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match=r"No such file|Is a directory|path too long|File name too long"):
        Bells(home / where, MOST)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# --- out of descriptors -----------------------------------------------------------------------------------------------

OUT_OF_DESCRIPTORS = """
import os, pathlib, resource, select, socket, sys
from supplierd.transport.bells import Bells

bells = Bells(pathlib.Path(sys.argv[1]), 10)
known, newcomer = (socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2))
known.connect(str(bells.path))
assert list(bells.take(0.0)) == []
free = os.dup(0)
os.close(free)
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
try:
    os.close(os.dup(0))
    raise AssertionError("there is a descriptor left")
except OSError:
    pass
poll = select.poll()
poll.register(bells.descriptor, select.POLLIN)
newcomer.connect(str(bells.path))
for now in (1.0, 1.25):
    assert poll.poll(0), "nobody knocks"
    assert list(bells.take(now)) == []
    assert not poll.poll(0), "the loop would turn without a pause"
    known.send(b"known")
    assert poll.poll(0)
    assert [packet for _, packet in bells.take(now)] == [b"known"]
    bells.sweep(now)
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
newcomer.send(b"new")
assert list(bells.take(1.5)) == []
assert [packet for _, packet in bells.take(1.5)] == [b"new"]
bells.shut()
print("well")
"""


def test_without_a_descriptor_left_whoever_knocks_waits(home: Path) -> None:
    """The daemon neither ends nor turns without a pause; those that are connected are heard meanwhile."""
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_DESCRIPTORS, home / "bell.sock"], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "well", done.stderr

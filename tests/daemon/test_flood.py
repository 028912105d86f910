"""Two seconds of what can abort libzmq: messages of several parts, at full speed, into a conflated inbox.

A publisher that does everything right goes on meanwhile; it is thrown out whenever the socket is rebuilt, and returns.
The flood comes from bare connections, since libzmq as a sender may abort of it, too.
"""

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import zmq
from supplierd_client import Publisher, Worker

from tests.support.daemon import Daemon, assert_adds_up, free_port
from tests.support.peers import Background, plain, raw_push, zmtp_3_part
from tests.support.processes import Actor
from tests.support.waiting import DEADLINE, wait_for


@pytest.mark.parametrize(("inbox", "seconds"), [("ipc", 2.0), ("tcp", 0.5), ("conflated tcp", 1.0)])
def test_messages_of_several_parts_at_full_speed(
    daemons: Callable[..., Daemon], actor: Callable[..., Actor], inbox: str, seconds: float
) -> None:
    tcp = f"tcp://127.0.0.1:{free_port()}"
    endpoint = {"ipc": '"ipc"', "tcp": f'"{tcp}"', "conflated tcp": f'{{endpoint = "{tcp}", conflate = true}}'}[inbox]
    daemon = daemons(f"[inbox]\nendpoints = [{endpoint}]").start()
    address = daemon.inbox if inbox == "ipc" else tcp
    worker = actor("work", control=daemon.control, name="w")

    parts = (os.urandom(8), b"", os.urandom(20_000))
    message = b"".join([*(zmtp_3_part(part, more=True) for part in parts), zmtp_3_part(b"end")])

    def flood() -> None:
        with suppress(OSError), raw_push(address) as peer:  # the socket may be away for a moment
            for _ in range(200):
                peer.sendall(message)

    with Publisher("cam-1", address, shared_memory="off") as publisher:
        good = Background(lambda: publisher.publish(bytes(10_000)), every=0.02)
        with good, Background(flood), Background(flood):
            end = time.monotonic() + seconds
            wait_for(lambda: time.monotonic() > end)
            turns = good.turns
        assert turns >= seconds / 0.02 / 4  # the publisher was never held up
        assert daemon.running
        assert "Traceback" not in daemon.log()
        seen = len(worker.frames)
        with Background(lambda: publisher.publish(bytes(10_000)), every=0.02):
            worker.wait_frames(10, deadline=3)
        assert len(worker.frames) >= seen + 10
    rejected = daemon.snapshot().rejected
    assert rejected.get("multipart", 0) > 0, rejected
    assert_adds_up(daemon.snapshot())
    assert len(daemon.logged("message refused")) < 8 * (seconds + 2)


def test_connections_that_come_and_go_at_full_speed(daemon: Daemon, actor: Callable[..., Actor]) -> None:
    """Neither descriptors nor sockets run out: each is given back."""
    worker = actor("work", control=daemon.control, name="w")
    actor("publish", inbox=daemon.inbox, stream="cam-1", fps=50)
    worker.wait_frames(3)
    before = len(os.listdir(f"/proc/{daemon.pid}/fd"))

    def come_and_go() -> None:
        for endpoint, kind in ((daemon.inbox, zmq.PUSH), (daemon.control, zmq.DEALER)):
            with plain(kind, endpoint) as peer:
                peer.send(b"rubbish")
                peer.poll(10, zmq.POLLOUT)

    with Background(come_and_go) as a, Background(come_and_go) as b:
        a.wait_turns(100)
        b.wait_turns(100)
    worker.wait_frames(3)
    wait_for(lambda: len(os.listdir(f"/proc/{daemon.pid}/fd")) <= before + 4, "the descriptors to be given back")


def knock(path: Path) -> None:
    """Connect to a socket, and be gone again: for libzmq three events."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as stranger:  # closed for a moment
        stranger.setblocking(False)
        stranger.connect(os.fspath(path))


@pytest.mark.parametrize("ends", ["a leave", "a stop"])
def test_connections_to_one_workers_socket_harm_nobody_else(
    daemons: Callable[..., Daemon], actor: Callable[..., Actor], ends: str
) -> None:
    """It is closed, and its worker gets another one; whoever leaves or stops meanwhile does not wait for ever."""
    daemon = daemons("control.bell = false").start()  # all workers' frames go over ZeroMQ
    actor("publish", inbox=daemon.inbox, stream="cam-1", fps=100)
    other = actor("work", control=daemon.control, name="other")
    other.wait_frames(3)
    (its,) = daemon.runtime_dir.glob("w-*.sock")
    with Worker("flooded", ["cam-1"], daemon.control) as worker:
        assert worker.read(DEADLINE)
        (link,) = {*daemon.runtime_dir.glob("w-*.sock")} - {its}
        with Background(lambda: knock(link)) as flood:
            flood.wait_turns(3000)
            other.wait_frames(30, deadline=3)
            if ends == "a leave":
                worker.close()
                other.wait_frames(30, deadline=3)
            assert daemon.stop() < 2.0


def test_connections_to_a_push_workers_socket_close_it_for_a_moment(daemons: Callable[..., Daemon], home: Path) -> None:
    path = home / "plain.sock"
    daemon = daemons(f'[workers.plain]\ndelivery = "push"\nendpoint = "ipc://{path}"').start()
    with Publisher("cam-1", daemon.inbox) as publisher, plain(zmq.PULL, f"ipc://{path}") as peer:
        with Background(lambda: knock(path)):
            wait_for(lambda: daemon.logged("a flood of connections"), "it to be shut")
        with Background(lambda: publisher.publish(bytes(1000)), every=0.02):
            wait_for(lambda: peer.poll(100) and peer.recv(), "a frame")
    assert_adds_up(daemon.snapshot())

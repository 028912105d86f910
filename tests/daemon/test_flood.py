"""Two seconds of what can abort libzmq: messages of several parts, at full speed, into a conflated inbox.

A publisher that does everything right goes on meanwhile; it is thrown out whenever the socket is rebuilt, and returns.
The flood comes from bare connections, since libzmq as a sender may abort of it, too.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
import zmq
from supplierd_client import Publisher

from tests.support.daemon import Daemon, assert_adds_up, free_port
from tests.support.peers import Background, plain, raw_push, zmtp_3_part
from tests.support.processes import Actor
from tests.support.waiting import wait_for


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

"""The worker's end of a bell, on a real socket: last words are heard, and a fork does not put its end off."""

import os
import socket
from pathlib import Path

import pytest
from supplierd_client import Publisher, Worker, channel
from supplierd_client.bell import Bell, HungUpError

from supplierd.transport.bells import Bells
from supplierd.transport.control import Peer
from tests.support.daemon import Daemon, exchange
from tests.support.fixtures import short_directory
from tests.support.waiting import DEADLINE


def test_last_words_are_heard_although_a_demand_was_left_unread() -> None:
    """The kernel tells of a reset first, once, and gives the packets only then."""
    with short_directory() as home:
        bells = Bells(Path(home) / "bell.sock", 2)
        bell = Bell(str(bells.path))
        try:
            assert list(bells.take(0.0)) == []
            assert bell.send(b"demand")
            ((end, _),) = bells.take(0.0)
            assert bell.send(b"another demand")
            end.send(Peer(end, b""), b"goodbye")
            bells.close(end)
            packet = bell.receive() or bell.receive()
            assert packet is not None
            assert bytes(packet) == b"goodbye"
            with pytest.raises(HungUpError):
                bell.receive()
        finally:
            bell.close()
            bells.shut()


def test_a_forked_child_does_not_keep_the_connection_open() -> None:
    with short_directory() as home, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"{home}/bell.sock")
        listener.listen()
        bell = Bell(f"{home}/bell.sock")
        peer, _ = listener.accept()
        ended, end = os.pipe()
        child = os.fork()
        if not child:
            os.close(end)
            os.read(ended, 1)  # until the parent has seen what it wants to see
            os._exit(0)
        try:
            bell.close()
            peer.settimeout(DEADLINE)
            assert peer.recv(1) == b""  # while the child lives
            assert os.waitpid(child, os.WNOHANG) == (0, 0)
        finally:
            os.close(ended)
            os.close(end)
            os.waitpid(child, 0)
            peer.close()


def test_a_handler_that_raises_while_a_frame_is_taken_costs_that_frame_alone(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the session has taken is not heard again: it would answer the next demand, and each one after it."""

    def interrupted(*_: object) -> None:
        monkeypatch.undo()
        raise InterruptedError

    with Publisher("cam-1", daemon.inbox) as publisher, Worker("w", ["cam-1"], daemon.control) as worker:
        exchange(publisher, worker, bytes(10_000))
        monkeypatch.setattr(channel, "Frame", interrupted)
        worker._express = None  # the long way, where Frame is the module's
        publisher.publish(bytes(10_000))
        with pytest.raises(InterruptedError):
            worker.read(DEADLINE)
        for _ in range(5):
            seq = publisher.publish(bytes(10_000))
            frame = worker.read(DEADLINE)
            assert frame is not None
            assert frame.seq == seq
        found = daemon.mailbox("w", "cam-1")
        assert found is not None
        assert not found.discarded

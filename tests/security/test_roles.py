"""What a key opens, on real sockets: its own door, and no other."""

from contextlib import closing

import pytest
import zmq
from supplierd_client import RefusedError

from supplierd.transport.monitor import NoAnswerError
from supplierd.wire import control
from tests.security.stage import Stage, connected, join
from tests.support.peers import ZMTP_1, dropped_by_peer, frame_message, raw_connection, zmtp_1_message
from tests.support.waiting import wait_for

DOORS = {"inbox": zmq.PUSH, "control": zmq.DEALER, "push": zmq.PULL}


def endpoint_of(stage: Stage, door: str) -> str:
    return {"inbox": stage.inbox, "control": stage.control, "push": stage.push}[door]


def test_with_its_key_everybody_does_its_work(shared: Stage) -> None:
    with shared.publisher("cam-1") as publisher, shared.worker("pose") as worker:
        publisher.publish(b"picture")
        frame = worker.read(10.0)
        assert frame is not None
        assert (frame.stream, bytes(frame.data)) == ("cam-1", b"picture")
        with shared.keys.socket(zmq.PULL, shared.push, "plain") as plain:
            shared.daemon.wait_for_state("plain", "waiting", "starved", "busy")
            publisher.publish(b"another")
            assert plain.poll(10_000)
    with closing(shared.monitor("ops")) as ops:
        assert ops.snapshot(10.0)["streams"][0][0] == "cam-1"
    assert not [reason for reason in shared.daemon.snapshot().rejected if reason.startswith("denied_")]


@pytest.mark.parametrize(
    ("door", "key", "reason"),
    [
        ("inbox", "unknown", "denied_stranger"),
        ("inbox", "pose", "denied_worker"),
        ("inbox", "ops", "denied_monitor"),
        ("control", "unknown", "denied_stranger"),
        ("control", "cam-1", "denied_publisher"),
        ("push", "unknown", "denied_stranger"),
        ("push", "pose", "denied_worker"),
        ("push", "ops", "denied_monitor"),
        ("push", "cam-1", "denied_publisher"),
    ],
)
def test_another_key_does_not_get_in(shared: Stage, door: str, key: str, reason: str) -> None:
    if key == "unknown":
        shared.keys.make(key)
    shared.daemon.wait_for_state("plain", "gone")
    with (
        shared.refuses(reason) as refused,
        shared.keys.socket(DOORS[door], endpoint_of(shared, door), key) as peer,
    ):
        refused()
        assert door == "push" or not peer.poll(0, zmq.POLLOUT)
    found = shared.daemon.worker("plain")
    assert found is not None
    assert found.state == "gone"


@pytest.mark.parametrize("door", DOORS)
def test_without_a_key_nobody_gets_in(shared: Stage, door: str) -> None:
    """Neither a client of today, nor one of the old protocol, which knows no handshake."""
    endpoint = endpoint_of(shared, door)
    before = shared.daemon.rejected("no_handshake")
    with shared.keys.socket(DOORS[door], endpoint, None), raw_connection(endpoint) as old:
        old.sendall(ZMTP_1 + zmtp_1_message(frame_message("injected")))
        assert dropped_by_peer(old)
        shared.daemon.wait_for_rejected("no_handshake", before + 2)
    assert shared.daemon.stream("injected") is None


def test_nobody_can_pass_for_the_daemon(shared: Stage) -> None:
    """A client that knows another daemon's public key does not talk to this one."""
    other = shared.keys.make("other-daemon")
    before = shared.daemon.rejected("no_handshake")
    with shared.keys.socket(zmq.PUSH, shared.inbox, "cam-1", server=other.public) as peer:
        shared.daemon.wait_for_rejected("no_handshake", before + 1)
        assert not peer.poll(0, zmq.POLLOUT)


def test_a_stream_that_is_not_the_keys_is_refused_and_counted(shared: Stage) -> None:
    with shared.publisher("cam-2") as publisher, shared.keys.socket(zmq.PUSH, shared.inbox, "cam-1") as thief:
        with shared.refuses("denied_publisher", 3):
            for seq in (1, 2, 3):
                connected(thief).send(frame_message("cam-2", seq))
        publisher.publish(b"true")
        wait_for(lambda: shared.received("cam-2"), "the true frame")
    found = shared.daemon.stream("cam-2")
    assert found is not None
    assert (found.epoch, found.received) == (publisher.epoch, 1)
    assert "key_name=cam-1 stream=cam-2" in shared.daemon.logged("frame refused")[0]


def test_a_frame_over_tcp_cannot_name_shared_memory_of_this_machine(shared: Stage) -> None:
    """Else a publisher could pass another stream's pictures off as its own."""
    before = shared.received("cam-1")
    message = frame_message("cam-1", payload=b"", arena=("cam-2.1.arena", 0, 1, 4096, 10))
    with shared.refuses("no_arena") as refused, shared.keys.socket(zmq.PUSH, shared.inbox, "cam-1") as peer:
        connected(peer).send(message)
        refused()
    assert shared.received("cam-1") == before


def test_a_worker_cannot_join_as_another(shared: Stage) -> None:
    with (
        shared.refuses("denied_worker"),
        shared.worker("pose", worker="flow") as worker,
        pytest.raises(RefusedError, match="may not be worker 'flow'") as caught,
    ):
        worker.read(10.0)
    assert caught.value.reason == "not_allowed"
    assert shared.daemon.worker("flow") is None


def test_a_monitor_cannot_join(shared: Stage) -> None:
    with shared.refuses("denied_monitor"), shared.talk("ops") as ask:
        answer = ask(join("ops"))
    assert isinstance(answer, control.Refused)
    assert answer.reason == "not_allowed"


def test_statistics_are_for_monitors(shared: Stage) -> None:
    with (
        shared.refuses("denied_worker"),
        closing(shared.monitor("pose")) as spy,
        pytest.raises(NoAnswerError, match="may not say STATS"),
    ):
        spy.snapshot(10.0)


def test_anothers_session_number_is_worth_nothing(shared: Stage) -> None:
    with shared.talk("pose") as pose, shared.talk("flow") as flow:
        welcome = pose(join("pose"))
        assert isinstance(welcome, control.Welcome)
        for message in (
            control.Demand(welcome.session, 1),
            control.Recheck(welcome.session, 1),
            control.Leave(welcome.session),
        ):
            with shared.refuses("denied_worker"):
                answer = flow(message)
            assert isinstance(answer, control.Error)
            assert answer.reason == "not_allowed"


def test_a_workers_key_opens_that_workers_endpoint_and_no_other(shared: Stage) -> None:
    with shared.talk("pose") as ask, shared.publisher("cam-1") as publisher:
        welcome = ask(join("pose", attempt=2))
        assert isinstance(welcome, control.Welcome)
        endpoint = welcome.endpoint.replace("tcp://*", shared.control.rpartition(":")[0])
        with (
            shared.refuses("denied_worker") as refused,
            shared.keys.socket(zmq.PULL, endpoint, "flow") as thief,
        ):
            refused()
            with shared.keys.socket(zmq.PULL, endpoint, "pose") as own:
                publisher.publish(b"picture")
                ask(control.Demand(welcome.session, 1), answered=False)
                assert own.poll(10_000)
            assert not thief.poll(0)

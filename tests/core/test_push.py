"""Push workers: plain ZeroMQ sockets that get every frame, and of which nothing more is known."""

import pytest

from supplierd.core.service import WorkerPolicy
from supplierd.core.supplier import Delivery, Supplier
from supplierd.core.worker import State, Worker
from tests.core.builders import Camera, Process, delivered, frame, mailbox_pictured, supplier


@pytest.fixture
def core() -> Supplier:
    policies = {
        "every": WorkerPolicy(push=True, configured=True),
        "one": WorkerPolicy(push=True, configured=True, streams=("cam-1",)),
        "paced": WorkerPolicy(push=True, configured=True, streams=("cam-1",), target_fps=2.0),
    }
    return supplier(policies, max_streams=3)


@pytest.fixture
def camera() -> Camera:
    return Camera()


def opened(core: Supplier, name: str, now: float = 0.0) -> Worker:
    worker = core.workers[name]
    core.open_push_worker(worker, now)
    return worker


def push(core: Supplier, deliveries: list[Delivery], now: float = 0.0) -> list[str]:
    """Send, as a transport does whose sockets take everything."""
    for delivery in deliveries:
        core.pushed(delivery, now)
    return [delivery.worker.name for delivery in deliveries]


def counts(core: Supplier, name: str) -> dict[str, int]:
    return Process(core, name).counts


def test_it_gets_every_frame_and_is_waiting_again(core: Supplier, camera: Camera) -> None:
    worker = opened(core, "one")
    assert worker.state is State.WAITING
    for step in range(5):
        assert push(core, core.frame(camera.shoot(), step * 0.1), step * 0.1) == ["one"]
        assert worker.state is State.WAITING
    assert counts(core, "one") == {"offered": 5, "consumed": 5}
    mailbox = mailbox_pictured(core, "one")
    assert (mailbox.last_consumed_at, mailbox.last_consumed_seq) == (1000.4, 5)


def test_before_its_socket_has_a_peer_it_gets_nothing(core: Supplier, camera: Camera) -> None:
    assert core.frame(camera.shoot(), 0.0) == []
    worker = opened(core, "one")
    assert push(core, core.tick(0.1)) == ["one"]  # a newcomer starts with the newest frame
    core.disconnected(worker, 1.0)
    for step in (1.0, 2.0):
        assert core.frame(camera.shoot(), step) == []
    assert counts(core, "one") == {"offered": 3, "consumed": 1, "disconnected": 1, "pending": 1}


def test_another_peer_is_a_newcomer_too(core: Supplier) -> None:
    worker = opened(core, "one")
    push(core, core.frame(last := frame(), 0.0))
    core.disconnected(worker, 1.0)
    core.tick(1000.0)
    opened(core, "one", 1000.0)
    assert delivered(core.tick(1000.0)) == {"one": last}


def test_what_the_socket_does_not_take_waits_for_the_next(core: Supplier, camera: Camera) -> None:
    worker = opened(core, "one")
    for delivery in core.frame(camera.shoot(), 0.0):
        core.undelivered(delivery)
    assert worker.state is State.WAITING
    assert push(core, core.frame(camera.shoot(), 0.1)) == ["one"]
    assert counts(core, "one") == {"offered": 2, "overwritten": 1, "consumed": 1}


def test_every_stream_also_those_that_appear_later(core: Supplier) -> None:
    core.frame(frame(stream="a"), 0.0)
    opened(core, "every")
    assert push(core, core.tick(0.0)) == ["every"]
    assert push(core, core.frame(frame(stream="b"), 0.0)) == ["every"]
    assert push(core, core.frame(frame(stream="a", seq=2), 0.0)) == ["every"]


def test_a_promised_rate_holds_for_it_as_well(core: Supplier, camera: Camera) -> None:
    opened(core, "paced")
    pushed = [push(core, core.frame(camera.shoot(), step / 10), step / 10) for step in range(40)]
    assert pushed == [["paced"] if step % 5 == 0 else [] for step in range(40)]
    assert counts(core, "paced") == {"offered": 40, "consumed": 8, "decimated": 31, "pending": 1}


def test_a_full_daemon_still_opens_it(core: Supplier) -> None:
    for stream in ("a", "b", "c"):
        core.frame(frame(stream=stream), 0.0)
    worker = opened(core, "one")  # its cam-1 does not fit any more
    assert worker.connected
    assert worker.mailboxes == {}
    assert push(core, core.frame(frame(stream="a", seq=2), 0.0)) == []

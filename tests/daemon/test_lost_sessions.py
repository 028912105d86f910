"""When a session counts as lost: not before its connection was there, and not before a LEAVE had its chance."""

from dataclasses import dataclass
from typing import cast

from supplierd.core.service import WorkerPolicy
from supplierd.core.worker import Worker
from supplierd.daemon.sessions import CONNECT_GRACE, LEAVE_GRACE, Session
from supplierd.transport.link import Link


@dataclass
class FakeLink:
    """A link whose peer comes and goes as the test says."""

    there: bool = False
    was_connected: bool = False
    handshakes: int = 0
    flooded: bool = False

    def connected(self) -> bool:
        self.was_connected = self.was_connected or self.there
        return self.there


def session(link: FakeLink) -> Session:
    return Session(Worker("w", WorkerPolicy()), cast(Link, link), None, b"", opened_at=0.0)


def test_a_worker_has_time_to_connect() -> None:
    one = session(FakeLink())
    assert not one.lost(CONNECT_GRACE - 0.1)
    assert one.lost(CONNECT_GRACE)


def test_a_session_outlives_its_connection_for_a_moment() -> None:
    link = FakeLink(there=True)
    one = session(link)
    assert not one.lost(100.0)
    link.there = False
    assert not one.lost(101.0)
    assert not one.lost(101.0 + LEAVE_GRACE / 2)
    assert one.lost(101.0 + LEAVE_GRACE + 0.01)


def test_a_connection_that_returns_is_no_loss() -> None:
    link = FakeLink(there=True)
    one = session(link)
    assert not one.lost(1.0)
    link.there = False
    assert not one.lost(2.0)
    link.there = True
    assert not one.lost(3.0)
    link.there = False
    assert not one.lost(4.0)
    assert one.lost(4.0 + LEAVE_GRACE + 0.01)


def test_a_client_that_connects_again_has_lost_what_was_under_way() -> None:
    link = FakeLink(there=True, handshakes=1)
    one = session(link)
    assert not one.lost(1.0)
    link.handshakes = 2
    assert one.lost(2.0)

"""The worker's end of a bell, on a real socket: what was said before its end is heard."""

from pathlib import Path

import pytest
from supplierd_client.bell import Bell, HungUpError

from supplierd.transport.bells import Bells
from supplierd.transport.control import Peer
from tests.support.fixtures import short_directory


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

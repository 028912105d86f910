"""Where the doorbell of an inbox is, and what is said there first."""

import socket
from pathlib import Path

import pytest

from supplierd.wire.doorbell import GREETING, doorbell_path
from supplierd.wire.endpoints import MAX_IPC_PATH_BYTES, inbox_endpoint
from tests.support.fixtures import short_directory

LONGEST = MAX_IPC_PATH_BYTES - len("/.bell")


def test_it_is_beside_the_inbox() -> None:
    assert doorbell_path(inbox_endpoint(Path("/run/supplierd"))) == "/run/supplierd/inbox.sock.bell"


@pytest.mark.parametrize("inbox", ["tcp://127.0.0.1:5555", "tcp://*:5555", "/run/inbox.sock", ""])
def test_what_is_not_on_this_machine_has_none(inbox: str) -> None:
    assert doorbell_path(inbox) == ""


@pytest.mark.parametrize(
    ("name", "has_one"),
    [("a" * LONGEST, True), ("a" * (LONGEST + 1), False), ("é" * (LONGEST // 2), True), ("é" * LONGEST, False)],
)
def test_a_path_that_leaves_no_room_has_none(name: str, has_one: bool) -> None:
    """Bytes count, not characters."""
    assert doorbell_path(f"ipc:///{name}") == (f"/{name}.bell" if has_one else "")


def test_the_longest_path_can_be_bound() -> None:
    with short_directory() as home, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        inbox = f"ipc://{home}/{'a' * (LONGEST - len(str(home)))}"
        listener.bind(doorbell_path(inbox))
        assert doorbell_path(f"{inbox}a") == ""


def test_the_greeting_names_the_format_of_the_messages() -> None:
    assert GREETING == b"SPLF\x01"

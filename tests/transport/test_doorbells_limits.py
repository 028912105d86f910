"""The doorbells where something is short: places, descriptors, room for a path; and the files that they leave."""

import fcntl
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supplierd.transport import doorbells as module
from supplierd.transport.doorbells import MOST, Doorbells
from supplierd.transport.inbox import Inbox
from supplierd.transport.sockets import Context
from supplierd.wire.doorbell import doorbell_path
from tests.support.doorbells import Enter, Knocker, open_files, readable, taken

LIMIT = 100_000


# --- how many ---------------------------------------------------------------------------------------------------------


def test_there_are_never_more_than_so_many(
    doorbells: Doorbells, enter: Enter, inboxes: list[Inbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    there = [enter(inbox) for inbox in (*inboxes, inboxes[0])]
    before = open_files()
    for inbox in inboxes:
        late = enter(inbox, greeted=False)
        assert taken(doorbells) == []
        assert late.refused()
        late.close()
    assert open_files() == before
    there[1].close()
    assert taken(doorbells) == []
    there[1] = enter(inboxes[1])
    for number, knocker in enumerate(there):
        knocker.put(b"%d" % number)
    assert sorted(taken(doorbells)) == [b"0", b"1", b"2"]


def test_all_that_may_be_there_are_heard(doorbells: Doorbells, enter: Enter) -> None:
    knockers = [enter() for _ in range(MOST)]
    for number, knocker in enumerate(knockers):
        knocker.put(b"%d" % number)
    assert sorted(map(int, taken(doorbells))) == list(range(MOST))


@pytest.mark.parametrize("what", ["memfd_create", "ftruncate", "fcntl", "eventfd", "register", "again", "send_fds"])
def test_who_cannot_be_let_in_is_refused(
    doorbells: Doorbells, enter: Enter, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The kernel has no room for one more, be it of descriptors or of what it watches, for the eventfd or the line."""

    def fail(*_: object) -> None:
        raise OSError(24, "too many")

    calm, before = enter(), open_files()
    late = enter(greeted=False)
    with monkeypatch.context() as patch:
        if what in ("register", "again"):
            real = doorbells._epoll
            registers: Iterator[Callable[..., None]] = iter([real.register, fail] if what == "again" else [fail])

            class Full:
                poll, unregister, modify = real.poll, real.unregister, real.modify

                def register(self, *arguments: int) -> None:
                    next(registers)(*arguments)

            patch.setattr(doorbells, "_epoll", Full())
        else:
            (owner,) = (one for one in (os, fcntl, socket) if hasattr(one, what))
            patch.setattr(owner, what, fail)
        assert taken(doorbells) == []
    assert late.refused()
    late.close()
    assert open_files() == before
    assert not readable(doorbells)
    enter().put(b"new")
    calm.put(b"calm")
    assert sorted(taken(doorbells)) == [b"calm", b"new"]


OUT_OF_DESCRIPTORS = """
import os, resource, select, socket, sys, types
sys.path[:0] = sys.argv[2:]
from supplierd.transport.doorbells import Doorbells
from supplierd.wire.doorbell import encode_put
from tests.support.doorbells import Knocker

doorbells = Doorbells([types.SimpleNamespace(endpoint="ipc://" + sys.argv[1])])
known = Knocker(sys.argv[1] + ".doorbell")
assert list(doorbells.take()) == []
known.enter()
newcomers = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(3)]
free = os.dup(0)
os.close(free)
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
poll = select.poll()
poll.register(doorbells.descriptor, select.POLLIN)


def taken():
    known.put(b"known")
    return [message for _, message in doorbells.take()]


for left, newcomer in zip((1, 2, 0), newcomers):  # of the three that each takes
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + left, limits[1]))
    newcomer.connect(sys.argv[1] + ".doorbell")
    for _ in range(2):
        assert poll.poll(0) or left, "nobody knocks"
        assert taken() == [b"known"]
        assert not poll.poll(0), "the loop would turn without a pause"
        doorbells.sweep()
    assert not left or newcomer.recv(1) == b""
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
assert taken() == [b"known"]
greeting, (file, told), _, _ = socket.recv_fds(newcomers[-1], 100, 2)
os.pwrite(file, encode_put(1, b"new"), 0)
os.eventfd_write(told, 1)
assert sorted([*taken(), *taken()]) == [b"known", b"known", b"new"]
doorbells.close()
print("well")
"""


def test_without_descriptors_nobody_is_let_in_and_the_others_are_heard(home: Path) -> None:
    """Whoever knocks waits, or is refused and comes again; the daemon neither ends nor turns without a pause."""
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_DESCRIPTORS, home / "inbox", *sys.path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "well", done.stderr


# --- the files --------------------------------------------------------------------------------------------------------


def test_closing_ends_everything_and_removes_the_files(inboxes: list[Inbox]) -> None:
    before = open_files()
    doorbells = Doorbells(inboxes)
    paths = [Path(doorbell_path(inbox.endpoint)) for inbox in inboxes]
    with Knocker(paths[0]) as there, Knocker(paths[1]) as waiting:
        assert taken(doorbells) == []
        there.enter().put(b"too late")
        doorbells.close()
        assert there.refused()
        assert waiting.refused()
    assert not any(path.exists() for path in paths)
    assert open_files() == before


def test_inboxes_that_can_have_none_have_none(context: Context, home: Path) -> None:
    endpoints = f"ipc://{home}/{'a' * (106 - len(str(home)))}", "tcp://127.0.0.1:*"
    inboxes = [Inbox(context, endpoint, None, LIMIT) for endpoint in endpoints]
    doorbells = Doorbells(inboxes)
    assert not readable(doorbells)
    assert taken(doorbells) == []
    doorbells.sweep()
    doorbells.close()
    for inbox in inboxes:
        inbox.close()
    assert not list(home.glob("*.doorbell"))


def test_the_mode_is_the_inboxs(inboxes: list[Inbox]) -> None:
    before = os.umask(0o117)
    try:
        doorbells = Doorbells(inboxes)
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path(doorbell_path(inboxes[0].endpoint)).stat().st_mode) == 0o660
    doorbells.close()


@pytest.mark.parametrize("left", ["socket", "dangling link"])
def test_what_a_killed_daemon_left_is_no_obstacle(inboxes: list[Inbox], left: str) -> None:
    path = Path(doorbell_path(inboxes[0].endpoint))
    if left == "socket":
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as former:
            former.bind(str(path))
    else:
        path.symlink_to("elsewhere")
    doorbells = Doorbells(inboxes)
    with Knocker(path) as knocker:
        assert taken(doorbells) == []
        knocker.enter().put(b"1")
        assert taken(doorbells) == [b"1"]
    doorbells.close()


def test_a_path_that_cannot_be_bound_is_named_and_leaves_nothing(inboxes: list[Inbox]) -> None:
    first, second = (Path(doorbell_path(inbox.endpoint)) for inbox in inboxes)
    second.mkdir()
    before = open_files()
    with pytest.raises(IsADirectoryError) as raised:
        Doorbells(inboxes)
    assert (raised.value.filename, raised.value.strerror) == (str(second), "Is a directory")
    assert open_files() == before
    assert not first.exists()

"""What writes behind a doorbell: in Python and in C the same bytes, and the same care for a daemon that is gone."""

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from supplierd_client import putter

from supplierd.wire.bell import MAX_PACKET
from supplierd.wire.doorbell import NOTHING, PUT, SIZE, decode_put, encode_put
from tests.support.twins import both

every_module = pytest.mark.parametrize("module", both(putter))


class End:
    """A daemon's end of a doorbell."""

    def __init__(self, stack: ExitStack) -> None:
        ours, self.line = map(stack.enter_context, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        self.file, self.event = os.memfd_create("putter"), os.eventfd(0, os.EFD_NONBLOCK)
        for descriptor in (self.file, self.event):
            stack.callback(os.close, descriptor)
        self.given = ours.fileno(), self.file, self.event

    def content(self) -> bytes:
        return os.pread(self.file, SIZE, 0)

    def told(self) -> int:
        """How often, since the last look."""
        try:
            return os.eventfd_read(self.event)
        except BlockingIOError:
            return 0


@pytest.fixture
def end() -> Iterator[End]:
    with ExitStack() as stack:
        yield End(stack)


@every_module
@given(messages=st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=4))
def test_each_put_is_what_the_wire_format_says(module: Any, messages: list[bytes]) -> None:
    with ExitStack() as stack:
        end = End(stack)
        writes = module.Putter(*end.given)
        for number, message in enumerate(messages, 1):
            assert writes.put(message)
            assert end.content()[: PUT.size + len(message)] == encode_put(number, message)
            assert end.told() == 1


@every_module
def test_how_long_it_may_be(module: Any, end: End) -> None:
    writes = module.Putter(*end.given)
    longest = os.urandom(MAX_PACKET)
    assert writes.put(longest)
    assert decode_put(end.content()) == (1, longest)
    with pytest.raises(ValueError, match=f"a message of {MAX_PACKET + 1} bytes: expected at most {MAX_PACKET}"):
        writes.put(longest + b"x")
    assert decode_put(end.content()) == (1, longest)


@every_module
def test_none_is_no_message(module: Any, end: End) -> None:
    with pytest.raises(TypeError):
        module.Putter(*end.given).put(None)
    assert end.told() == 0


@every_module
def test_a_write_that_is_cut_short_is_none(module: Any, end: End) -> None:
    writes, before = module.Putter(*end.given), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (PUT.size, before[1]))
    try:
        assert not writes.put(b"12345678")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert end.told() == 0


@every_module
def test_what_was_put_can_be_taken_back_and_nobody_is_told(module: Any, end: End) -> None:
    writes = module.Putter(*end.given)
    writes.put(b"1")
    assert end.told() == 1
    assert writes.take_back()
    assert end.content()[: PUT.size] == NOTHING
    assert end.told() == 0
    assert writes.put(b"2")
    assert decode_put(end.content()) == (2, b"2")


@every_module
@pytest.mark.parametrize("gone", [True, False], ids=["gone", "says more"])
def test_nothing_is_written_for_a_daemon_that_is_none(module: Any, end: End, gone: bool) -> None:
    writes = module.Putter(*end.given)
    writes.put(b"1")
    before = end.content()
    if gone:
        end.line.close()
    else:
        end.line.send(b"more")
    assert not writes.put(b"2")
    assert not writes.take_back()
    assert end.content() == before
    assert end.told() == 1


@every_module
@pytest.mark.parametrize("which", [0, 1, 2], ids=["line", "file", "event"])
def test_a_descriptor_that_is_none(module: Any, end: End, which: int) -> None:
    given = list(end.given)
    given[which] = os.dup(end.line.fileno())
    os.close(given[which])
    assert not module.Putter(*given).put(b"1")


@every_module
def test_a_daemon_that_cannot_be_told(module: Any, end: End) -> None:
    os.eventfd_write(end.event, 2**64 - 2)  # all that it holds
    assert not module.Putter(*end.given).put(b"1")

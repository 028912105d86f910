"""What signals say to the daemon, whenever they come."""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from supplierd.daemon.serve import _Signals


@pytest.fixture
def signals() -> Iterator[_Signals]:
    """Those of this process, whose handlers are then as before."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    former = [signal.getsignal(number) for number in numbers]
    with ExitStack() as stack:
        yield _Signals(stack)
    for number, handler in zip(numbers, former, strict=True):
        signal.signal(number, handler)


class Interrupting:
    """A socket that has a signal come in the moment in which it is found empty."""

    def __init__(self, real: object) -> None:
        self._real = real
        self.interrupts = 1

    def recv(self, size: int) -> bytes:
        try:
            return self._real.recv(size)  # type: ignore[attr-defined, no-any-return]
        except BlockingIOError:
            if self.interrupts:
                self.interrupts -= 1
                os.kill(os.getpid(), signal.SIGHUP)
            raise


def wakes(signals: _Signals) -> bool:
    """Whether the loop would not wait now."""
    return bool(select.select([signals.descriptor], [], [], 0.0)[0])


def test_each_reload_is_taken_once(signals: _Signals) -> None:
    assert not signals.take_reload()
    signal.raise_signal(signal.SIGHUP)
    signal.raise_signal(signal.SIGHUP)
    assert wakes(signals)
    assert signals.take_reload()
    assert not wakes(signals)
    assert not signals.take_reload()


def test_a_reload_that_comes_while_one_is_taken_is_taken_next(
    signals: _Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "_wake", Interrupting(signals._wake))
    signal.raise_signal(signal.SIGHUP)
    assert signals.take_reload()
    assert wakes(signals)
    assert signals.take_reload()
    assert not wakes(signals), "else the loop spins"


def test_the_first_stop_counts(signals: _Signals) -> None:
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)
    assert signals.stopped_by == signal.SIGTERM
    assert wakes(signals)

"""`supplierd top` itself: a thread asks the daemon, the main thread draws and takes keys.

The daemon is asked at most once a second, by the thread's own clock: neither keys nor drawing ask it anything. A daemon
that does not answer is asked again until it does.
"""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol

from supplierd.core.snapshot import Snapshot
from supplierd.top.layout import ASCII, BLOCKS
from supplierd.top.model import printable
from supplierd.top.screen import Screen
from supplierd.top.terminal import Terminal
from supplierd.transport.monitor import Monitor, NoAnswerError
from supplierd.transport.sockets import TransportError
from supplierd.wire.errors import WireError
from supplierd.wire.keys import ClientKeys

INTERVAL: Final = 1.0
"""Seconds between two questions to the daemon, at least."""
ANSWER_WITHIN: Final = 2.0
LEAVE_WITHIN: Final = 0.2
"""Seconds that the end waits for an answer under way: whoever presses q is not made to wait for a daemon."""

Answer = Snapshot | str
"""A snapshot, or why there is none."""


class Source(Protocol):
    """Who can be asked: Monitor."""

    def snapshot(self, timeout: float) -> dict[str, Any]:
        """The daemon's snapshot, or NoAnswerError."""

    def close(self) -> None:
        """Disconnect."""


class TopError(Exception):
    """It cannot run here; the text says why and what to do."""


class Poller:
    """Asks for snapshots in a thread of its own, and hands on each answer there.

    Args:
        monitor: whom to ask; the poller closes it.
        deliver: is called with each answer.
        interval: seconds between two questions, at least.
    """

    def __init__(self, monitor: Source, deliver: Callable[[Answer], None], interval: float = INTERVAL) -> None:
        self._monitor = monitor
        self._deliver = deliver
        self._interval = interval
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="poller", daemon=True)

    def start(self) -> None:
        """Ask from now on."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Ask no more; waits at most `timeout` seconds for an answer under way."""
        self._ending.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._ending.is_set():
            asked = time.monotonic()
            answer = self._ask()
            if not self._ending.is_set():
                self._deliver(answer)
            self._ending.wait(max(asked + self._interval - time.monotonic(), 0.0))
        self._monitor.close()

    def _ask(self) -> Answer:
        try:
            answer = self._monitor.snapshot(ANSWER_WITHIN)
        except (NoAnswerError, WireError, TransportError) as error:
            return str(printable(str(error)))
        try:
            return Snapshot.from_wire(printable(answer))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return "what answers there gives no snapshot that this program reads: use the programs of one version"


def show(endpoint: str, keys: ClientKeys | None = None) -> None:
    """Show the daemon live until q is pressed.

    Args:
        endpoint: of its control channel.
        keys: where it asks for them.

    Raises:
        TopError: this is no terminal.
        supplierd.transport.sockets.TransportError: the endpoint is none.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM", "dumb") == "dumb":
        raise TopError("top needs a terminal: use `supplierd stats` here, or `supplierd stats --watch`")
    asyncio.run(_show(endpoint, keys))


async def _show(endpoint: str, keys: ClientKeys | None) -> None:
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    failures: list[BaseException] = []
    with Terminal() as terminal:
        screen = Screen(endpoint, BLOCKS if terminal.blocks else ASCII)

        def draw() -> None:
            width, height = terminal.console.size
            terminal.draw(screen.lines(width, height, time.monotonic()))

        def take(answer: Answer) -> None:
            if isinstance(answer, str):
                screen.miss(answer, time.monotonic())
            else:
                screen.answer(answer, time.monotonic())
            draw()

        def deliver(answer: Answer) -> None:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(take, answer)

        def press() -> None:
            for key in terminal.read():
                if key == "q" and screen.quits:
                    done.set()
                screen.press(key)
            draw()

        def resize() -> None:
            terminal.forget()
            draw()

        def suspend() -> None:
            terminal.leave()
            os.kill(os.getpid(), signal.SIGSTOP)
            terminal.enter()
            draw()

        def fail(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            failures.append(context.get("exception") or RuntimeError(context["message"]))
            done.set()

        loop.set_exception_handler(fail)
        loop.add_signal_handler(signal.SIGWINCH, resize)
        loop.add_signal_handler(signal.SIGTSTP, suspend)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, done.set)
        loop.add_reader(sys.stdin.fileno(), press)
        poller = Poller(Monitor(endpoint, keys), deliver)
        poller.start()
        draw()
        try:
            await done.wait()
        finally:
            loop.remove_reader(sys.stdin.fileno())
            poller.stop(LEAVE_WITHIN)
    if failures:
        raise failures[0]

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
        except (ValueError, RecursionError):
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
    with Terminal() as terminal:
        app = _App(terminal, Screen(endpoint, BLOCKS if terminal.blocks else ASCII))
        await app.run(Monitor(endpoint, keys))
    if app.failure:
        raise app.failure


class _App:
    """What happens, and what is done about it; all of it in the loop's thread but `_deliver`."""

    def __init__(self, terminal: Terminal, screen: Screen) -> None:
        self.failure: BaseException | None = None
        self._terminal = terminal
        self._screen = screen
        self._loop = asyncio.get_running_loop()
        self._done = asyncio.Event()

    async def run(self, monitor: Monitor) -> None:
        """Show what the monitor says until somebody ends it."""
        loop, keyboard = self._loop, sys.stdin.fileno()
        loop.set_exception_handler(self._fail)
        loop.add_signal_handler(signal.SIGWINCH, self._resize)
        loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._done.set)
        loop.add_reader(keyboard, self._press)
        poller = Poller(monitor, self._deliver)
        poller.start()
        self._draw()
        await self._done.wait()
        loop.remove_reader(keyboard)
        poller.stop(LEAVE_WITHIN)

    def _draw(self) -> None:
        width, height = self._terminal.console.size
        self._terminal.draw(self._screen.lines(width, height, time.monotonic()))

    def _deliver(self, answer: Answer) -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(self._take, answer)

    def _take(self, answer: Answer) -> None:
        if isinstance(answer, str):
            self._screen.miss(answer, time.monotonic())
        else:
            self._screen.answer(answer, time.monotonic())
        self._draw()

    def _press(self) -> None:
        try:
            pressed = self._terminal.read()
        except EOFError:
            self._loop.remove_reader(sys.stdin.fileno())
            self._done.set()
            return
        for key in pressed:
            if key == "q" and self._screen.quits:
                self._done.set()
            self._screen.press(key)
        self._draw()

    def _resize(self) -> None:
        self._terminal.forget()
        self._draw()

    def _suspend(self) -> None:
        self._terminal.leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._terminal.enter()
        self._draw()

    def _fail(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.failure = context.get("exception") or RuntimeError(context["message"])
        self._done.set()

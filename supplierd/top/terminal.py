"""The terminal: keys come in one by one, and only lines that have changed go out.

Nothing is left behind: whatever ends the program, the screen, the cursor and the line editing are as they were. One
write per frame; at 80×24 some hundred bytes, so that a slow line keeps up.
"""

import os
import re
import sys
import termios
import tty
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.text import Text

_ENTER: Final = "\x1b[?1049h\x1b[?25l"  # the alternate screen, no cursor
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_KEY: Final = re.compile(r"\x1b[\[O][0-?]*[@-~]|\x1b[\[O]?|.", re.DOTALL)
_NAMES: Final = {
    "\r": "enter", "\n": "enter", "\x1b": "escape", "\x7f": "backspace", "\b": "backspace",
    "\x1b[A": "up", "\x1bOA": "up", "\x1b[B": "down", "\x1bOB": "down",
    "\x1b[5~": "pageup", "\x1b[6~": "pagedown",
    "\x1b[H": "home", "\x1bOH": "home", "\x1b[1~": "home", "\x1b[F": "end", "\x1bOF": "end", "\x1b[4~": "end",
}  # fmt: skip


def keys(data: bytes) -> list[str]:
    """The keys that a terminal's bytes stand for: characters, or names such as "up"; what has no name is left out."""
    found = (_NAMES.get(key, key) for key in _KEY.findall(data.decode(errors="ignore")))
    return [key for key in found if key.isprintable()]


class Terminal:
    """This process's terminal, taken over for as long as the context lasts."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self._input, self._output = sys.stdin.fileno(), sys.stdout.fileno()
        self._before = termios.tcgetattr(self._input)
        self._lines: list[str] = []

    @property
    def blocks(self) -> bool:
        """Whether it has the block characters of a sparkline: the kernel's console does not."""
        return self.console.encoding.startswith("utf") and os.environ.get("TERM") != "linux"

    def __enter__(self) -> Self:
        self.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def enter(self) -> None:
        """Take the terminal over."""
        tty.setcbreak(self._input)
        self._write(_ENTER)
        self.forget()

    def leave(self) -> None:
        """Give it back as it was; a terminal that is gone needs nothing."""
        with suppress(OSError, termios.error):
            self._write(_LEAVE)
            termios.tcsetattr(self._input, termios.TCSADRAIN, self._before)

    def read(self) -> list[str]:
        """The keys that were pressed.

        Raises:
            EOFError: the terminal is gone.
        """
        try:
            data = os.read(self._input, 1024)
        except OSError:
            data = b""
        if not data:
            raise EOFError
        return keys(data)

    def forget(self) -> None:
        """What was drawn may be there no more: the next frame is drawn whole."""
        self._lines = []

    def draw(self, lines: Sequence[Text]) -> None:
        """Make these the screen's lines."""
        new = [self._encoded(text) for text in lines]
        changed = "" if self._lines else "\x1b[2J"
        for i, text in enumerate(new):
            if i >= len(self._lines) or self._lines[i] != text:
                changed += f"\x1b[{i + 1};1H\x1b[2K{text}"  # erased first: at the last column, it would take that away
        if len(new) < len(self._lines):
            changed += f"\x1b[{len(new) + 1};1H\x1b[J"
        self._lines = new
        self._write(changed)

    def _encoded(self, text: Text) -> str:
        with self.console.capture() as capture:
            self.console.print(text, end="", no_wrap=True, overflow="crop", soft_wrap=True)
        return capture.get()

    def _write(self, text: str) -> None:
        data = text.encode(self.console.encoding, "replace")
        while data:  # not buffered: what a lost terminal leaves in a buffer makes Python's exit status 120
            data = data[os.write(self._output, data) :]

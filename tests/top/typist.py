"""`supplierd top` as a real process on a pseudo-terminal: type, and read what the screen shows.

The screen is rebuilt from what the program writes: lines at positions, within the alternate screen.
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import threading
from collections.abc import Mapping

from tests.support.daemon import command_line, environment, has_stopped
from tests.support.waiting import wait_for

_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_WRITTEN = re.compile(r"\x1b\[(?P<row>\d+);1H(?:\x1b\[2K(?P<text>[^\x1b]*)|\x1b\[J)|(?P<all>\x1b\[2J)")


class Typist:
    """A `supplierd top` and its terminal.

    Args:
        arguments: of the command.
        size: columns and lines.
        environ: more environment variables.
    """

    def __init__(
        self, *arguments: object, size: tuple[int, int] = (80, 24), environ: Mapping[str, str] | None = None
    ) -> None:
        command = command_line("top", *arguments)
        variables = {"TERM": "xterm-256color", **environment(environ)}
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.execve(command[0], command, variables)
        self.size = size
        self.resize(*size)
        self.written = ""
        self.status: int | None = None
        self._hung_up = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def resize(self, columns: int, lines: int) -> None:
        """Another size; the program is told."""
        self.size = (columns, lines)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._terminal, keys.encode())

    @property
    def lines(self) -> list[str]:
        """What the screen shows."""
        shown = [""] * self.size[1]
        for found in _WRITTEN.finditer(_STYLE.sub("", self.written)):
            if found["all"]:
                shown = [""] * self.size[1]
            elif int(found["row"]) <= len(shown):
                shown[int(found["row"]) - 1] = found["text"] or ""
        return shown

    def sees(self, text: str) -> bool:
        """Whether the screen shows `text`."""
        return any(text in line for line in self.lines)

    def wait_for(self, text: str, gone: bool = False) -> str:
        """Wait until the screen shows `text` (or no more); the line."""
        try:
            wait_for(lambda: self.sees(text) is not gone)
        except AssertionError:
            shown = "\n".join(self.lines)
            raise AssertionError(f"waited in vain for {text!r} {'to go from' if gone else 'in'}\n{shown}") from None
        return next((line for line in self.lines if text in line), "")

    def suspend(self) -> None:
        """Ctrl-Z."""
        self.type("\x1a")
        wait_for(lambda: has_stopped(self.pid), "top to be suspended")

    def resume(self) -> None:
        """As the shell's fg."""
        os.kill(self.pid, signal.SIGCONT)

    def end(self) -> int:
        """Its exit status, once it has ended."""
        wait_for(self._ended, "top to end")
        assert self.status is not None
        return self.status

    @property
    def modes(self) -> int:
        """The terminal's local modes: echo, line editing."""
        return int(termios.tcgetattr(self._terminal)[3])

    def hang_up(self) -> None:
        """Close the terminal, as a lost connection does."""
        if not self._hung_up:
            self._hung_up = True
            self._reader.join()
            os.close(self._terminal)

    def close(self) -> None:
        """Make sure that it is gone."""
        if not self._ended():
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self.hang_up()

    def _ended(self) -> bool:
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status is not None

    def _read(self) -> None:
        while not self._hung_up:
            if select.select([self._terminal], [], [], 0.02)[0]:
                try:
                    self.written += os.read(self._terminal, 65536).decode(errors="replace")
                except OSError:  # the other end is closed
                    return

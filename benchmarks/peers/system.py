"""What an adapter provides: how a system is started, how a frame gets in, how a frame gets out, what it can report.

Adapters only move frames. Pacing, stamps, clocks and counting are the same for all, in parts.py. Third-party modules
are imported inside functions: the driver lists a system that is not installed with the reason, and goes on.
"""

import importlib.util
import shutil
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]


@dataclass
class Place:
    """Where and with what a system runs.

    Attributes:
        folder: of its own, on tmpfs: for sockets and files.
        shape: of a frame.
        workers: how many.
        ports: free tcp ports on loopback, one and another for each worker.
        address: what the broker wants the other parts to know.
    """

    folder: Path
    shape: tuple[int, ...]
    workers: int
    ports: list[int]
    address: dict[str, Any]

    @property
    def size(self) -> int:
        """Bytes of a frame."""
        return int(np.prod(self.shape))


class Broker:
    """What runs besides publisher and workers; this one: nothing."""

    def pids(self) -> list[int]:
        """The processes whose cost counts."""
        return []

    def drops(self) -> int | None:
        """Frames that it says were dropped so far; None: it cannot say."""
        return None

    def close(self) -> None:
        """End it."""


class Sender(ABC):
    """The publisher's side."""

    def picture(self, place: Place) -> Picture:
        """Where the next frame is written; a system that lends memory lends it here.

        The default is a new array, as a decoder gives it, that nobody writes to again: safe to be sent by reference.
        """
        return np.empty(place.shape, np.uint8)

    @abstractmethod
    def publish(self, picture: Picture) -> None:
        """Send what `picture` gave."""

    def drops(self) -> int | None:
        """Frames that it says were dropped so far; None: it cannot say."""
        return None

    def close(self) -> None:  # noqa: B027 (most need not)
        """End it."""


class CopyingSender(Sender):
    """A publisher's side that has copied the frame before `publish` returns: one array, written again and again."""

    _own: Picture | None = None

    def picture(self, place: Place) -> Picture:
        """The one array."""
        if self._own is None:
            self._own = np.empty(place.shape, np.uint8)
        return self._own


class Receiver(ABC):
    """A worker's side. Either `receive` is called in a loop, or `serve` is overridden to call back."""

    @abstractmethod
    def receive(self) -> Picture | None:
        """The next frame, as an array; None: none within a quarter of a second, or so."""

    def serve(self, take: Callable[[Picture], None], ended: Callable[[], bool]) -> None:
        """Give each frame to `take`, until `ended`."""
        while not ended():
            picture = self.receive()
            if picture is not None:
                take(picture)
            del picture  # no frame is held while waiting for the next

    def drops(self) -> int | None:
        """Frames that it says were dropped so far; None: it cannot say."""
        return None

    def close(self) -> None:  # noqa: B027
        """End it."""


class System(ABC):
    """A system to be measured.

    Attributes:
        name: on the command line and in results.
        settings: which ones were chosen, for the reader.
        leftovers: patterns of files in /dev/shm that it may leave behind when its processes are ended hard; {folder} is
            the name of the place's. Those new since the start are removed.
        by_default: whether it is measured when no system is named.
        max_workers: more are not tried; None: any number.
    """

    name: str
    settings: str
    leftovers: tuple[str, ...] = ()
    by_default: bool = True
    max_workers: int | None = None

    def missing(self) -> str | None:
        """Why it cannot run here; None: it can."""
        return None

    def version(self) -> str:
        """Of what was measured."""
        return ""

    def broker(self, place: Place) -> Broker:
        """Start what runs besides, and put into `place.address` what others need to know."""
        del place
        return Broker()

    @abstractmethod
    def sender(self, place: Place) -> Sender:
        """The publisher's side, ready to publish."""

    @abstractmethod
    def receiver(self, place: Place, index: int) -> Receiver:
        """The side of worker number `index`, ready to receive."""

    def warm(self) -> None:  # noqa: B027
        """Import what the workers need, before they are forked."""


def lacks_module(*names: str) -> str | None:
    """Which Python modules are not installed."""
    lacking = [name for name in names if importlib.util.find_spec(name) is None]
    return f"not installed: Python module {', '.join(lacking)}{_why()}" if lacking else None


def lacks_program(name: str) -> str | None:
    """Whether a program is not installed."""
    return None if shutil.which(name) else f"not installed: program {name}{_why()}"


def _why() -> str:
    """What tools/peers-install noted, if it did."""
    notes = Path(sys.prefix, "not-installed")
    said = notes.read_text().split("\n") if notes.exists() else []
    return "".join(f"; {line}" for line in said if line)


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody uses now."""
    holders = [socket.socket() for _ in range(count)]
    for holder in holders:
        holder.bind(("127.0.0.1", 0))
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    return ports

"""What the daemon carries: a frame's message, and for one in shared memory a lease on its slot.

A parcel lives as long as the core refers to it, as a stream's newest frame or as one under way to a worker, and so does
its lease: the slot that a descriptor in a mailbox or a socket names is never used again meanwhile. A worker that cannot
read arenas gets the payload in a message of its own, copied once for all such workers. The daemon reads arenas by
system calls and maps none, so that a damaged one cannot end it with SIGBUS.
"""

import os
import time
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

from supplierd.arena import (
    ArenaDirectory,
    ArenaError,
    ArenaReader,
    ArenaUnavailableError,
    Janitor,
    Lease,
    Reason,
    StaleDescriptorError,
    arena_directory,
    discard_directory,
    inspect,
    prepare_directory,
    stream_of,
)
from supplierd.core.snapshot import ArenaSnapshot
from supplierd.transport.bells import Bell
from supplierd.transport.sockets import Message
from supplierd.wire import frame
from supplierd.wire.bell import Heads, encode_frame
from supplierd.wire.errors import WireError

INLINE_REASONS: Final = frozenset({"off", "small", "no_slot", "remote", *(reason.value for reason in Reason)})
SWEEP: Final = 5.0
"""Seconds between two sweeps for arenas of publishers that have died."""
SWEEP_AT_MOST: Final = 0.005
"""Seconds after which one rests: the memory of a single arena of raw frames may take longer to give back."""
SWEEP_ON: Final = 0.25
"""Seconds after which it goes on then: else publishers that die often leave arenas faster than they are removed."""
STATE_OF: Final = 256
"""Files of the arenas' directory that are looked at for one snapshot, beside those of known streams."""
STATE_AT_MOST: Final = 0.03
"""Seconds of that."""
OTHER: Final = "other"
"""Stands for a reason that this daemon does not know: a peer cannot invent labels."""


def known_reason(reason: str) -> str:
    """A peer's reason for sending or wanting payloads inline, as a label."""
    return reason if reason in INLINE_REASONS else OTHER


class Parcel:
    """A frame on its way through the daemon.

    Attributes:
        message: the whole of it.
        head: number of its head; -1 before that is known.
        short: its short form, where it has one.
    """

    __slots__ = ("_header", "_heads", "_inline", "_lease", "_tried", "head", "message", "short")

    def __init__(self, header: frame.Header, message: Message, lease: Lease | None, heads: Heads) -> None:
        self.message = message
        self._heads = heads
        self.head = -1
        self.short = b""
        self._header = header
        self._lease = lease
        self._inline: Message | None = None
        self._tried = False

    def ring(self, bell: Bell) -> bool:
        """Hand it over by a bell; False where it must go another way."""
        if self.head < 0:
            self.head = self._heads.number(self._header)
            if self.head:
                self.short = encode_frame(self.head, self._header)
        return bell.ring(self.head, self.short, self.message)

    def inline(self, most: int) -> Message | None:
        """The message for a worker that cannot read arenas; None where that cannot be: the payload has more than `most`
        bytes, or its arena turns out to be damaged."""
        if self._lease is None:
            return self.message
        if self._inline is None and not self._tried and self._header.payload_size <= most:
            self._tried = True  # a damaged one is looked at once, however many workers want it
            head = frame.inline_head(self.message.buffer, self._header)
            with suppress(ArenaError, MemoryError):
                whole = bytearray(len(head) + self._header.payload_size)
                whole[: len(head)] = head
                self._lease.read_into(memoryview(whole)[len(head) :])
                self._inline = Message(whole)
        return self._inline


class Parcels:
    """Makes parcels, and looks after the arenas of one runtime directory.

    Attributes:
        heads: numbers of what frames have in common.
        reader: of the arenas.
        warning: what an operator should know about the place of the arenas; None where all is well.
    """

    def __init__(self, runtime_dir: Path) -> None:
        self._directory = arena_directory(runtime_dir)
        self.heads = Heads()
        self.reader = ArenaReader(self._directory)  # where no arena can be made, there may be some to read
        self._janitor = Janitor(self._directory)
        self._sweep_at = 0.0
        self._prepared: ArenaDirectory | None = None
        try:
            self._prepared = prepare_directory(runtime_dir)
            self.warning = self._prepared.warning
        except ArenaUnavailableError as error:
            self.warning = str(error)

    def make(self, header: frame.Header, message: Message) -> Parcel:
        """A parcel for a frame that arrived.

        Raises:
            WireError: its descriptor names nothing that can be leased.
        """
        if header.arena is None:
            return Parcel(header, message, None, self.heads)
        if stream_of(header.arena.file) != header.stream:  # else one stream could have any number of files opened
            raise WireError("no_arena", f"a frame of {header.stream} names {header.arena.file!r:.100}, not its own")
        try:
            return Parcel(header, message, self.reader.lease(header.arena), self.heads)
        except StaleDescriptorError as error:
            raise WireError("stale_descriptor", str(error)) from None
        except ArenaError as error:
            raise WireError("no_arena", str(error)) from None

    def state(self) -> tuple[ArenaSnapshot, ...]:
        """Slots and memory of each stream's arenas, by asking the kernel."""
        found: dict[str, ArenaSnapshot] = {}
        others: list[str] = []
        with suppress(OSError), os.scandir(self._directory) as entries:
            others = [entry.name for entry in islice(entries, STATE_OF)]
        until = time.monotonic() + STATE_AT_MOST
        for name in dict.fromkeys((*self.reader.arenas, *filter(stream_of, others))):
            if time.monotonic() >= until:
                break
            try:
                info = inspect(self._directory / name)
            except (ArenaError, OSError):
                continue  # it went away, or is none
            before = found.get(info.stream, ArenaSnapshot(info.stream, 0, 0, 0))
            found[info.stream] = ArenaSnapshot(
                info.stream, before.bytes + info.bytes, before.free + info.free, before.leased + info.leased
            )
        return tuple(found[stream] for stream in sorted(found))

    def look(self, now: float) -> list[str]:
        """Where it is time to, remove the arenas of publishers that are dead, for a moment; their names."""
        if now < self._sweep_at:
            return []
        self._sweep_at = now + SWEEP
        self.reader.prune()
        with suppress(OSError):
            removed = self._janitor.sweep(SWEEP_AT_MOST)
            if self._janitor.rests:
                self._sweep_at = now + SWEEP_ON
            return removed
        return []

    def close(self) -> None:
        """Let go of every arena, and remove those without an owner."""
        self.reader.close()
        if self._prepared is not None:
            discard_directory(self._prepared)

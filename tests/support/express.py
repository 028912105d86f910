"""A wait between two turns of its own, and beside it the long way alone, which must do the same with each message."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import zmq

from supplierd.arena import arena_directory
from supplierd.arena.writer import ArenaWriter
from supplierd.core.refusals import FrameRefusedError
from supplierd.core.service import Settings
from supplierd.core.stream import Frame
from supplierd.core.supplier import Supplier
from supplierd.daemon.parcels import Parcels, known_reason
from supplierd.daemon.precedence import Precedence
from supplierd.daemon.sessions import Sessions
from supplierd.transport.descriptors import Descriptors
from supplierd.transport.doorbells import Doorbells
from supplierd.transport.inbox import Inbox
from supplierd.transport.sockets import Message, Waiter
from supplierd.wire import frame as wire
from supplierd.wire.bell import MAX_PACKET
from supplierd.wire.doorbell import doorbell_path
from supplierd.wire.errors import WireError
from tests.support.doorbells import Knocker
from tests.support.fixtures import short_directory
from tests.support.waiting import DEADLINE

LIMIT: Final = 20_000
"""Bytes of a message."""
BOOT: Final = bytes(range(16))
SHORTLY: Final = 0.005


class LongWay:
    """All that Distribution does with a frame, but for sending it: nobody follows a stream here."""

    def __init__(self, home: Path) -> None:
        self.supplier = Supplier(Settings(), BOOT, 0)
        self.parcels = Parcels(home)
        self.decoder = wire.Decoder()
        self.errors: Counter[str] = Counter()
        self.taken = 0

    def take(self, _: Inbox | None, message: Message, now: float) -> None:
        self.taken += 1
        try:
            if len(message) > LIMIT:
                raise WireError("oversized", "")
            header = self.decoder.decode(message.buffer)
            parcel = self.parcels.make(header, message)
        except WireError as error:
            self.errors[error.reason] += 1
            return
        inline = known_reason(header.inline) if header.inline else ""
        found = Frame(header.stream, header.boot, header.epoch, header.seq, header.unsent, inline, parcel)
        try:
            self.supplier.frame(found, now)
        except FrameRefusedError as refused:
            self.refuse_frame(header.stream, refused, now)

    def refuse_frame(self, stream: str, refused: FrameRefusedError, now: float) -> None:
        assert refused.reason in self.supplier.rejected

    @property
    def seen(self) -> int:
        """How many messages met their end: each is received, or refused for one reason."""
        received = sum(stream.ledger.received for stream in self.supplier.streams.values())
        return received + self.supplier.rejected.total() + self.errors.total()

    def books(self) -> dict[str, Any]:
        """Everything that was counted, and each stream's newest frame."""
        streams = {}
        for name, stream in self.supplier.streams.items():
            newest = stream.newest
            assert newest is not None
            parcel = newest.message
            payload = parcel.inline(1 << 20)
            streams[name] = (
                stream.ledger.published, stream.ledger.received, dict(stream.ledger.dropped), dict(stream.inline),
                newest[:6], parcel.message.bytes, payload and payload.bytes,
            )  # fmt: skip
        return {"streams": streams, "rejected": self.supplier.rejected, "errors": self.errors}


class World:
    """An Express of a module with an inbox of its own, and beside it the long way alone.

    `by_doorbell`: whether messages come by the inbox's doorbell, but for those that no publisher puts there.
    """

    def __init__(self, module: Any, home: Path, context: zmq.Context[zmq.Socket[bytes]], by_doorbell: bool) -> None:
        self.home = home
        self.writer = ArenaWriter(arena_directory(home), "cam-1", slots=8)
        self.way, self.reference = LongWay(home), LongWay(home)
        self.inbox = Inbox(context, f"ipc://{home}/inbox.sock", None, LIMIT)
        self.waiter = Waiter()
        self.waiter.add(self.inbox.socket)
        self.doorbells = Doorbells([self.inbox])
        self.waiter.add(self.doorbells.descriptor)
        self.express = module.Express(
            self.way.supplier, Sessions(None), self.waiter, None, [self.inbox], doorbells=self.doorbells,
            parcels=self.way.parcels,
            decoder=self.way.decoder, max_message=LIMIT, descriptors=Descriptors(), precedence=Precedence(""),
            otherwise=self.way,
        )  # fmt: skip
        self.peer = context.socket(zmq.PUSH)
        self.peer.connect(self.inbox.endpoint)
        self.knocker = Knocker(doorbell_path(self.inbox.endpoint)) if by_doorbell else None
        if self.knocker is not None:
            self.turn_until(1)
            self.knocker.enter()

    def send(self, message: bytes) -> None:
        """Send a message both ways, and let it be taken."""
        before = self.way.seen
        if self.knocker is not None and 0 < len(message) <= MAX_PACKET:
            self.knocker.put(message)
        else:
            self.peer.send(message)
        self.reference.take(None, Message(message), time.monotonic())
        end = time.monotonic() + DEADLINE
        while self.way.seen == before:
            assert time.monotonic() < end, "the message was not taken"
            self.turn()

    def turn(self) -> None:
        ready = self.express.wait(time.monotonic() + SHORTLY)
        if self.inbox.socket in ready:
            while (message := self.inbox.receive()) is not None:
                self.way.take(self.inbox, message, time.monotonic())
        if self.doorbells.descriptor in ready:
            for inbox, packet in self.doorbells.take():
                assert 0 < len(packet) <= MAX_PACKET
                self.way.take(inbox, Message(packet), time.monotonic())

    def turn_until(self, count: int) -> None:
        """Until there are so many connections to the doorbell."""
        end = time.monotonic() + DEADLINE
        while len(self.doorbells.by_event) != count:
            assert time.monotonic() < end, f"there are not {count} connections"
            self.turn()

    def close(self) -> None:
        if self.knocker is not None:
            self.knocker.close()
        self.doorbells.close()
        self.peer.close(0)
        self.inbox.close()
        self.writer.close()


@contextmanager
def world(module: Any, by_doorbell: bool = False) -> Iterator[World]:
    with short_directory() as home, zmq.Context() as context:
        made = World(module, home, context, by_doorbell)
        try:
            yield made
        finally:
            made.close()

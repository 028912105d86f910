"""The wait between two turns, in Python and, where it is compiled, in C.

Whatever a publisher sends, both must do with it what the long way alone does: it is fed the same messages here.
"""

import os
import resource
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgpack
import numpy as np
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supplierd.arena import arena_directory
from supplierd.arena.layout import TABLE_OFFSET
from supplierd.arena.writer import ArenaWriter
from supplierd.core.service import Settings
from supplierd.core.stream import Frame
from supplierd.core.supplier import FrameRefusedError, Supplier
from supplierd.daemon import express
from supplierd.daemon.parcels import Parcels, known_reason
from supplierd.daemon.sessions import Sessions
from supplierd.transport.descriptors import Descriptors
from supplierd.transport.doorbells import Doorbells
from supplierd.transport.inbox import Inbox
from supplierd.transport.sockets import CATCH_UP, LONG_TICK, STOOD_STILL, TICK, Message, Waiter
from supplierd.wire import frame as wire
from supplierd.wire.bell import MAX_PACKET
from supplierd.wire.doorbell import NOTHING, doorbell_path, encode_put
from supplierd.wire.errors import WireError
from tests.support.doorbells import Knocker, readable
from tests.support.fixtures import short_directory
from tests.support.twins import both, is_compiled
from tests.support.waiting import DEADLINE, wait_for

COMPILED: Final = is_compiled(express)
BOOT: Final = bytes(range(16))
LIMIT: Final = 20_000
SIZE: Final = 3000
SHORTLY: Final = 0.005

every_module = pytest.mark.parametrize("module", both(express))
either_way = pytest.mark.parametrize("by_doorbell", [False, True], ids=["inbox", "doorbell"])


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
            payload = parcel.inline()
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
            decoder=self.way.decoder, max_message=LIMIT, descriptors=Descriptors(), otherwise=self.way,
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


def head(place: Any, seq: int, *, numbers: str = "", **changes: Any) -> bytes:
    """A frame's message, by hand. `numbers` is how those of the slot are packed, as struct has it; "": shortest."""
    fields = {"stream": "cam-1", "epoch": 5, "boot": BOOT, "encoding": "jpeg", **changes}
    packed: bytes = msgpack.packb(fields)
    if place is not None:
        codes = {"I": b"\xce", "Q": b"\xcf"}
        slot = [
            codes[numbers] + number.to_bytes(4 if numbers == "I" else 8, "big") if numbers else msgpack.packb(number)
            for number in place[1:]
        ]
        start = bytes([packed[0] + 1]) + packed[1:] + msgpack.packb("arena")
        packed = start + b"\x95" + msgpack.packb(place[0]) + b"".join(slot)
    whole = wire.PREFIX.pack(wire.MAGIC, wire.VERSION, int(place is not None), len(packed), seq, 1, 2) + packed
    return whole + bytes(-len(whole) % wire.ALIGNMENT)


SLOTS_BESIDE: Final = {"another slot": (1, 1), "odd": (2, 1), "old": (2, 2), "far": (4, 1 << 60)}
"""By kind: which number of the slot is wrong, and by how much."""
FIELDS: Final[dict[str, dict[str, Any]]] = {
    "wide": {"numbers": "I"},
    "wider": {"numbers": "Q"},
    "shaped": {"encoding": "raw", "dtype": "|u1", "shape": [SIZE]},
    "shaped otherwise": {"encoding": "raw", "dtype": "|u1", "shape": [SIZE - 1]},
    "metadata": {"metadata": {"arena": None}},
    "unsent": {"unsent": (1 << 64) - 1},
    "reason": {"inline": "small"},
    "another stream": {"stream": "cam-2"},
}
"""By kind: what a head says besides."""
KINDS: Final = (
    "usual", "usual", "usual", "flipped", "cut", "longer", "other file", "new arena", "inline", "long", "epoch",
    "same seq", "huge seq", *SLOTS_BESIDE, *FIELDS,
)  # fmt: skip


def crafted(kind: str, chance: int, place: Any, seq: int, epoch: int) -> bytes:
    """A message of one of KINDS."""
    other = list(place)
    match kind:
        case "flipped":
            message = bytearray(head(place, seq, epoch=epoch))
            message[chance % len(message)] ^= 1 << chance % 7
            return bytes(message)
        case "cut":
            return head(place, seq, epoch=epoch)[: chance % 100]
        case "longer":
            return head(place, seq, epoch=epoch) + bytes(1 + chance % 100)
        case "other file":
            other[0] = f"cam-1-{chance:016x}.arena"
        case "inline" | "long":
            return head(None, seq, epoch=epoch, inline="off") + bytes(10 if kind == "inline" else chance % (2 * LIMIT))
        case "same seq":
            seq -= 1
        case "huge seq":
            seq = (1 << 64) - 1 - chance
        case _ if kind in SLOTS_BESIDE:
            at, step = SLOTS_BESIDE[kind]
            other[at] += step
    return head(other, seq, epoch=epoch, **FIELDS.get(kind, {}))


@every_module
@either_way
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(kinds=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 2**32)), min_size=1, max_size=40))
def test_every_message_is_taken_as_the_long_way_takes_it(
    module: Any, by_doorbell: bool, kinds: list[tuple[str, int]]
) -> None:
    with world(module, by_doorbell) as made:
        epoch = 5
        place: Any = made.writer.store(np.full(SIZE, 7, np.uint8))
        made.send(head(place, 1))
        for seq, (kind, chance) in enumerate(kinds, 2):
            if kind in ("usual", "new arena"):
                size = SIZE if kind == "usual" else SIZE * (1 + chance % 50)
                place = made.writer.store(np.full(size, seq, np.uint8))
            epoch += kind == "epoch"
            made.send(crafted(kind, chance, place, seq, epoch))
        held = made.way.parcels.reader.leases_held
        assert held == made.reference.parcels.reader.leases_held <= len(made.way.supplier.streams)
        assert made.way.books() == made.reference.books()
        assert len(made.doorbells.by_event) == int(by_doorbell), "no message ends it"


@pytest.mark.skipif(not COMPILED, reason="it is not compiled")
@either_way
def test_compiled_it_does_what_is_usual_by_itself(by_doorbell: bool) -> None:
    with world(express, by_doorbell) as made:
        for seq in range(1, 101):
            made.send(head(made.writer.store(np.full(SIZE, seq, np.uint8)), seq))
        taken = made.way.taken
        assert 1 <= taken <= 2, "the first one is new to it, and so is the second where the first was found at once"
        assert made.way.books() == made.reference.books()
        large = made.writer.store(np.zeros(1000 * SIZE, np.uint8))
        for seq in range(101, 111):
            made.send(head(large, seq))
        assert made.way.taken == taken + 1, "another arena"
        made.send(head(None, 111, inline="off") + bytes(wire.ALIGNMENT * 100))
        taken = made.way.taken
        made.send(head(large, 112))
        assert made.way.taken == taken + (not by_doorbell), "an inbox that has long messages is left to Python"


@every_module
def test_a_doorbell_that_ends_is_heard_to_the_end(module: Any) -> None:
    """Whether something lies in it or not; and an empty message is none."""
    with world(module, by_doorbell=True) as made:
        for seq, last in enumerate((None, b"x", b""), 1):
            assert made.knocker is not None
            made.send(head(made.writer.store(np.full(SIZE, seq, np.uint8)), seq))
            if last is not None:
                made.knocker.put(last)
            made.knocker.close()
            made.turn_until(0)
            made.knocker = Knocker(doorbell_path(made.inbox.endpoint))
            made.turn_until(1)
            made.knocker.enter()
        assert made.way.errors == Counter({"truncated": 1})
        assert made.way.supplier.streams["cam-1"].ledger.received == 3


@every_module
def test_what_is_no_put_is_passed_over_and_the_next_one_is_taken(module: Any) -> None:
    with world(module, by_doorbell=True) as made:
        assert made.knocker is not None
        for seq in range(1, 4):
            made.send(head(made.writer.store(np.full(SIZE, seq, np.uint8)), seq))
            before, beside = made.way.seen, encode_put(made.knocker.number + 1, b"x" * 100)
            too_long = encode_put(made.knocker.number + 1, b"x" * (MAX_PACKET + 1))
            flipped = (beside[:at] + bytes([beside[at] ^ 1]) + beside[at + 1 :] for at in range(0, len(beside), 5))
            for content in (b"", NOTHING, encode_put(made.knocker.number, b"again"), too_long, *flipped):
                made.knocker.write(content)
                assert readable(made.doorbells)
                while readable(made.doorbells):
                    made.express.wait(time.monotonic() + SHORTLY)
                    assert list(made.doorbells.take()) == []
            assert made.way.seen == before
        assert made.way.books() == made.reference.books()
        assert len(made.doorbells.by_event) == 1


@every_module
def test_of_a_put_that_is_replaced_the_newest_is_taken(module: Any) -> None:
    with world(module, by_doorbell=True) as made:
        assert made.knocker is not None
        made.send(head(made.writer.store(np.full(SIZE, 1, np.uint8)), 1))
        for seq in range(2, 1000):
            made.knocker.put(head(None, seq, inline="off"))
        made.send(head(made.writer.store(np.full(SIZE, 1, np.uint8)), 1000))
        assert made.way.supplier.streams["cam-1"].ledger.received == 2


@every_module
def test_a_frame_that_its_publisher_takes_away_stays_whole_while_it_is_the_newest(module: Any) -> None:
    with world(module) as made:
        for seq in (1, 2):
            made.send(head(made.writer.store(np.full(SIZE, seq, np.uint8)), seq))
        made.writer.close()
        for way in (made.way, made.reference):
            way.parcels.sweep()
            newest = way.supplier.streams["cam-1"].newest
            assert newest is not None
            whole = newest.message.inline()
            assert whole.bytes.endswith(bytes([2]) * SIZE)


@every_module
def test_a_slot_that_its_publisher_spoils_is_let_go_once(module: Any) -> None:
    """Locks are advisory: who writes into what others hold gets frames torn by it, but no books."""
    with world(module) as made:
        for seq in (1, 2, 3):
            place = made.writer.store(np.full(SIZE, seq, np.uint8))
            made.send(head(place, seq))
        (path,) = arena_directory(made.home).glob("*.arena")
        with path.open("r+b") as file:
            file.seek(TABLE_OFFSET + 8 * place.slot)
            file.write(bytes(8))
        newest = made.way.supplier.streams["cam-1"].newest
        assert newest is not None
        assert newest.message.inline() is not None
        assert made.way.parcels.reader.leases_held == 1
        made.way.supplier.streams.clear()
        del newest
        assert made.way.parcels.reader.leases_held == 0


@every_module
def test_a_wait_ends_when_the_limit_of_descriptors_is_lowered(module: Any) -> None:
    """Though not one more is open than before."""
    with world(module) as made:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        began = time.monotonic()
        made.express.wait(began + 2 * TICK)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")), hard))
        try:
            made.express.wait(began + DEADLINE)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert time.monotonic() < began + DEADLINE / 2


@every_module
def test_a_wait_ends_when_descriptors_become_short(module: Any) -> None:
    class Short:
        limit, short = 0, True

        def look(self) -> bool:
            return True

    with world(module) as made:
        waiter = Waiter()
        made.turn()
        waiting = module.Express(
            made.way.supplier, Sessions(None), waiter, None, [], doorbells=None, parcels=made.way.parcels,
            decoder=made.way.decoder, max_message=LIMIT, descriptors=Short(), otherwise=made.way,
        )  # fmt: skip
        began = time.monotonic()
        assert waiting.wait(began + DEADLINE) == set()
        assert time.monotonic() < began + DEADLINE / 2


@every_module
def test_after_a_standstill_anywhere_in_a_turn_what_is_old_is_fetched_first(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world(module) as made:
        made.turn()
        standstill = time.monotonic() + LONG_TICK + 2 * STOOD_STILL
        wait_for(lambda: time.monotonic() > standstill, "the end of the standstill")
        slept: list[float] = []
        monkeypatch.setattr(time, "sleep", slept.append)
        made.turn()
        assert slept == [CATCH_UP]
        made.turn()
        assert slept == [CATCH_UP]

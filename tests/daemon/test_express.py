"""The wait between two turns, in Python and, where it is compiled, in C.

Whatever a publisher sends, both must do with it what the long way alone does: it is fed the same messages here.
"""

import time
from collections import Counter
from typing import Any, Final

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supplierd.arena import arena_directory
from supplierd.arena.layout import TABLE_OFFSET
from supplierd.daemon import express
from supplierd.wire import frame as wire
from supplierd.wire.bell import MAX_PACKET
from supplierd.wire.doorbell import NOTHING, doorbell_path, encode_put
from tests.support.doorbells import Knocker, readable
from tests.support.express import BOOT, LIMIT, SHORTLY, world
from tests.support.twins import both, is_compiled

COMPILED: Final = is_compiled(express)
SIZE: Final = 3000

every_module = pytest.mark.parametrize("module", both(express))
either_way = pytest.mark.parametrize("by_doorbell", [False, True], ids=["inbox", "doorbell"])


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
            way.parcels.look(time.monotonic())
            newest = way.supplier.streams["cam-1"].newest
            assert newest is not None
            whole = newest.message.inline(1 << 20)
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
        assert newest.message.inline(1 << 20) is not None
        assert made.way.parcels.reader.leases_held == 1
        made.way.supplier.streams.clear()
        del newest
        assert made.way.parcels.reader.leases_held == 0

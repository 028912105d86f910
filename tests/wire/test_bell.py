"""The bell's packets: golden vectors, round trips, refusals, and heads that both sides forget at the same moment."""

from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from supplierd.wire import WireError, bell, control, frame
from supplierd.wire.bell import MAX_HEADS, Heads, Hearer, Told
from supplierd.wire.frame import ArenaRef, Header
from tests.wire.strategies import boots, counts, headers, names, signed, slots
from tests.wire.vectors import BELL, BELL_REFUSED, FRAMES, header_of

MESSAGES = {vector["name"]: (header_of(vector), bytes.fromhex(vector["hex"])) for vector in FRAMES}
SLOTTED = headers.map(lambda header: header._replace(encoding="jpeg"))
SETTLED = st.tuples(names, counts, counts, st.sampled_from(control.OUTCOMES), signed, signed)
BEYOND = 1 << 63


def named(vectors: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in vectors]


def of(kind: str) -> list[dict[str, Any]]:
    return [vector for vector in BELL if vector["kind"] == kind]


def packet(vector: dict[str, Any]) -> memoryview:
    return memoryview(bytes.fromhex(vector["hex"]))


def slotted(seq: int = 1, stream: str = "cam-1", **changes: Any) -> tuple[Header, bytes]:
    """A frame in shared memory: its header as decoded, and its message."""
    arena = ArenaRef(f"{stream}-1f2e3d4c5b6a7988.arena", 1, 2 * seq, 4096, 100)
    fields = {"encoding": "jpeg", "arena": arena, **changes}
    message = frame.encode_head(Header(stream, 5, bytes(16), seq, 1_000 + seq, 2_000 + seq, **fields))
    return frame.decode(message), message


def heard(header: Header, moment: tuple[int, int, int], place: bell.Place) -> Header:
    """The header of the frame that a hearer found, put together as its user does."""
    seq, wall, mono = moment
    return header._replace(
        seq=seq, captured_wall=wall, captured_mono=mono, arena=ArenaRef(*place), payload_offset=0, payload_size=place[4]
    )


def refused(hearer: Hearer, data: bytes, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        hearer.frame(memoryview(data))
    assert caught.value.reason == reason


class Line:
    """A daemon's side of one bell and its worker's, joined: what is sent for a frame is heard at once."""

    def __init__(self, heads: Heads | None = None) -> None:
        self.heads = heads or Heads()
        self.told = Told()
        self.hearer = Hearer()

    def pass_on(self, header: Header, message: bytes) -> tuple[str, Header]:
        """Which packet went for this frame, and what was heard."""
        number = self.heads.number(header)
        assert number
        if self.told.knows(number):
            kind, data = "frame", bell.encode_frame(number, header)
        else:
            kind, data = "head", bell.encode_head(number, message)
            self.told.tell(number)
        return kind, heard(*self.hearer.frame(memoryview(data)))


# --- vectors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", named(of("demand")))
def test_demands(vector: dict[str, Any]) -> None:
    fields, data = vector["fields"], bytes.fromhex(vector["hex"])
    report = fields["settled"]
    settled = None if report is None else control.Settled(stream="cam-1", **report)
    assert len(data) == bell.DEMAND.size == 56
    assert bell.encode_demand(fields["session"], fields["number"], settled, fields["leases"]) == data
    expected = report or {"outcome": "", "epoch": 0, "seq": 0, "age": 0, "processing": 0}
    assert bell.decode_demand(data)._asdict() == {
        "session": fields["session"], "number": fields["number"], "leases": fields["leases"], **expected
    }  # fmt: skip


def test_heads_and_frames_of_one_bell() -> None:
    hearer = Hearer()
    common: dict[int, Header] = {}
    for vector in BELL:
        fields, data = vector["fields"], bytes.fromhex(vector["hex"])
        if vector["kind"] == "head":
            header, message = MESSAGES[fields["frame"]]
            common[fields["number"]] = header
            assert bell.encode_head(fields["number"], message) == data
            assert heard(*hearer.frame(memoryview(data))) == header._replace(payload_offset=0), vector["name"]
        elif vector["kind"] == "frame":
            assert len(data) == bell.FRAME.size == 64
            head = common[fields["head"]]
            assert head.arena is not None
            slot = ArenaRef(head.arena.file, *(fields[key] for key in ("slot", "generation", "offset", "size")))
            moment = {key: fields[key] for key in ("seq", "captured_wall", "captured_mono")}
            expected = head._replace(**moment, arena=slot, payload_offset=0, payload_size=slot.size)
            assert bell.encode_frame(fields["head"], expected) == data
            assert heard(*hearer.frame(memoryview(data))) == expected, vector["name"]


@pytest.mark.parametrize("vector", named(BELL_REFUSED))
def test_refusals(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    if vector["from"] == "client":
        with pytest.raises(WireError) as caught:
            bell.decode_demand(data)
        assert caught.value.reason == vector["reason"]
    else:
        hearer = Hearer()
        first = of("head")[0]
        hearer.frame(packet(first))
        refused(hearer, data, vector["reason"])
        good = next(v for v in of("frame") if v["fields"]["head"] == first["fields"]["number"])
        hearer.frame(packet(good))  # what was told before is still known


def test_the_vectors_are_complete() -> None:
    reported = {vector["fields"]["settled"]["outcome"] for vector in of("demand") if vector["fields"]["settled"]}
    assert reported == set(control.OUTCOMES)
    assert {vector["kind"] for vector in BELL} == {"demand", "head", "frame"}
    assert {vector["from"] for vector in BELL_REFUSED} == {"client", "daemon"}


def test_the_kinds_are_no_control_messages() -> None:
    """The first byte tells: a msgpack map begins with 0x80 or more, for none has no key."""
    for vector in BELL:
        with pytest.raises(WireError):
            control.decode_from_client(bytes.fromhex(vector["hex"]))
        with pytest.raises(WireError):
            control.decode_from_daemon(bytes.fromhex(vector["hex"]))
    assert all(control.encode(kind)[0] >= 0x80 for kind in (control.Stats(), control.Newest(1)))


# --- round trips ------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(session=counts, number=counts, settled=st.none() | SETTLED, leases=st.integers(0, 2**32 - 1))
@example(1, 1, ("cam-1", 1, 1, "consumed", BEYOND, 0), 0)
@example(1, 1, ("cam-1", 1, 1, "expired", -BEYOND - 1, BEYOND), 0)
def test_a_short_demand_says_what_a_long_one_does(
    session: int, number: int, settled: tuple[str, int, int, str, int, int] | None, leases: int
) -> None:
    """But for the stream; and a time beyond 64 bits, which a hostile capture time makes, is the longest there is."""
    report = None if settled is None else control.Settled(*settled)
    long = control.Demand(session, number, report, leases)
    short = bell.decode_demand(bell.encode_demand(session, number, settled, leases))
    assert (short.session, short.number, short.leases) == (long.session, long.number, long.leases)
    assert bool(short.outcome) is (report is not None)
    if report is not None:
        assert (short.epoch, short.seq, short.outcome) == (report.epoch, report.seq, report.outcome)
        assert short.age == max(-BEYOND, min(report.age, BEYOND - 1))
        assert short.processing == max(-BEYOND, min(report.processing, BEYOND - 1))


@settings(deadline=None)
@given(first=SLOTTED, slot=slots, later=st.lists(st.tuples(st.integers(1, 2**64 - 1), signed, signed, slots)))
def test_what_is_passed_on_is_heard(first: Header, slot: ArenaRef, later: list[tuple[Any, ...]]) -> None:
    line = Line()
    found, message = first._replace(arena=slot), b""
    moments = [(first.seq, first.captured_wall, first.captured_mono, slot), *later]
    for number, (seq, wall, mono, place) in enumerate(moments):
        found = found._replace(
            seq=seq, captured_wall=wall, captured_mono=mono, arena=place._replace(file=slot.file), payload_offset=0,
            payload_size=place.size,
        )  # fmt: skip
        message = frame.encode_head(found)
        assert line.pass_on(frame.decode(message), message) == ("frame" if number else "head", found)


@pytest.mark.parametrize("buffer", [bytearray, memoryview])
def test_a_hearer_keeps_nothing_of_the_buffer(buffer: type) -> None:
    """A worker receives each packet into the same bytes."""
    header, message = slotted()
    hearer, data = Hearer(), bytearray(bell.encode_head(1, message))
    found = hearer.frame(memoryview(data))
    short = bell.encode_frame(1, header)
    data[:] = bytes(len(data))
    assert heard(*found) == header._replace(payload_offset=0)
    assert heard(*hearer.frame(memoryview(short))) == header._replace(payload_offset=0)


# --- heads ------------------------------------------------------------------------------------------------------------


def test_a_head_has_one_number_for_all_bells() -> None:
    heads = Heads()
    assert [heads.number(slotted(seq)[0]) for seq in (1, 2, 3)] == [1, 1, 1]
    assert heads.number(slotted(stream="cam-2")[0]) == 2
    one, other = Line(heads), Line(heads)
    assert one.pass_on(*slotted(4))[0] == "head"
    assert one.pass_on(*slotted(5))[0] == "frame"
    assert other.pass_on(*slotted(5))[0] == "head"  # what one worker was told, the next was not


@settings(deadline=None)
@given(epoch=counts, boot=boots)
def test_whatever_a_short_frame_does_not_say_makes_another_head(epoch: int, boot: bytes) -> None:
    plain, _ = slotted()
    heads = Heads()
    known = heads.number(plain)
    assert plain.arena is not None
    for change in (
        {"epoch": epoch}, {"boot": boot}, {"stream": "other"}, {"unsent": 1}, {"encoding": "png"}, {"dtype": "|u1"},
        {"shape": (100,)}, {"inline": "off"}, {"metadata": {"a": [1]}},
        {"arena": plain.arena._replace(file="other.arena")},
    ):  # fmt: skip
        changed = plain._replace(**change)
        assert (heads.number(changed) == known) is (changed == plain), change
    for change in (
        {"seq": 9}, {"captured_wall": 9}, {"captured_mono": 9}, {"payload_size": 9},
        {"arena": plain.arena._replace(slot=9, generation=10, offset=11, size=12)},
    ):  # fmt: skip
        assert heads.number(plain._replace(**change)) == known, change


def test_what_has_no_head() -> None:
    heads = Heads()
    header, _ = slotted()
    assert heads.number(header._replace(arena=None)) == 0
    deep: list[Any] = []
    for _ in range(3000):
        deep = [deep]
    assert heads.number(header._replace(metadata={"deep": deep})) == 0
    assert not Told().knows(0)


def test_a_number_does_not_come_again_soon() -> None:
    heads = Heads()
    numbers = [heads.number(slotted(stream=f"cam-{i}")[0]) for i in range(3 * MAX_HEADS)]
    assert numbers == list(range(1, 3 * MAX_HEADS + 1))
    heads._last = 0xFFFFFFFF
    assert heads.number(slotted(stream="wrapped")[0]) == 1


def test_both_sides_forget_in_step() -> None:
    """64 heads are known; with the 65th all before it are forgotten, on both sides, and told again when needed."""
    line = Line()
    streams = [f"cam-{i}" for i in range(MAX_HEADS + 1)]
    for stream in streams[:-1]:
        assert line.pass_on(*slotted(1, stream))[0] == "head"
    for stream in streams[:-1]:
        assert line.pass_on(*slotted(2, stream))[0] == "frame"
    assert line.pass_on(*slotted(1, streams[-1]))[0] == "head"
    for seq, kind in ((3, "head"), (4, "frame")):
        for stream in streams[: MAX_HEADS // 2]:
            header, message = slotted(seq, stream)
            assert line.pass_on(header, message) == (kind, header._replace(payload_offset=0))
    assert line.pass_on(*slotted(2, streams[-1]))[0] == "frame"


def test_a_control_message_of_a_packet_claims_few_items() -> None:
    def decode(count: int) -> object:
        message = {"type": "leave", "session": 1, "newer": [0] * count}
        return control.decode_from_client(msgpack.packb(message), bell.MAX_ITEMS)

    assert decode(bell.MAX_ITEMS) == control.Leave(1)
    with pytest.raises(WireError, match="exceeds"):
        decode(bell.MAX_ITEMS + 1)


def test_a_head_that_is_heard_twice_is_one() -> None:
    """Who cannot take a frame at once may hear its packet once more, also the one that fills the memory."""
    hearer = Hearer()
    for number in range(1, MAX_HEADS + 1):
        packet = memoryview(bell.encode_head(number, slotted(1, f"cam-{number}")[1]))
        assert hearer.frame(packet) == hearer.frame(packet)
    assert list(hearer.heads) == list(range(1, MAX_HEADS + 1))


def test_one_bell_forgets_and_another_does_not() -> None:
    """The numbers are the daemon's, and outlast what one worker was told: each bell is told when it needs to be."""
    heads = Heads()
    one, other = Line(heads), Line(heads)
    assert other.pass_on(*slotted(1))[0] == "head"
    for i in range(MAX_HEADS + 1):
        one.pass_on(*slotted(1, f"cam-{i}"))
    header, message = slotted(2)
    for line in (one, other):  # the daemon's number for it is a new one meanwhile
        assert line.pass_on(header, message) == ("head", header._replace(payload_offset=0))


@settings(deadline=None, max_examples=50)
@given(streams=st.lists(st.integers(0, 2 * MAX_HEADS), max_size=400))
def test_any_history_is_heard_as_it_was_told(streams: list[int]) -> None:
    line = Line()
    for seq, stream in enumerate(streams, 1):
        header, message = slotted(seq, f"cam-{stream}")
        assert line.pass_on(header, message)[1] == header._replace(payload_offset=0)


def test_a_head_that_was_not_sent_is_not_known() -> None:
    told = Told()
    bell.encode_head(1, slotted()[1])
    assert not told.knows(1)
    told.tell(1)
    assert told.knows(1)


def test_a_refused_head_is_not_learnt() -> None:
    hearer = Hearer()
    header, _ = slotted()
    refused(hearer, bell.encode_head(1, frame.encode_head(header._replace(arena=None)) + b"x"), "bad_header")
    refused(hearer, bell.encode_frame(1, header), "bad_header")

"""Changes to valid messages and documents, each drawn from a random.Random: what both fuzzing engines mutate by.

Bytes are flipped, overwritten, inserted, deleted and repeated; msgpack is unpacked, changed in one place and packed
again, its lengths put right, so that what lies behind them is reached; TOML is changed by its lines and its values.
"""

from collections.abc import Sequence
from random import Random
from typing import Any, Final

import msgpack

from supplierd.wire.frame import ALIGNMENT, PREFIX, UNPACK_ERRORS

TELLING: Final = (
    b"\0", b"\xff", b"\x80", b"\x90", b"\xc0", b"\xc1", b"\xc3", b"\xcb", b"\xcf" + b"\xff" * 8, b"\xd9\xff",
    b"\xdc\x04\x00", b"\xdd\xff\xff\xff\xff", b"\xdf", b"\xc7\x03\xff", b"\xd6\xff",
)  # fmt: skip
"""Bytes that mean something to msgpack: lengths, numbers, ends of ranges, extensions, the one type that is none."""
MANY: Final = 20_000
"""Repetitions of a few bytes that make a message as large as one may be."""
VALUES: Final[tuple[Any, ...]] = (
    None, True, False, 0, 1, -1, 2, 127, 255, 1024, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, -(2**63),
    0.0, -0.0, 0.5, 30.0, 1e308, float("nan"), float("inf"), float("-inf"),
    "", "*", "raw", "jpeg", "|u1", "<f4", "cam-1", "x" * 65, "..", "a\nb", "é", "\x00", "\U0010ffff", "consumed",
    b"", b"\x00", bytes(16), b"\xff" * 17,
    [], [1], [1, 2, 3], [0] * 9, [2**64 - 1] * 8, ["*"], [None], [[]], ["cam-1", 1, 1, "consumed", 0, 0],
    {}, {"type": "join"}, {"stream": 1}, {"": None},
    msgpack.Timestamp(0, 0), msgpack.ExtType(5, b"x"),
)  # fmt: skip
"""Values at which decoders go wrong: of every type, at the ends of ranges, empty, too many."""
TOML_VALUES: Final = (
    "true", "false", "0", "1", "-1", "1024", "1025", "9" * 40, "0x" + "f" * 40, "0.0", "nan", "inf", "-inf", "1e400",
    '""', '"ipc"', '"ipc:///x"', '"ipc://@x"', '"tcp://127.0.0.1:5601"', '"tcp://*:1"', '"tcp://[::1]:1"', '"auto"',
    '"push"', '"high"', '"1-2"', '"9-1"', '"localhost:1"', '"*"', '"/"', '"/run/x"', '"\\u0000"', '"\\U0010FFFF"',
    "[]", '["*"]', '["cam-1", "cam-1"]', '["*", "x"]', "[[]]", "[{}]", "{}", "{a = 1}", '{endpoint = "ipc"}',
    '{endpoint = "tcp://0.0.0.0:1", conflate = "auto"}', "1979-05-27", "07:32:00", "1979-05-27T07:32:00Z",
    "'''\n'''", '"' + "x" * 300 + '"', "[" * 50 + "]" * 50,
)  # fmt: skip


def mutate_bytes(data: bytes, chance: Random) -> bytes:
    """One change of any kind anywhere."""
    changed = bytearray(data)
    at = chance.randrange(len(changed) + 1)
    length = chance.randint(1, 40)
    match chance.randrange(8):
        case 0 if at < len(changed):
            changed[at] ^= 1 << chance.randrange(8)
        case 1:
            word = chance.choice(TELLING)
            changed[at : at + len(word)] = word
        case 2:
            changed[at:at] = chance.choice(TELLING)
        case 3:
            changed[at:at] = chance.randbytes(chance.randint(1, 9))
        case 4:
            del changed[at : at + length]
        case 5:
            del changed[at:]
        case 6:
            changed[at:at] = changed[at : at + length]
        case _ if not chance.randrange(50):
            changed[at:at] = chance.choice(TELLING) * MANY
    return bytes(changed)


def mutate_tree(value: Any, chance: Random, keys: Sequence[str]) -> Any:
    """`value` with one place in it changed; `keys` are names that maps may get."""
    if isinstance(value, dict) and chance.randrange(8):
        changed = dict(value)
        name = chance.choice(list(changed) or [""])
        match chance.randrange(8):
            case 0:
                changed.pop(name, None)
            case 1:
                changed[chance.choice(keys)] = chance.choice(VALUES)
            case _:
                changed[name] = mutate_tree(changed.get(name), chance, keys)
        return changed
    if isinstance(value, list | tuple) and chance.randrange(8):
        items = list(value)
        at = chance.randrange(len(items) + 1)
        match chance.randrange(8):
            case 0:
                del items[at : at + 1]
            case 1:
                items[at:at] = [chance.choice(VALUES)]
            case 2:
                items[at:at] = items[at : at + 1] * chance.choice((1, 2, 1100))
            case _ if at < len(items):
                items[at] = mutate_tree(items[at], chance, keys)
        return items
    if type(value) is int and chance.randrange(2):
        return max(-(2**63), min(value + chance.choice((-1, 1, 1000, -1000)), 2**64 - 1))
    if isinstance(value, str | bytes) and chance.randrange(2):
        return (value * 2)[: chance.randrange(2 * len(value) + 1)]
    return chance.choice(VALUES)


def mutate_map(data: bytes, chance: Random, keys: Sequence[str]) -> bytes:
    """Packed msgpack with one place changed; what is not msgpack has its bytes changed."""
    try:
        tree = msgpack.unpackb(data, strict_map_key=False)
        return msgpack.packb(mutate_tree(tree, chance, keys))  # type: ignore[no-any-return]
    except UNPACK_ERRORS:
        return mutate_bytes(data, chance)


def mutate_frame(message: bytes, chance: Random, keys: Sequence[str]) -> bytes:
    """A frame message with its header map changed in one place, and its lengths put right for it."""
    if len(message) < PREFIX.size:
        return mutate_bytes(message, chance)
    magic, version, flags, size, *numbers = PREFIX.unpack_from(message)
    end = PREFIX.size + size
    packed = mutate_map(message[PREFIX.size : end], chance, keys)
    payload = message[end + -end % ALIGNMENT :]
    if not chance.randrange(10):
        flags ^= 1
    if not chance.randrange(10):
        payload = payload[: chance.randrange(len(payload) + 1)]
    head = PREFIX.pack(magic, version, flags, min(len(packed), 0xFFFF), *numbers) + packed
    return head + bytes(-len(head) % ALIGNMENT) + payload


def mutate_packet(packet: bytes, chance: Random, keys: Sequence[str]) -> bytes:
    """A bell's packet with a number in it changed, or its head's frame; a control message as a map."""
    match packet[:1]:
        case b"H" if chance.randrange(4):
            return packet[:8] + mutate_frame(packet[8:], chance, keys)
        case b"D" | b"F" | b"H":
            changed = bytearray(packet)
            place = 4 * chance.randrange(len(changed) // 4 + 1)
            value = chance.choice((0, 1, 2**31, 2**32 - 1, chance.getrandbits(32), chance.randrange(8)))
            changed[place : place + 4] = value.to_bytes(4, "little")
            return bytes(changed)
    return mutate_map(packet, chance, keys)


def mutate_toml(document: bytes, chance: Random, keys: Sequence[str]) -> bytes:
    """A document with a line left out, doubled or made up, or a value or a key put in another's place."""
    lines = document.split(b"\n")
    at = chance.randrange(len(lines))
    name, equals, _ = lines[at].partition(b"=")
    value = chance.choice(TOML_VALUES).encode()
    match chance.randrange(7):
        case 0:
            del lines[at]
        case 1:
            lines.insert(chance.randrange(len(lines) + 1), lines[at])
        case 2:
            lines.insert(at, b"[" + chance.choice(keys).encode() + b"]")
        case 3:
            lines.insert(at, chance.choice(keys).encode() + b" = " + value)
        case 4 if equals:
            lines[at] = chance.choice(keys).encode() + lines[at][len(name) :]
        case 5:
            lines[at] = mutate_bytes(lines[at], chance)
        case _ if equals:
            lines[at] = name + b"= " + value
    return b"\n".join(lines)

"""What is fuzzed: one function for each place where bytes from outside are read. Both engines call the same ones.

A target takes any bytes, checks what every accepted input may rely on, and says what came of it in a word. Whatever it
raises is a defect: the documented error is caught here, and nothing else. `examine` adds the bounds of time and memory.
"""

import contextlib
import math
import os
import resource
import time
import tomllib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import msgpack

from supplierd.config import ConfigError, entries, grants, json_schema, load, resolve, supplier_settings
from supplierd.core.service import Settings
from supplierd.core.snapshot import ArenaSnapshot, Snapshot, take
from supplierd.core.stream import Frame
from supplierd.core.supplier import Supplier
from supplierd.core.worker import JoinRequest
from supplierd.wire import WireError, bell, control, frame
from supplierd.wire.frame import ALIGNMENT, MAX_HEADER_BYTES, UNPACK_ERRORS
from supplierd.wire.names import is_name
from tests.config.schema import violations
from tests.fuzz.mutation import mutate_bytes, mutate_frame, mutate_map, mutate_packet, mutate_toml
from tests.wire.vectors import BELL, BELL_REFUSED, CONTROL, FRAMES, REFUSED

SECONDS: Final = 1.0
"""CPU time that one input may take: 100 times what any valid one does, 10 times what coverage's counters slow down."""
MEMORY: Final = 64 << 20
"""Bytes by which one input may raise the process's peak."""
ROOT: Final = Path(__file__).parents[2]
RUNTIME_DIR: Final = Path("/run/supplierd")


class Target(NamedTuple):
    """One place where bytes from outside are read.

    Attributes:
        run: takes an input; what came of it, in a word; whatever it raises is a defect.
        mutate: changes a valid input so that most of it stays valid.
        seeds: valid inputs, and some that are refused.
        words: what inputs are made of, for a dictionary.
        max_bytes: of an input.
    """

    run: Callable[[bytes], str]
    mutate: Callable[[bytes, Random], bytes]
    seeds: tuple[bytes, ...]
    words: tuple[str, ...]
    max_bytes: int


def examine(target: Target, data: bytes) -> str:
    """Run a target on an input, within bounds."""
    peak, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.thread_time()
    outcome = target.run(data)
    took = time.thread_time() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) * 1024
    assert grown < MEMORY, f"an input of {len(data)} bytes took {grown >> 20} MiB"  # first, for memory takes time, too
    assert took < SECONDS, f"an input of {len(data)} bytes took {took:.1f} s"
    return outcome


_DECODER = frame.Decoder()  # which remembers the inputs before


def _differs(found: str, expected: str) -> str:
    raise AssertionError(f"the decoder that remembers says {found}, not {expected}")


def _decode_again(message: bytes) -> str:
    """By the decoder that remembers: a header's text, or the reason of a refusal."""
    try:
        return repr(_DECODER.decode(memoryview(message)))
    except WireError as error:
        return error.reason


def decode_frame(message: bytes) -> str:
    """Decode a frame message, and check what every accepted one may rely on."""
    again = _decode_again(message)
    try:
        header = frame.decode(message)
    except WireError as error:
        return error.reason if again == error.reason else _differs(again, error.reason)
    if again != repr(header):
        _differs(again, repr(header))
    assert is_name(header.stream)
    assert len(header.boot) == 16
    assert header.seq > 0
    assert header.payload_size > 0
    assert header.payload_offset % ALIGNMENT == 0
    inline_bytes = header.payload_size if header.arena is None else 0
    assert header.payload_offset + inline_bytes == len(message)
    if header.encoding == "raw":
        assert math.prod(header.shape) * int(header.dtype[2:]) == header.payload_size
    with contextlib.suppress(WireError):  # a header may become too long: numbers are packed as 64 bits
        head = frame.encode_head(header)
        payload = message[header.payload_offset :]
        # By text, since NaN is not equal to itself.
        assert repr(frame.decode(head + payload)) == repr(header._replace(payload_offset=len(head)))
    return "accepted"


def decode_control(data: bytes, decoder: Callable[[bytes], Any]) -> str:
    """Decode a control message; an accepted one means the same when sent on, a refused one can be answered."""
    try:
        message = decoder(data)
    except WireError as error:
        answer = control.encode(control.Error(error.reason, str(error)))
        assert isinstance(control.decode_from_daemon(answer), control.Error)
        return error.reason
    assert repr(decoder(control.encode(message))) == repr(message)
    return type(message).__name__


def heed_worker(packet: bytes) -> str:
    """Read what a worker sent over a bell, as the daemon does."""
    if packet[:1] != bytes([bell.DEMAND_KIND]):
        return decode_control(packet, control.decode_from_client)
    try:
        demand = bell.decode_demand(packet)
    except WireError as error:
        return error.reason
    report = (demand.epoch, demand.seq, demand.outcome, demand.age, demand.processing)
    again = bell.encode_demand(
        demand.session, demand.number, ("cam-1", *report) if demand.outcome else None, demand.leases
    )
    if demand.outcome:
        assert again == packet[:2] + bytes(2) + packet[4:]
    assert bell.decode_demand(again)[:2] == demand[:2]
    return "report" if demand.outcome else "demand"


_HEARER = bell.Hearer()  # which remembers the heads that it was told before


def heed_daemon(packet: bytes) -> str:
    """Read what the daemon sent over a bell, as a worker does."""
    if packet[:1] not in (b"F", b"H"):
        return decode_control(packet, control.decode_from_daemon)
    try:
        header, (seq, wall, mono), (file, slot, generation, offset, size) = _HEARER.frame(memoryview(packet))
    except WireError as error:
        return error.reason
    assert is_name(header.stream)
    assert isinstance(file, str)
    assert seq > 0
    place = frame.ArenaRef(file, slot, generation, offset, size)
    if packet[:1] == b"H":
        assert frame.decode(packet[8:]) == header
        assert header.arena == place
        return "head"
    moment = header._replace(seq=seq, captured_wall=wall, captured_mono=mono, arena=place)
    assert bell.encode_frame(int.from_bytes(packet[4:8], "little"), moment)[4:60] == packet[4:60]
    return "frame"


def read_snapshot(data: bytes) -> str:
    """Read the statistics of a daemon; what is accepted travels on, and its figures can be asked for."""
    try:
        fields = msgpack.unpackb(data)
    except UNPACK_ERRORS:
        return "not msgpack"
    if not isinstance(fields, dict):
        return "no map"
    try:
        snapshot = Snapshot.from_wire(fields)
    except ValueError:
        return "refused"
    assert repr(Snapshot.from_wire(msgpack.unpackb(msgpack.packb(snapshot.to_wire())))) == repr(snapshot)
    for worker in snapshot.workers:
        _ = worker.drop_ratio, worker.processing.quantile(0.5)
        for mailbox in worker.mailboxes:
            _ = mailbox.balance, mailbox.dropped, mailbox.age.quantile(0.99)
    return "accepted"


def load_config(content: bytes) -> str:
    """Load a configuration; what is accepted satisfies the schema, and the daemon's parts can be made of it."""
    descriptor = _file()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, content, 0)
    try:
        config = load(Path(f"/proc/self/fd/{descriptor}"))
    except ConfigError as refusal:
        _check(refusal)
        return "refused"
    assert violations(tomllib.loads(content.decode()), _schema()) == []
    supplier_settings(config)
    grants(config)
    try:
        resolve(config, RUNTIME_DIR)
    except ConfigError as refusal:
        _check(refusal)
        return "unresolved"
    return "accepted"


def _check(refusal: ConfigError) -> None:
    """One line for each problem, and each says where it is."""
    assert len(str(refusal).split("\n")) == 1 + len(refusal.problems) > 1
    assert all(problem.key and problem.text for problem in refusal.problems)


@cache
def _file() -> int:
    """A file in memory, for the life of the process."""
    return os.memfd_create("configuration")


@cache
def _schema() -> dict[str, Any]:
    return json_schema()


def _hexadecimal(vectors: list[dict[str, Any]], **where: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(v["hex"]) for v in vectors if where.items() <= v.items())


def _control(side: str, decoder: Callable[[bytes], Any], max_bytes: int) -> Target:
    kinds = control.FROM_CLIENT if side == "client" else control.FROM_DAEMON
    words = ("type", *kinds, *(name for kind in kinds.values() for name in kind.__dataclass_fields__))
    return Target(
        run=partial(decode_control, decoder=decoder),
        mutate=partial(_either, often=mutate_map, keys=words),
        seeds=_hexadecimal(CONTROL, **{"from": side}) + _hexadecimal(REFUSED, kind=side),
        words=words + control.OUTCOMES,
        max_bytes=max_bytes,
    )


def _either(
    data: bytes, chance: Random, often: Callable[[bytes, Random, tuple[str, ...]], bytes], keys: tuple[str, ...]
) -> bytes:
    return often(data, chance, keys) if chance.randrange(4) else mutate_bytes(data, chance)


def _snapshots() -> tuple[bytes, ...]:
    """An empty one, and one of a worker that was handed a frame."""
    empty, busy = (Supplier(Settings(), bytes(16), 1) for _ in range(2))
    busy.join(JoinRequest("w", bytes(16), 1, ("cam-1",)), 1, None, 0.0)
    busy.frame(Frame("cam-1", bytes(16), 2, 1, 0, "small", None), 1.0)
    busy.demand(1, 1, None, 1.0)
    arenas = (ArenaSnapshot("cam-1", 4096, 7, 1),)
    return tuple(msgpack.packb(take(one, 2.0, 1e9, arenas).to_wire()) for one in (empty, busy))


def _bell(side: str, run: Callable[[bytes], str], kinds: tuple[str, ...]) -> Target:
    """The packets of one side, and the control messages that go over a bell with them."""
    spoken = _control(side, _DECODERS[side], bell.MAX_PACKET)
    packets = [vector for vector in BELL if vector["kind"] in kinds]
    return Target(
        run=run,
        mutate=partial(_either, often=mutate_packet, keys=_HEADER),
        seeds=_hexadecimal(packets) + _hexadecimal(BELL_REFUSED, **{"from": side}) + spoken.seeds,
        words=(*spoken.words, *_HEADER, "D", "F", "H", "SPLF"),
        max_bytes=bell.MAX_PACKET,
    )


_DECODERS: Final[dict[str, Callable[[bytes], Any]]] = {
    "client": control.decode_from_client,
    "daemon": control.decode_from_daemon,
}
_SNAPSHOT: Final = ("layout", *Snapshot.__dataclass_fields__)
_HEADER: Final = ("stream", "epoch", "boot", "encoding", "unsent", "dtype", "shape", "metadata", "arena", "inline")
_PATHS: Final = [entry.key.replace("[]", "").replace("NAME", "x") for entry in entries()]
_KEYS: Final = tuple(dict.fromkeys(part for path in _PATHS for part in (path, *path.split("."))))
_DOCUMENTS: Final = (
    b'[workers.x]\ndelivery = "push"\nendpoint = "tcp://127.0.0.1:5601"\nstreams = ["cam-1"]\n[streams.cam-1]\n',
    b'[security]\nserver_key = "/x"\n[keys.x]\nrole = "publisher"\npublic = "' + b"a" * 40 + b'"\nstreams = ["*"]\n',
    b'[inbox]\nendpoints = ["ipc", {endpoint = "tcp://127.0.0.1:1", conflate = "auto"}]\n[control]\n'
    b'endpoints = ["ipc"]\nworker_ports = "1-2"\n[metrics]\naddress = "[::1]:9108"\n[classes.high]\nidle_after = 1\n',
    b"",
)

TARGETS: Final[dict[str, Target]] = {
    "frame": Target(
        run=decode_frame,
        mutate=partial(_either, often=mutate_frame, keys=_HEADER),
        seeds=_hexadecimal(FRAMES) + _hexadecimal(REFUSED, kind="frame"),
        words=(*_HEADER, "SPLF", "raw", "jpeg", "|u1", "<f4"),
        max_bytes=MAX_HEADER_BYTES + 4096,
    ),
    "control-from-client": _control("client", _DECODERS["client"], control.MAX_CONTROL_BYTES + 1024),
    "control-from-daemon": _control("daemon", _DECODERS["daemon"], 2 * control.MAX_CONTROL_BYTES),
    "bell-from-client": _bell("client", heed_worker, ("demand",)),
    "bell-from-daemon": _bell("daemon", heed_daemon, ("head", "frame")),
    "snapshot": Target(
        run=read_snapshot,
        mutate=partial(_either, often=mutate_map, keys=_SNAPSHOT),
        seeds=_snapshots(),
        words=_SNAPSHOT,
        max_bytes=64 * 1024,
    ),
    "config": Target(
        run=load_config,
        mutate=partial(_either, often=mutate_toml, keys=_KEYS),
        seeds=((ROOT / "config" / "supplierd.toml").read_bytes(), *_DOCUMENTS),
        words=_KEYS,
        max_bytes=16 * 1024,
    ),
}

"""What Hypothesis feeds a target: valid inputs a little changed, whole structures with wild content, random bytes."""

import struct
from random import Random

import msgpack
from hypothesis import strategies as st

from supplierd.wire.frame import ALIGNMENT, PREFIX
from tests.fuzz.mutation import TOML_VALUES, VALUES
from tests.fuzz.targets import Target
from tests.wire.strategies import metadata, trees

bits = st.integers(0, 2**64 - 1)


def inputs(name: str, target: Target) -> st.SearchStrategy[bytes]:
    """Inputs for a target."""
    structures = {"frame": _frames, "config": _documents, "bell-from-client": _packets, "bell-from-daemon": _packets}
    structured = structures.get(name, _maps)(target)
    return _mutated(target) | structured | st.binary(max_size=300)


def _mutated(target: Target) -> st.SearchStrategy[bytes]:
    def change(data: bytes, seeds: list[int]) -> bytes:
        for seed in seeds:
            data = target.mutate(data, Random(seed))
        return data

    return st.builds(change, st.sampled_from(target.seeds), st.lists(bits, min_size=1, max_size=4))


def _maps(target: Target) -> st.SearchStrategy[bytes]:
    """Packed maps of the keys that the target knows."""
    known = st.dictionaries(st.sampled_from(target.words), st.sampled_from(VALUES) | trees, max_size=8)
    kinds = st.fixed_dictionaries({"type": st.sampled_from(target.words)})
    return st.builds(lambda a, b, c: msgpack.packb({**a, **b, **c}), metadata, known, kinds)


def _frames(target: Target) -> st.SearchStrategy[bytes]:
    """A right beginning, a map of the keys of a header, and a payload."""

    def join(seq: int, flags: int, fields: bytes, payload: bytes) -> bytes:
        head = PREFIX.pack(b"SPLF", 1, flags, min(len(fields), 0xFFFF), seq, 0, 0) + fields
        return head + bytes(-len(head) % ALIGNMENT) + payload

    return st.builds(join, bits, st.integers(0, 2), _maps(target), st.binary(max_size=64))


def _packets(target: Target) -> st.SearchStrategy[bytes]:
    """A kind and numbers of the right length, more or less; a head of a frame; a control message."""
    numbers = st.lists(st.sampled_from([0, 1, 2, 2**63, 2**64 - 1]) | bits, min_size=6, max_size=7)
    short = st.builds(
        lambda kind, outcome, head, rest: struct.pack(f"<cBxxI{len(rest)}Q", kind, outcome, head, *rest),
        st.sampled_from([b"D", b"F"]),
        st.integers(0, 9),
        st.integers(0, 4),
        numbers,
    )
    return short | _frames(target).map(lambda message: b"H\0\0\0\1\0\0\0" + message) | _maps(target)


def _documents(target: Target) -> st.SearchStrategy[bytes]:
    """Lines of keys and values, and of headers of tables."""
    value = st.sampled_from(TOML_VALUES) | st.text(max_size=12)
    key = st.sampled_from(target.words)
    line = st.builds(lambda k, v: f"{k} = {v}", key, value) | key.map(lambda k: f"[{k}]")
    return st.lists(line, max_size=8).map(lambda lines: "\n".join(lines).encode("utf-8", "replace"))

"""What wire messages are made of, for Hypothesis."""

import string

from hypothesis import strategies as st

from supplierd.wire.frame import MAX_ENCODING_LENGTH, ArenaRef, Header

ALPHANUMERIC = string.ascii_letters + string.digits

counts = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1])
signed = st.integers(-(2**63), 2**63 - 1)
boots = st.binary(min_size=16, max_size=16)
text = st.text(st.characters(codec="utf-8"), max_size=20)
names = st.builds(str.__add__, st.sampled_from(ALPHANUMERIC), st.text(ALPHANUMERIC + "._-", max_size=63))
encodings = st.just("raw") | st.text(string.printable[:95], min_size=1, max_size=MAX_ENCODING_LENGTH)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | text
    | st.binary(max_size=20)
)
trees = st.recursive(scalars, lambda items: st.lists(items, max_size=3) | st.dictionaries(text, items, max_size=3))
metadata = st.dictionaries(text, trees, max_size=4)
arenas = st.builds(ArenaRef, text, counts, counts, counts, counts)
slots = st.builds(ArenaRef, text, st.integers(0, 2**32 - 1), counts, counts, st.integers(1, 2**64 - 1))
"""What a frame over a bell may name: an arena has 1024 slots at most."""
headers = st.builds(
    Header,
    stream=names,
    epoch=counts,
    boot=boots,
    seq=st.integers(1, 2**64 - 1),
    captured_wall=signed,
    captured_mono=signed,
    unsent=counts,
    encoding=encodings,
    dtype=st.just(""),
    shape=st.just(()),
    arena=st.none(),
    payload_offset=st.just(0),
    payload_size=st.just(0),
    metadata=metadata,
    inline=text,
)
"""Headers of inline frames; a raw one still needs its dtype and shape."""

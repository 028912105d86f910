"""docs/wire.md names what the code has: every message with its keys in order, every reason, outcome and time."""

import dataclasses
import re
from typing import Final

import pytest
from supplierd_client import doorbell as publishers
from supplierd_client import session as client
from supplierd_client.turn import LOST_AFTER

from supplierd.core import snapshot
from supplierd.core.histogram import HistogramSnapshot
from supplierd.core.supplier import FOLLOW_GRACE, SETTLE_GRACE
from supplierd.daemon.dialogue import REPEAT_AFTER
from supplierd.daemon.serve import SPARE_BELLS
from supplierd.daemon.sessions import CONNECT_GRACE
from supplierd.transport import doorbells
from supplierd.transport.bells import HANDSHAKE
from supplierd.wire import bell, control, doorbell, errors, frame
from supplierd.wire.endpoints import MAX_IPC_PATH_BYTES
from tests.docs.snippets import ROOT

TEXT: Final = (ROOT / "docs" / "wire.md").read_text()
FLOWING: Final = " ".join(TEXT.split())
MESSAGES: Final = {**control.FROM_CLIENT, **control.FROM_DAEMON}


def first_column(text: str) -> list[str]:
    """The code in the first column of the first table in `text`."""
    rows: list[str] = []
    for line in text.splitlines():
        if line.startswith("|"):
            rows += re.findall(r"^\| `([^`]+)` \|", line)
        elif rows:
            break
    return rows


@pytest.mark.parametrize("name", MESSAGES)
def test_messages(name: str) -> None:
    _, found, after = TEXT.partition(f"\n**`{name}`**")
    assert found, f"{name} is not described"
    described = first_column(re.split(r"\n\*\*`|\n## |\n### ", after)[0])
    assert described == [field.name for field in dataclasses.fields(MESSAGES[name])]


def test_outcomes_reasons_and_settled() -> None:
    assert first_column(TEXT.partition("| outcome |")[2]) == list(control.OUTCOMES)
    assert first_column(TEXT.partition("## 12.")[2]) == list(errors.REASONS)
    assert f"`[{', '.join(control.Settled._fields)}]`" in FLOWING
    assert f"`[{', '.join(frame.ArenaRef._fields)}]`" in FLOWING


def test_the_keys_of_a_frame() -> None:
    _, _, after = TEXT.partition("The header:")
    every = frame.Header(
        "cam", 1, bytes(16), 1, 0, 0, 1, "raw", "|u1", (1,), {"a": 1}, frame.ArenaRef("f", 0, 2, 0, 1), "small"
    )  # fmt: skip
    packed = frame.encode_head(every)
    positions = [packed.index(bytes([0xA0 | len(key)]) + key.encode()) for key in first_column(after)]
    assert len(positions) == 10
    assert positions == sorted(positions)


def test_the_snapshot() -> None:
    kinds = {
        "stream": snapshot.StreamSnapshot,
        "worker": snapshot.WorkerSnapshot,
        "mailbox": snapshot.MailboxSnapshot,
        "arena": snapshot.ArenaSnapshot,
    }
    for name, kind in kinds.items():
        assert f"- {name}: `[{', '.join(kind._fields)}]`" in FLOWING, name  # type: ignore[attr-defined]
    assert f"`[{', '.join(HistogramSnapshot._fields)}]`" in FLOWING
    assert f"`layout` is {snapshot.LAYOUT}" in FLOWING


def test_the_packets_of_the_bell() -> None:
    section = TEXT.partition("\n## 13.")[2].partition("\n## ")[0]
    drawing = section.partition("```\nDEMAND:")[2].partition("HEAD:")[0]
    columns = {"DEMAND": [line[:45] for line in drawing.splitlines()], "FRAME": [s[45:] for s in drawing.splitlines()]}
    for name, values in (("DEMAND", range(11, 20)), ("FRAME", range(11, 20))):
        packet = getattr(bell, name).pack(*values)
        fields = [
            (int(found[1]), int(found[2]), found[3])
            for found in (re.match(r" +(\d+) +(\d+) +(\w+)", line) for line in columns[name])
            if found
        ]
        assert [offset for offset, _, _ in fields] == [
            sum(size for _, size, _ in fields[:i]) for i in range(len(fields))
        ]
        said = [int.from_bytes(packet[offset : offset + size], "little") for offset, size, _ in fields]
        assert [value for value, (_, _, field) in zip(said, fields, strict=True) if field != "zeros"] == list(values)
        assert f"{len(packet)} bytes, from the" in section
    assert f"1 to {bell.MAX_PACKET} bytes" in section
    assert f"more than {bell.MAX_PACKET // 2} bytes" in section
    assert f"knows {bell.MAX_HEADS} of them" in section
    assert f"no session within {HANDSHAKE:g} s" in section
    assert f"There are {SPARE_BELLS} more connections" in section


def test_the_doorbell() -> None:
    section = " ".join(TEXT.partition("\n## 14.")[2].partition("\n## ")[0].split())
    assert f"`{doorbell.doorbell_path('ipc://DIR/inbox.sock')}` for `ipc://DIR/inbox.sock`" in section
    assert f"more than {MAX_IPC_PATH_BYTES} bytes" in section
    assert f"one packet of {len(doorbell.GREETING)} bytes" in section
    assert doorbell.GREETING.hex() in section.replace(" ", "")
    assert f"at most {doorbells.MOST} doorbells" in section
    assert f"the message has more than {bell.MAX_PACKET} bytes" in section
    assert f"Try again after {publishers.RETRY_AFTER:g} s" in section
    assert f"For {publishers.NOT_OVERTAKEN:g} s after a frame" in section


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REPEAT_AFTER", REPEAT_AFTER),
        ("RETRY_UNSENT", client.RETRY_UNSENT),
        ("LOST_AFTER", LOST_AFTER),
        ("LOST_AFTER_MAX", client.LOST_AFTER_MAX),
        ("CONNECT_GRACE", CONNECT_GRACE),
        ("SETTLE_GRACE", SETTLE_GRACE),
        ("FOLLOW_GRACE", FOLLOW_GRACE),
    ],
)
def test_times(name: str, value: float) -> None:
    assert getattr(client, name, value) == value
    assert f"| `{name}` | {value:g} s |" in TEXT

"""Keys as a terminal sends them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supplierd.top.terminal import keys


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"q", ["q"]),
        (b"\x1b", ["escape"]),
        (b"\x1b\x1b", ["escape", "escape"]),
        (b"\r\n", ["enter", "enter"]),
        (b"\x7f\x08", ["backspace", "backspace"]),
        (b"\x1b[A\x1b[B\x1bOA\x1bOB", ["up", "down", "up", "down"]),
        (b"\x1b[5~\x1b[6~\x1b[H\x1b[F\x1b[1~\x1b[4~", ["pageup", "pagedown", "home", "end", "home", "end"]),
        ("jä/".encode(), ["j", "ä", "/"]),
        (b"\x1b[15~\x1b[1;5C\x1bOP\x1b[<0;3;4M\x1b[200~x", ["x"]),  # F5, Ctrl-Right, F1, a mouse, a paste
        (b"\x1b[", []),
        (b"\x00\x03\x9b\xff", []),
    ],
)
def test_keys(data: bytes, expected: list[str]) -> None:
    assert keys(data) == expected


@given(st.binary(max_size=40))
def test_whatever_comes_is_printable(data: bytes) -> None:
    assert all(key.isprintable() and key for key in keys(data))

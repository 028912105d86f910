"""The rule for names, against the rule said again in other words."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supplierd.wire.names import ANY_STREAM, MAX_NAME_LENGTH, check_name, is_name
from tests.wire.strategies import names

LETTERS_AND_DIGITS = set(string.ascii_letters + string.digits)
AWKWARD = "aZ09._-" + "*/\\ \n\r\t\0\x7f\x1b[é٣²Ⅷ\u200b\ud800"


def allowed(name: str) -> bool:
    return 1 <= len(name) <= 64 and name[0] in LETTERS_AND_DIGITS and set(name) <= LETTERS_AND_DIGITS | set("._-")


@settings(deadline=None)
@given(name=names | st.text(max_size=4) | st.text(AWKWARD, max_size=8) | st.text("a.", min_size=60, max_size=70))
def test_the_rule(name: str) -> None:
    assert is_name(name) == allowed(name)
    if allowed(name):
        assert check_name("stream", name) == name
    else:
        with pytest.raises(ValueError, match="is not allowed: use 1 to 64 of"):
            check_name("stream", name)


@pytest.mark.parametrize("name", ["a", "7", "cam-1", "A.b_c-", "x" * MAX_NAME_LENGTH])
def test_allowed(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "-a", "_a", ".hidden", "..", "a/b", "a b", "cam\n", "cam\0", ANY_STREAM, "é", "x" * 65]
)
def test_not_allowed(name: str) -> None:
    assert not is_name(name)


@pytest.mark.parametrize("value", [None, 1, b"cam-1", ["cam-1"], True])
def test_only_strings(value: object) -> None:
    assert not is_name(value)
    with pytest.raises(ValueError, match="worker name"):
        check_name("worker", value)


def test_the_error_names_the_kind_and_quotes_no_more_than_is_good() -> None:
    with pytest.raises(ValueError, match="worker name '") as caught:
        check_name("worker", "\x1b" * 10_000)
    assert len(str(caught.value)) < 250
    assert "\x1b" not in str(caught.value)

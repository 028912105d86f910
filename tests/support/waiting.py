"""Waiting for what another thread or process is about to do: for a condition, until a deadline."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

DEADLINE: Final = 15.0
"""Seconds; far more than anything here takes, so that only a real failure meets it on a busy machine."""
STEP: Final = 0.005

_T = TypeVar("_T")


def wait_for(condition: Callable[[], _T | None], what: str = "a condition", deadline: float = DEADLINE) -> _T:
    """The first true value of `condition`; fails where none comes within `deadline` seconds."""
    end = time.monotonic() + deadline
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {deadline:g} s in vain for {what}"
        time.sleep(STEP)
    return value

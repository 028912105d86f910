"""Names of streams and workers: one rule for every side.

The rule keeps a name harmless wherever it turns up: metric labels, log lines, file names, a terminal.
"""

import re

MAX_NAME_LENGTH = 64
"""Fits a label of a dashboard's legend and, with a suffix, every file system's limit."""

_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME_LENGTH - 1}}}")

ANY_STREAM = "*"
"""What a worker asks for when it wants every stream, also those that appear later."""


def is_name(value: object) -> bool:
    """Whether `value` is a permitted name of a stream or a worker."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def check_name(kind: str, value: object) -> str:
    """Return `value` if it is a permitted name.

    Args:
        kind: what is named, for the error's text: "stream" or "worker".
        value: the candidate.

    Raises:
        ValueError: it is not a string, is too long, or has a character outside the allowed ones.
    """
    if isinstance(value, str) and is_name(value):
        return value
    raise ValueError(
        f"{kind} name {value!r:.80} is not allowed: use 1 to {MAX_NAME_LENGTH} of A-Z a-z 0-9 . _ - "
        "and begin with a letter or a digit"
    )

"""Logs: one line per event, with its fields; repeating events at most once a second, with what was left out counted.

Three forms of the same record: text for a terminal, text with systemd's priority prefixes where the journal listens,
and JSON for programs. A value never breaks a line: control characters are escaped.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

ROOT: Final = "supplierd"
FORMATS: Final = ("auto", "text", "journal", "json")
REPEAT_INTERVAL: Final = 1.0
"""Seconds between two lines of one repeating event: an operator can follow, a flood cannot fill the disk."""

_PRIORITY: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def event(log: logging.Logger, level: int, text: str, /, **fields: object) -> None:
    """Log one event with its fields, like stream="cam-1"."""
    if log.isEnabledFor(level):
        log.log(level, "%s", text, extra={"fields": fields})


class Repeating:
    """Events that may repeat quickly: the first is logged at once, then one a second and key, with a count.

    Keys are few: no peer may choose one.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._seen: dict[str, tuple[float, int]] = {}

    def event(self, key: str, now: float, text: str, /, **fields: object) -> None:
        """Log a warning under `key`, unless one was logged within REPEAT_INTERVAL (then count it)."""
        logged_at, more = self._seen.get(key, (float("-inf"), 0))
        if now - logged_at < REPEAT_INTERVAL:
            self._seen[key] = (logged_at, more + 1)
            return
        if more:
            fields["unlogged"] = more
        self._seen[key] = (now, 0)
        event(self._log, logging.WARNING, text, **fields)


def setup(level: str, form: str, environ: Mapping[str, str] | None = None) -> None:
    """Send the log to standard error.

    Args:
        level: debug, info, warning or error.
        form: one of FORMATS; "auto" is "journal" where systemd's journal is connected to standard error, else "text".
        environ: the environment; default: the process's.
    """
    handler = logging.StreamHandler(sys.stderr)
    if form == "auto":
        form = "journal" if _on_journal(os.environ if environ is None else environ) else "text"
    handler.setFormatter({"text": _Text, "journal": _Journal, "json": _Json}[form]())
    root = logging.getLogger(ROOT)
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False


def _on_journal(environ: Mapping[str, str]) -> bool:
    """Whether standard error is the journal's own socket, as systemd announces by device and inode."""
    try:
        device, inode = environ.get("JOURNAL_STREAM", "").split(":")
        status = os.fstat(sys.stderr.fileno())
        return (status.st_dev, status.st_ino) == (int(device), int(inode))
    except (ValueError, OSError):
        return False


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields


def _line(record: logging.LogRecord) -> str:
    text = record.getMessage()
    parts = [text if text.isprintable() else json.dumps(text)[1:-1]]
    parts += [f"{key}={_value(value)}" for key, value in _fields(record).items() if value not in (None, "")]
    if record.exc_info:
        parts.append(repr(logging.Formatter().formatException(record.exc_info)))
    return " ".join(parts)


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if text.isprintable() and " " not in text and '"' not in text else json.dumps(text)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        return f"{moment}.{record.msecs:03.0f} {record.levelname.lower():7} {_line(record)}"


class _Journal(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"<{_PRIORITY.get(record.levelno, 6)}>{_line(record)}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {"at": round(record.created, 6), "level": record.levelname.lower(), "event": record.getMessage()}
        if record.exc_info:
            entry["exception"] = logging.Formatter().formatException(record.exc_info)
        return json.dumps({**entry, **_fields(record)}, default=str)

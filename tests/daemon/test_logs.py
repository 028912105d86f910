"""The three forms of the log, and that no name or text breaks a line."""

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator

import pytest

from supplierd import logs
from supplierd.logs import Repeating, event
from tests.support.daemon import Daemon

HOSTILE = 'a"b\n00:00:00.000 error   forged\r\x1b[31m\x00\u2028 c'
LOG = logging.getLogger("supplierd.test")


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], list[str]]]:
    """What has been written, by lines as a terminal or a program counts them."""
    root = logging.getLogger(logs.ROOT)
    before = root.handlers[:], root.level, root.propagate

    def written() -> list[str]:
        return capsys.readouterr().err.splitlines()

    yield written
    root.handlers[:], root.propagate = before[0], before[2]
    root.setLevel(before[1])


def test_text(lines: Callable[[], list[str]]) -> None:
    logs.setup("info", "text")
    event(LOG, logging.INFO, "worker joined", worker="w", rate=1 / 3, nothing=None, empty="", count=0)
    event(LOG, logging.DEBUG, "not at this level")
    (line,) = lines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} info    worker joined worker=w rate=0\.333333 count=0", line)


def test_journal(lines: Callable[[], list[str]]) -> None:
    logs.setup("debug", "journal")
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        event(LOG, level, "event", stream="cam-1")
    assert lines() == [f"<{priority}>event stream=cam-1" for priority in (7, 6, 4, 3, 2)]


def test_json(lines: Callable[[], list[str]]) -> None:
    logs.setup("info", "json")
    event(LOG, logging.WARNING, "event", text=HOSTILE, number=3, nothing=None, path=os)
    (line,) = lines()
    entry = json.loads(line)
    assert (entry["level"], entry["event"], entry["number"], entry["nothing"]) == ("warning", "event", 3, None)
    assert entry["text"] == HOSTILE
    assert isinstance(entry["at"], float)


@pytest.mark.parametrize("form", ["text", "journal", "json"])
def test_hostile_values_stay_on_their_line(lines: Callable[[], list[str]], form: str) -> None:
    logs.setup("info", form)
    event(LOG, logging.INFO, "event", worker=HOSTILE, plain="x")
    (line,) = lines()
    assert line.isprintable()
    assert line.endswith("plain=x") or json.loads(line)["plain"] == "x"


@pytest.mark.parametrize("form", ["text", "journal", "json"])
def test_an_exception_stays_on_one_line(lines: Callable[[], list[str]], form: str) -> None:
    logs.setup("info", form)
    try:
        raise RuntimeError(HOSTILE)
    except RuntimeError:
        LOG.exception("it failed")
    (line,) = lines()
    assert "it failed" in line
    assert "RuntimeError" in line


@pytest.mark.parametrize("form", ["text", "journal", "json"])
def test_even_a_text_that_breaks_lines_does_not(lines: Callable[[], list[str]], form: str) -> None:
    logs.setup("info", form)
    event(LOG, logging.INFO, f"refused: {HOSTILE}")
    assert len(lines()) == 1


def test_repeating_events_are_logged_once_a_second_with_what_was_left_out(lines: Callable[[], list[str]]) -> None:
    logs.setup("info", "journal")
    repeating = Repeating(LOG)
    for moment in range(250):
        repeating.event("key", moment / 100, "it happened again")
    repeating.event("another key", 0.0, "something else")
    assert lines() == [
        "<4>it happened again",
        "<4>it happened again unlogged=99",
        "<4>it happened again unlogged=99",
        "<4>something else",
    ]


def test_auto_is_the_journal_where_it_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    status = os.fstat(2)
    monkeypatch.setattr(sys, "stderr", os.fdopen(os.dup(2), "w"))
    here = f"{status.st_dev}:{status.st_ino}"
    for announced, form in [(here, "_Journal"), ("1:2", "_Text"), ("rubbish", "_Text"), ("", "_Text")]:
        logs.setup("info", "auto", {"JOURNAL_STREAM": announced})
        (handler,) = logging.getLogger(logs.ROOT).handlers
        assert type(handler.formatter).__name__ == form
    sys.stderr.close()


def test_a_daemon_under_systemd_logs_with_priorities(daemons: Callable[..., Daemon]) -> None:
    daemon = daemons()
    daemon.log_file.touch()
    status = daemon.log_file.stat()
    daemon.set_environment(JOURNAL_STREAM=f"{status.st_dev}:{status.st_ino}")
    daemon.start()
    daemon.stop()
    assert all(re.match(r"<[2-7]>", line) for line in daemon.log().splitlines())

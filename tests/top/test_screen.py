"""The whole screen at 80×24 and at other sizes: what is on it, and what each key does."""

import io
import time
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from supplierd.core.snapshot import ArenaSnapshot, Snapshot
from supplierd.top.layout import AGE_LEVELS, ASCII, BLOCKS, shorten
from supplierd.top.screen import Screen
from tests.top.pictures import mailbox, snapshot, stream, worker

NOW = 500.0
CAMERAS = (stream("hall"), stream("bedroom", silent=True, lost=3))


def shown(screen: Screen, width: int = 80, height: int = 24, later: float = 0.0) -> list[str]:
    """The lines as a terminal of that size would print them."""
    found = screen.lines(width, height, NOW + later)
    console = Console(width=width, height=height, file=io.StringIO(), record=True)
    for line in found:
        console.print(line, no_wrap=True, overflow="crop", soft_wrap=True)
    lines = console.export_text().splitlines()
    assert len(found) == height
    assert all(line.cell_len <= width for line in found)
    return lines


def told(*snapshots: Snapshot, ramp: str = BLOCKS) -> Screen:
    """A screen after a snapshot a second; the last one is new."""
    screen = Screen("ipc:///run/x/control.sock", ramp)
    for i, each in enumerate(snapshots):
        screen.answer(each, NOW - len(snapshots) + 1 + i)
    return screen


def house(i: int = 10) -> Snapshot:
    """Four workers of a house, after `i` seconds."""
    return snapshot(
        worker("falls", mailbox("bedroom", 5 * i), service_class="critical", state="idle", budget=0.0, target_fps=5.0),
        worker("pose", mailbox("hall", 9 * i, i, window=(300, 30)), service_class="high", budget=0.1),
        worker("sleep", mailbox("bedroom", i, 24 * i, slot=12, window=(750, 720)), state="starved"),
        worker("research", service_class="best_effort", state="gone", budget=1.0, client=""),
        streams=CAMERAS,
    )


def house_for(seconds: int = 20) -> Screen:
    return told(*map(house, range(seconds)))


def line_of(lines: Iterable[str], text: str) -> str:
    """The one line with this text."""
    (found,) = [line for line in lines if text in line]
    return found


def order(screen: Screen) -> str:
    """The workers' initials in the order shown."""
    return "".join(
        line[2] for line in shown(screen) if line[2:].split(" ")[0] in ("falls", "pose", "sleep", "research")
    )


def press(screen: Screen, *keys: str) -> list[str]:
    for key in keys:
        screen.press(key)
    return shown(screen)


# --- what is on it ----------------------------------------------------------------------------------------------------


def test_trouble_comes_first() -> None:
    lines = shown(house_for())
    assert "2 streams, 1 silent" in lines[0]
    assert "4 workers, 1 idle, 1 gone, 1 starved," in lines[0]
    assert lines[1] == "! critical worker falls is idle: frames wait and it took none for 30 s"
    assert lines[2].startswith("! normal worker sleep dropped 96.0% of 750 frames")
    assert lines[3].split() == ["STREAM", "STATE", "FPS", "RECEIVED", "DROPPED"]


def test_a_stream_has_state_rate_and_drops() -> None:
    lines = shown(house_for())
    assert line_of(lines, "hall    live").split() == ["hall", "live", "25.0", "100", "0"]
    assert line_of(lines, "bedroom silent").startswith("! bedroom silent   0.0       100        3 last frame 2 min ago")


def test_a_worker_has_its_figures() -> None:
    lines = shown(house_for())
    assert line_of(lines, "!falls ").split() == [">!falls", "crit", "idle", "bedroom", "5.0/5", "7.5ms", "10ms", "-/0%"]
    assert line_of(lines, "  pose").split()[1:] == ["high", "busy", "hall", "9.0", "7.5ms", "10ms", "10/10%"]
    assert line_of(lines, "!sleep ").split()[-3:] == ["1.5s", "2.0s", "96/50%"]
    assert line_of(lines, "  research").split()[1:] == ["best", "gone", "-", "-", "-", "-", "-/100%"]
    assert line_of(lines, "dropped in 10 s") == "dropped in 10 s: sleep 240 overwritten; pose 10 overwritten"


def test_sparklines_tell_age_and_drops() -> None:
    lines = shown(house_for(60))
    falls, pose, sleep = (lines[lines.index(line_of(lines, text)) + 1] for text in ("!falls", "  pose ", "!sleep "))
    assert falls.split() == ["age", "▂" * 11, "drops", "▁" * 11]
    assert pose.split()[-1] == "▂" * 11
    assert sleep.split() == ["age", "█" * 11, "drops", "█" * 11]


def test_the_levels_of_a_sparkline_are_eight() -> None:
    assert len(BLOCKS) == len(ASCII) == len(AGE_LEVELS) + 1


def test_without_blocks_sparklines_are_of_ascii() -> None:
    text = "".join(shown(told(*map(house, range(20)), ramp=ASCII)))
    assert not set(text) & set(BLOCKS)
    assert "####" in text


def test_colours_are_never_alone() -> None:
    """What is red or yellow says so in a word or a "!"; without colours bold and reverse remain."""
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system="truecolor", no_color=True)
    with console.capture() as capture:
        for line in house_for().lines(80, 24, NOW):
            console.print(line)
    assert "\x1b[3" not in capture.get()
    assert "\x1b[1;7m" in capture.get()


def test_leases_inline_reasons_and_refusals_are_told() -> None:
    holder = worker("w", mailbox(), leases=3, inline_reason="no_arena")
    lines = shown(told(snapshot(holder, rejected={"bad_name": 2})))
    assert line_of(lines, "slots leased") == "slots leased: w 3"
    assert line_of(lines, "inline") == "inline: w (no_arena)"
    assert line_of(lines, "refused") == "refused: 2 bad_name"


def test_a_stream_tells_of_its_shared_memory_and_inline_frames() -> None:
    camera = stream()._replace(inline={"full": 4})
    found = Snapshot(1000.0, 30.0, (camera,), (), (ArenaSnapshot("cam-1", 12_300_000, 5, 2),), {}, house().distribution)
    assert "12 MB, 2 leased, 5 free; inline: 4 full" in line_of(shown(told(found)), "cam-1")


def test_no_worker_at_all() -> None:
    assert line_of(shown(told(snapshot())), "no worker has joined, none is configured")
    assert "every promise kept" in shown(told(snapshot()))[0]


def test_at_large_sizes_there_are_words_reasons_and_the_detail() -> None:
    lines = shown(house_for(), 160, 50)
    assert {"CLASS", "DROPS/MAX", "AGE", "DROPPED"} <= set(" ".join(lines).split())
    assert line_of(lines, "best_effort gone")
    assert line_of(lines, "96/50%").rstrip().endswith("240 overwritten")
    assert line_of(lines, "ledger")


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keys", "expected"), [("c", "fpsr"), ("n", "fprs"), ("a", "sfpr"), ("d", "spfr")])
def test_orders_by_key(keys: str, expected: str) -> None:
    screen = house_for()
    press(screen, keys)
    assert order(screen) == expected


def test_s_goes_through_the_orders() -> None:
    screen = house_for()
    seen = []
    for _ in range(5):
        seen.append(order(screen))
        press(screen, "s")
    assert seen == ["fpsr", "fprs", "sfpr", "spfr", "fpsr"]


def test_the_filter_narrows_workers_and_their_streams_while_it_is_typed() -> None:
    screen = house_for()
    lines = press(screen, "/", *"Hall")
    assert lines[-1].startswith("/Hall")
    assert order(screen) == "p"
    assert not any("bedroom" in line for line in lines)
    assert "filter: Hall" in press(screen, "enter")[-1]
    press(screen, "escape")
    assert order(screen) == "fpsr"


def test_while_the_filter_is_typed_every_character_belongs_to_it() -> None:
    screen = house_for()
    press(screen, "/")
    assert not screen.quits
    lines = press(screen, *"q?s/", "up", "pagedown")
    assert lines[-1].startswith("/q?s/ ")
    assert line_of(lines, "nothing matches q?s/")
    assert press(screen, *["backspace"] * 9)[-1].startswith("/ ")
    press(screen, *"x" * 500)
    assert "".join(press(screen, "escape")).count("x") == 0
    assert screen.quits


def test_the_detail_has_both_sides_of_the_ledger() -> None:
    screen = house_for()
    lines = press(screen, "down", "enter")
    text = " ".join(" ".join(lines).split())
    assert "pose high busy" in text
    assert "ledger 192 offered = 171 consumed + 19 overwritten + 0 decimated + 1 pending + 1 in flight" in text
    assert "192 = 192: it adds up" in text
    assert "10% of 300 promised frames over 30 s, at most 10%" in text
    assert "pid 4711, python 1.0" in text
    assert "p50 7.5ms, p95 9.8ms, p99 10ms" in text
    assert "10 overwritten in 10 s" in text
    assert "bedroom" not in text
    assert "STREAM" in "".join(press(screen, "enter"))


def test_a_ledger_that_does_not_add_up_says_so() -> None:
    wrong = mailbox(consumed=5)._replace(offered=9)
    assert line_of(press(told(snapshot(worker("w", wrong))), "enter"), "does NOT add up")


def test_in_the_detail_the_arrows_go_on_and_escape_goes_back() -> None:
    screen = house_for()
    assert line_of(press(screen, "enter", "j", "j"), "sleep  normal  starved")
    assert line_of(press(screen, "k"), "pose  high  busy")
    assert line_of(press(screen, "end"), "none has joined")
    assert line_of(press(screen, "home"), "falls  critical  idle")
    assert "STREAM" in "".join(press(screen, "escape"))


def test_the_selected_worker_stays_selected_when_others_move() -> None:
    screen = house_for()
    assert line_of(press(screen, "j"), "> pose")
    assert line_of(press(screen, "d"), "> pose")
    screen.answer(snapshot(worker("aaa", mailbox()), *house(20).workers, streams=CAMERAS), NOW)
    assert line_of(shown(screen), "> pose")


def test_the_help_explains_every_key_and_column_within_24_lines() -> None:
    screen = house_for()
    text = "".join(press(screen, "?"))
    assert all(
        word in text
        for word in ("Enter", "filter by words", "q ", "c n a d", "AGE", "DROPS", "starved", "silent stream")
    )
    assert "STREAM" in "".join(press(screen, "x"))


# --- the daemon away and back -----------------------------------------------------------------------------------------


def test_before_the_first_answer_it_says_whom_it_waits_for() -> None:
    assert line_of(shown(Screen("ipc:///run/x/control.sock")), "waiting for the daemon on ipc:///run/x/control.sock")


def test_a_daemon_that_is_away_is_told_at_the_top_with_what_was_last_seen_below() -> None:
    screen = house_for()
    for passed in (2.0, 4.0):
        screen.miss("no daemon answered on ipc:///x", NOW + passed)
    lines = shown(screen, later=14.0)
    assert lines[:2] == [" NO ANSWER for 12 s ", "no daemon answered on ipc:///x"]
    assert line_of(lines, "!falls")
    assert screen.quits


def test_a_daemon_that_never_answered_too() -> None:
    screen = Screen("ipc:///x")
    screen.miss("nobody there", NOW)
    assert shown(screen)[:2] == [" NO ANSWER for 0 s ", "nobody there"]
    screen.miss("no daemon answered on ipc:///a/path within 2 s: is it running, and with this runtime directory?", NOW)
    assert line_of(shown(screen), "runtime directory?")


def test_it_resumes_by_itself_without_a_rate_from_before() -> None:
    screen = house_for()
    screen.miss("away", NOW + 2)
    screen.answer(house(1), NOW + 30)
    lines = shown(screen, later=30)
    assert not any("NO ANSWER" in line for line in lines)
    assert "-/5" in line_of(lines, "!falls")
    screen.answer(house(2), NOW + 31)
    assert "5.0/5" in line_of(shown(screen, later=31), "!falls")


# --- sizes and numbers ------------------------------------------------------------------------------------------------


def full(i: int) -> Snapshot:
    """64 workers on 2 streams each, of 32."""
    workers = [
        worker(
            f"worker-{'x' * (n % 30)}-of-the-house-{n:02}",
            *(mailbox(f"cam-{(n + k) % 32:02}", 5 * i, 3 * i, window=(30, n % 30)) for k in (0, 1)),
            state=("busy", "idle", "starved", "gone", "waiting")[n % 5],
            service_class="critical" if n % 2 else "normal",
        )
        for n in range(64)
    ]
    return snapshot(*workers, streams=tuple(stream(f"cam-{n:02}", silent=n == 30) for n in range(32)))


def test_64_workers_on_two_streams_each_are_shown_page_by_page() -> None:
    screen = told(*map(full, range(2)))
    lines = shown(screen)
    assert "broken promises more" in "".join(lines)
    assert line_of(lines, "! cam-30").startswith("! cam-30 silent")  # trouble first, where not all have room
    assert line_of(lines, "streams more")
    assert "1 to 11 of 128" in lines[-1]
    assert "2 to 12 of 128" in press(screen, "pagedown", "down")[-1]
    assert "118 to 128 of 128" in press(screen, "end")[-1]
    assert "117 to 127 of 128" in press(screen, "pageup", "up")[-1]
    assert "1 to 11 of 128" in press(screen, "home")[-1]
    lines = press(screen, "/", *"cam-17 house-16")
    assert [line[2:].split()[0][-3:] for line in lines if line.startswith(">")] == ["-16"]


def test_64_workers_stay_responsive() -> None:
    screen = told(*map(full, range(60)))
    news = full(60)

    def took() -> float:
        began = time.perf_counter()
        screen.answer(news, NOW + 1)
        press(screen, "down")
        return time.perf_counter() - began

    assert min(took() for _ in range(5)) < 0.1  # s; a tenth of the interval between two answers


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 220), st.integers(1, 70), st.sampled_from(["", "enter", "?", "/"]), st.booleans(), st.booleans())
def test_every_size_is_filled_and_never_exceeded(width: int, height: int, key: str, many: bool, away: bool) -> None:
    screen = told(*map(full if many else house, range(3)))
    if away:
        screen.miss("no daemon answered " * 20, NOW)
    if key:
        screen.press(key)
    shown(screen, width, height)


@given(st.text("abc-", max_size=64), st.integers(1, 40))
def test_a_name_that_is_too_long_loses_its_middle(name: str, width: int) -> None:
    short = shorten(name, width)
    assert len(short) == min(len(name), width)
    assert short == name or (short[0] in (name[0], "…") and "…" in short)

"""Scrapes share what is made after they asked, and rendering rests in between."""

import threading
from dataclasses import dataclass, field

import pytest

from supplierd.daemon import pace
from supplierd.daemon.pace import FORMATS, LONGEST_PERIOD, SHARE, Answer, BusyError, Paced
from tests.support.waiting import wait_for


@dataclass
class Kitchen:
    """Time that passes only when something is made or rested, and what was made."""

    takes: float
    now: float = 0.0
    worked: float = 0.0
    made: list[float] = field(default_factory=list)

    def make(self, accept: str | None) -> Answer:
        self.now += self.takes
        self.worked += self.takes
        self.made.append(self.now)
        if accept == "poison":
            raise ValueError("no daemon")
        return str(len(self.made)).encode(), accept or ""

    def rest(self, seconds: float) -> None:
        self.now += seconds

    def paced(self) -> Paced:
        return Paced(
            self.make, kind=lambda a: a or "", clock=lambda: self.now, used=lambda: self.worked, rest=self.rest
        )


def test_whoever_scrapes_without_a_pause_gets_a_share_of_a_core() -> None:
    kitchen = Kitchen(takes=0.002)
    paced = kitchen.paced()
    for number in range(1, 101):
        assert paced(None)[0] == str(number).encode()  # each is new
    assert kitchen.worked / kitchen.now == pytest.approx(SHARE, rel=0.02)


def test_a_scrape_now_and_then_does_not_wait() -> None:
    kitchen = Kitchen(takes=0.05)
    paced = kitchen.paced()
    for _ in range(10):
        began = kitchen.now
        paced(None)
        assert kitchen.now - began == pytest.approx(kitchen.takes)
        kitchen.now += 1.0


@pytest.mark.parametrize("takes", [0.05, 0.5, 5.0])
def test_an_interval_of_a_second_is_kept_as_long_as_rendering_allows(takes: float) -> None:
    kitchen = Kitchen(takes=takes)
    paced = kitchen.paced()
    for _ in range(20):
        began = kitchen.now
        paced(None)
        assert kitchen.now - began == pytest.approx(takes)
        kitchen.now = max(kitchen.now, began + 1.0)
    began = kitchen.now
    paced(None)
    paced(None)
    assert kitchen.now - began == pytest.approx(max(LONGEST_PERIOD, takes) + takes)


def test_scrapers_of_two_formats_do_not_hold_each_other_up() -> None:
    kitchen = Kitchen(takes=0.05)
    paced = kitchen.paced()
    for second in range(20):
        for at, accept in ((0.0, "text"), (0.5, "openmetrics")):
            kitchen.now = max(kitchen.now, second + at)
            began = kitchen.now
            assert paced(accept)[1] == accept
            assert kitchen.now - began == pytest.approx(kitchen.takes)


def test_formats_of_a_strangers_making_are_not_kept() -> None:
    paced = Kitchen(takes=0.0).paced()
    for number in range(1000):
        paced(f"version={number}")
    assert len(paced._queues) <= FORMATS


def test_who_would_wait_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "LONGEST_WAIT", 0.01)
    begun, go = threading.Event(), threading.Event()

    def make(accept: str | None) -> Answer:
        begun.set()
        assert go.wait(10)
        return b"", ""

    paced = Paced(make, kind=lambda _: "")
    first = threading.Thread(target=paced, args=(None,))
    first.start()
    assert begun.wait(10)
    with pytest.raises(BusyError, match="scrape less often"):
        paced(None)
    go.set()
    first.join(10)


def test_a_failure_is_the_askers_and_nobody_elses() -> None:
    kitchen = Kitchen(takes=0.1)
    paced = kitchen.paced()
    with pytest.raises(ValueError, match="no daemon"):
        paced("poison")
    assert paced("plain") == (b"2", "plain")
    assert paced("other") == (b"3", "other")


def test_all_who_wait_get_the_one_answer_that_is_made_after_they_asked() -> None:
    asked, go, made = [], threading.Event(), []

    def make(accept: str | None) -> Answer:
        made.append(accept)
        assert go.wait(10)
        return str(len(made)).encode(), ""

    def clock() -> float:
        asked.append(1)
        return float(len(asked))

    paced = Paced(make, kind=lambda _: "", clock=clock, used=lambda: 0.0)
    answers: list[bytes] = []
    crowd = [threading.Thread(target=lambda: answers.append(paced(None)[0])) for _ in range(8)]
    crowd[0].start()
    wait_for(lambda: made, "the first to be served")
    for one in crowd[1:]:
        one.start()
    wait_for(lambda: len(asked) >= 3 + len(crowd) - 1, "the others to ask")
    go.set()
    for one in crowd:
        one.join(10)
    assert sorted(answers) == [b"1"] + [b"2"] * 7  # the first was under way when the others asked

"""Promised rates, played through with a virtual clock: cameras with jitter, workers that take their time."""

import heapq
import random
from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest

from supplierd.core.service import ServiceClass, WorkerPolicy
from supplierd.core.stream import Frame
from supplierd.core.supplier import Delivery
from tests.core.builders import Camera, Process, delivered, mailbox_pictured, pictured, report, supplier

SECONDS = 60
TICK = 0.05


class Played:
    """A worker that plays on one camera for a while: it demands, works, and demands again.

    Args:
        shots: when the camera's frames arrive.
        work: seconds that it works on a frame.
        target_fps: what it is promised.
    """

    def __init__(self, shots: Iterable[float], work: Callable[[], float], target_fps: float | None) -> None:
        critical = WorkerPolicy(ServiceClass.CRITICAL, drop_budget=0.0, configured=True)
        self.core = supplier({"w": critical}, drop_window=float(SECONDS))
        self.process = Process(self.core, target_fps=target_fps)
        self.taken: list[float] = []
        self.last = 0
        self._camera, self._work = Camera(), work
        shots = sorted(shots)
        ticks = [n * TICK for n in range(int((shots[-1] + 2.0) / TICK))]
        self._events: list[tuple[float, int, Frame | None]] = [(t, 0, None) for t in shots]
        self._events += [(t, 1, None) for t in ticks]
        heapq.heapify(self._events)
        self._play()

    def _play(self) -> None:
        self.process.join(0.0)
        self._hand(self.process.demand(0.0), 0.0)
        while self._events:
            now, kind, seen = heapq.heappop(self._events)
            if kind == 0:
                self._deliver(self.core.frame(self._camera.shoot(), now), now)
            elif kind == 1:
                self._deliver(self.core.tick(now), now)
            else:
                assert seen is not None
                self._hand(self.process.demand(now, report(seen)), now)

    def _deliver(self, deliveries: list[Delivery], now: float) -> None:
        for sent in delivered(deliveries).values():
            self._hand(sent, now)

    def _hand(self, sent: object, now: float) -> None:
        if isinstance(sent, Frame):
            self.taken.append(now)
            assert sent.seq > self.last
            self.last = sent.seq
            heapq.heappush(self._events, (now + self._work(), 2, sent))

    @property
    def dropped(self) -> int:
        return self.process.mailbox.ledger.dropped

    @property
    def ratio(self) -> float:
        ratio = pictured(self.core).drop_ratio
        assert ratio is not None
        return ratio


def shots(fps: float, jitter: float = 0.0, seed: int = 1) -> list[float]:
    """Arrivals at a rate, each up to `jitter` intervals early or late."""
    chance = random.Random(seed)
    return [max(0.0, (n + chance.uniform(-jitter, jitter)) / fps) for n in range(int(SECONDS * fps))]


def at_once() -> float:
    return 0.001


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("jitter", [0.0, 0.1, 0.3])
@pytest.mark.parametrize(("fps", "target"), [(30, 10), (25, 10), (30, 7), (30, 1), (15, 4), (30, 29)])
def test_the_promised_rate_is_kept_and_nothing_dropped(fps: float, target: float, jitter: float, seed: int) -> None:
    played = Played(shots(fps, jitter, seed), at_once, target)
    assert played.dropped == 0
    assert len(played.taken) == pytest.approx(SECONDS * target, abs=1.5)
    gaps = [later - earlier for earlier, later in pairwise(played.taken[:-1])]  # the last waits for a frame that is not
    assert max(gaps) <= 1 / target + (1.0 + 2 * jitter) / fps + 1e-9
    assert min(gaps) >= 1 / target - (1.0 + 2 * jitter) / fps - 1e-9


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_worker_that_needs_most_of_its_period_keeps_up(share: float) -> None:
    played = Played(shots(30, 0.2), lambda: share / 10, 10)
    assert played.dropped == 0
    assert len(played.taken) == pytest.approx(SECONDS * 10, abs=1.5)
    assert played.ratio == 0.0


def test_one_that_is_late_now_and_then_catches_up() -> None:
    chance = random.Random(7)
    played = Played(shots(30, 0.1), lambda: 0.11 if chance.random() < 0.3 else 0.05, 10)
    assert len(played.taken) == pytest.approx(SECONDS * 10, abs=2)
    assert played.ratio <= 0.02


def test_a_worker_too_slow_for_its_promise_drops_its_share() -> None:
    ratios = []
    for work in (0.15, 0.2, 0.5, 1.0):
        played = Played(shots(30, 0.1), lambda work=work: work, 10)  # type: ignore[misc]
        missing = 1 - len(played.taken) / (SECONDS * 10)  # of what it was promised
        beyond = 1 - len(played.taken) / (SECONDS * 30)  # of all that there was
        assert len(played.taken) == pytest.approx(SECONDS / work, rel=0.1)
        assert missing <= played.ratio <= beyond
        ratios.append(played.ratio)
    assert ratios == sorted(set(ratios))
    assert ratios[0] > 0.3


def test_without_a_promise_everything_overwritten_is_dropped() -> None:
    played = Played(shots(30), lambda: 0.1, None)
    counts = played.process.counts
    assert "decimated" not in counts
    assert played.dropped == counts["overwritten"] == counts["offered"] - counts["consumed"]
    assert played.ratio == pytest.approx(1 - len(played.taken) / (SECONDS * 30), abs=0.01)


@pytest.mark.parametrize("jitter", [0.0, 0.2])
@pytest.mark.parametrize("target", [30, 31, 60, 1000])
def test_rates_of_the_stream_and_above_mean_every_frame(target: float, jitter: float) -> None:
    played = Played(shots(30, jitter), at_once, target)
    counts = played.process.counts
    assert played.dropped == 0
    assert counts["consumed"] >= counts["offered"] - (1 + 0.02 * SECONDS * 30 * (jitter > 0 and target == 30))


def test_the_last_frame_before_a_pause_comes_though_it_is_not_due() -> None:
    for last in range(1, 12):
        played = Played([n / 30 for n in range(90 + last)], at_once, 3)
        assert played.last == 90 + last
        due = played.taken[-2] + 1 / 3
        assert played.taken[-1] <= max((89 + last) / 30, due) + 1 / 30 + 2 * TICK


def test_a_stream_slower_than_the_promise_loses_nothing() -> None:
    played = Played(shots(2, 0.3), at_once, 10)
    assert played.process.counts == {"offered": 120, "consumed": 120}


@pytest.mark.parametrize("pause", [1.0, 60.0, 3600.0])
def test_a_pause_does_not_void_the_promise(pause: float) -> None:
    played = Played([0.0, *(pause + t for t in shots(30, 0.1))], at_once, 10)
    assert played.dropped == 0
    after = [t for t in played.taken if t >= pause]
    assert len(after) == pytest.approx(SECONDS * 10, abs=2)
    gaps = [later - earlier for earlier, later in pairwise(after)]
    assert min(gaps[1:]) >= 0.05 - 0.2 / 30  # while the interval is overrated, half a period of tolerance
    assert max(gaps[:-1]) <= 0.15 + 1.2 / 30


def test_a_change_of_pace_is_followed() -> None:
    faster = [n / 5 for n in range(50)] + [10.0 + n / 30 for n in range(900)]
    played = Played(faster, at_once, 10)
    assert played.dropped == 0
    assert len([t for t in played.taken if t < 10.0]) == 50
    assert len([t for t in played.taken if 20.0 <= t < 40.0]) == pytest.approx(200, abs=1)


def test_each_stream_is_promised_the_rate() -> None:
    core = supplier()
    cameras = [Camera(f"cam-{i}") for i in range(3)]
    process = Process(core, streams=tuple(camera.stream for camera in cameras), target_fps=5.0)
    process.join()
    seen = process.demand()
    for step in range(300):
        for camera in cameras:
            seen = delivered(core.frame(camera.shoot(), step / 30)).get("w", seen)
            while isinstance(seen, Frame):
                seen = process.demand(step / 30, report(seen))
    for camera in cameras:
        mailbox = mailbox_pictured(core, stream=camera.stream)
        assert mailbox.consumed == pytest.approx(50, abs=1)
        assert mailbox.overwritten == 0

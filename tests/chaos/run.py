"""A run: strike, see that everybody resumes, see that everything holds, and again; at the end everything must be gone.

What is done follows from the seed alone, so that a failure can be replayed; when exactly it hits is the machine's.
"""

import random
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from supplierd.arena import arena_directory
from tests.chaos import invariants
from tests.chaos.faults import FAULTS
from tests.chaos.invariants import RESUMED_WITHIN, Handed
from tests.chaos.members import Level, Seen
from tests.chaos.stage import CAMERAS, Stage
from tests.support.waiting import DEADLINE, STEP

SETTLED_WITHIN: Final = 12.0
"""Seconds after a fault in which everything is given back: the daemon looks for dead arenas every 5."""
GIVEN_UP_AFTER: Final = 30.0
"""Seconds after which somebody who has not resumed is not waited for any longer."""


class Run:
    """One run of chaos.

    Args:
        stage: everybody, started.
        seed: of what is done.
        tell: is given a line for each step.

    Attributes:
        violations: what did not hold, and at which step.
        resumed: seconds until everybody had resumed, by fault.
    """

    def __init__(self, stage: Stage, seed: int, tell: Callable[[str], object]) -> None:
        self.stage = stage
        self.violations: list[str] = []
        self.resumed: dict[str, list[float]] = defaultdict(list)
        self._chance = random.Random(seed)
        self._tell = tell
        self._step = "start"
        self._first: dict[str, Level] = {}
        self._counters: tuple[int, dict[str, int]] = (0, {})
        self._struck: list[float] = []
        self._checked = dict.fromkeys(stage.workers, 0)
        self._newest: dict[str, dict[str, Seen]] = {name: {} for name in stage.workers}

    def begin(self) -> None:
        """Wait until everybody works, and remember what they have open then."""
        took = self._resume(time.monotonic(), DEADLINE)
        if took is not None:
            self._tell(f"everybody works after {took:.2f} s")
        self._check()

    def step(self, name: str) -> None:
        """Strike, and check."""
        self._struck.append(time.monotonic())
        self._step = f"step {len(self._struck)} ({name})"
        try:
            what = FAULTS[name].strike(self.stage, self._chance)
        except AssertionError as error:  # something did not happen in time, while the fault lasted
            what = f"cut short: {error}"
            self._violated([what])
        self._step = f"step {len(self._struck)} ({name} {what})"
        took = self._resume(time.monotonic(), RESUMED_WITHIN)
        if took is not None:
            self.resumed[name].append(took)
            self._tell(f"{self._step}: resumed after {took:.2f} s")
        self._check()

    def end(self) -> None:
        """Let everybody go, in an order in which every leak shows."""
        self._step = "end"
        stage = self.stage
        stage.freeze_cameras()
        snapshot = stage.wait_quiet()
        stage.listen()
        self._violated(self._ledgers(snapshot, {}))
        self._holds(lambda: (f"a slot of {a.stream} is leased" for a in stage.daemon.snapshot().arenas if a.leased > 1))
        for camera in stage.cameras.values():
            camera.release()
        for camera in stage.cameras.values():
            camera.stop()
        arenas = arena_directory(stage.runtime_dir)
        self._holds(lambda: (f"{path.name} is left" for path in arenas.iterdir()))
        stage.daemon.stop()
        left = (path.name for path in stage.runtime_dir.iterdir() if path.suffix != ".lock" and path.name != "arena")
        self._violated(f"{name} is left" for name in left)

    def hold_still(self) -> None:
        """Check, with nothing done to anybody."""
        self._resume(time.monotonic(), RESUMED_WITHIN)
        self._check()

    def report(self) -> dict[str, Any]:
        """What happened, for JSON."""
        return {
            "steps": len(self._struck),
            "frames": {name: len(worker.seen) for name, worker in self.stage.workers.items()},
            "resumed": {
                name: {
                    "times": len(took),
                    "median_s": round(sorted(took)[len(took) // 2], 2),
                    "worst_s": round(max(took), 2),
                }
                for name, took in sorted(self.resumed.items())
            },
            "violations": self.violations,
        }

    # --- inside -------------------------------------------------------------------------------------------------------

    def _resume(self, end: float, within: float) -> float | None:
        """Seconds until every worker has new frames of all its streams; None: somebody never had."""
        start = {name: len(worker.seen) for name, worker in self.stage.workers.items()}
        while True:
            self.stage.listen()
            waiting, worst = [], 0.0
            for name, worker in self.stage.workers.items():
                streams = worker.arguments["streams"]
                took = invariants.resumed_after(
                    worker.seen[start[name] :], CAMERAS if streams == ["*"] else streams, end
                )
                worst = max(worst, took or 0.0)
                if took is None:
                    waiting.append(name)
            dead = [*self.stage.deaths()]
            spent = time.monotonic() - end
            if not waiting or dead or spent > GIVEN_UP_AFTER:
                break
            time.sleep(STEP)
        self._violated(dead)
        if not dead and (waiting or worst > within):
            who = f"; {' '.join(waiting)} never did" if waiting else ""
            self._violated([f"resumed after {spent if waiting else worst:.2f} s, allowed are {within:g}{who}"])
        return None if waiting else worst

    def _check(self) -> None:
        """Everything but the time: at once, or as soon as what dies with a fault is gone."""
        stage = self.stage
        if any(stage.deaths()):
            raise GoneError
        self._violated(self._evidence())
        self._holds(self._unsettled)
        for name, level in stage.levels().items():
            self._first.setdefault(name, level)

    def _unsettled(self) -> Iterator[str]:
        """What need not be well at once after a fault."""
        stage = self.stage
        stage.listen()
        before = self._handed()
        snapshot = stage.daemon.snapshot()
        stage.listen()
        yield from self._ledgers(snapshot, before)
        yield from invariants.leaks(self._first, stage.levels())
        yield from invariants.leased_slots(snapshot)
        yield from stage.strays(snapshot)

    def _evidence(self) -> Iterator[str]:
        """What workers saw since the last check."""
        for name, worker in self.stage.workers.items():
            newest, new = self._newest[name], worker.seen[self._checked[name] :]
            self._checked[name] += len(new)
            yield from invariants.disorder(name, [*newest.values(), *new])
            newest.update({frame.stream: frame for frame in new})
            for check in (invariants.torn, invariants.wrong_ages):
                yield from check(name, new)
        for member in self.stage.members:
            yield from member.complaints
            member.complaints.clear()

    def _handed(self) -> dict[str, int]:
        began = self.stage.daemon.began
        return {
            name: len(worker.seen) - bisect_left(worker.seen, began, key=lambda frame: frame.at)
            for name, worker in self.stage.workers.items()
        }

    def _ledgers(self, snapshot: Any, before: dict[str, int]) -> Iterator[str]:
        """The books of this life of the daemon."""
        daemon = self.stage.daemon
        strikes = sum(at >= daemon.began - DEADLINE for at in self._struck)
        after = self._handed()
        handed = {name: Handed(before.get(name, count), count, 2 + strikes) for name, count in after.items()}
        yield from invariants.ledger_errors(snapshot, handed)
        counters = invariants.counters(snapshot)
        if self._counters[0] == daemon.lives:
            yield from invariants.went_down(self._counters[1], counters)
        self._counters = daemon.lives, counters

    def _holds(self, wrong: Callable[[], Iterable[str]]) -> None:
        """See that nothing is wrong, within SETTLED_WITHIN."""
        end = time.monotonic() + SETTLED_WITHIN
        while found := [*wrong()]:
            if time.monotonic() > end:
                self._violated(found)
                return
            time.sleep(STEP * 10)

    def _violated(self, what: Iterable[str]) -> None:
        for line in what:
            self.violations.append(f"{self._step}: {line}")
            self._tell(f"VIOLATED {self.violations[-1]}")


class GoneError(Exception):
    """Somebody is dead who should not be: there is nothing to go on with."""


def choose(seed: int, apart: bool) -> Iterator[str]:
    """Names of faults for ever: all in an order of chance, then again in another."""
    chance = random.Random(f"order {seed}")
    names = [name for name, fault in FAULTS.items() if apart or not fault.apart]
    while True:
        yield from chance.sample(names, len(names))


def logs(home: Path) -> str:
    """The last of what everybody wrote to standard error."""
    files = (path for path in (home / "log", *sorted(home.glob("*.err"))) if path.stat().st_size)
    return "\n".join(
        "\n".join([f"--- {path.name}", *path.read_text(errors="replace").splitlines()[-40:]]) for path in files
    )

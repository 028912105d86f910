"""One system on one work: start it, wait until every worker has a frame, measure for a while, end it.

A cell never takes the others down: whatever fails becomes the row's `error`, every wait has a deadline, and what was
started is ended by its id. The share that processes not of this run had tells how far a figure can be trusted.
"""

import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rig import SHM, Part, cpu_seconds, machine_seconds, until

from peers.parts import counts_of
from peers.system import Broker, Place, System, free_ports
from peers.works import Work

PROGRAM: Final = str(Path(__file__).parents[1] / "compare.py")
START_WITHIN: Final = 20.0
"""Seconds that a system has to start, and as many until the first worker has got a frame."""
ALL_WITHIN: Final = 8.0
"""Seconds from then on until every worker should have got one; else the run goes on without those."""
SETTLE: Final = 0.4
"""Seconds of frames to every worker before measuring begins."""
END_WITHIN: Final = 5.0
STOPPED_FOR: Final = 3.0
STEP: Final = 1.6
"""From one pace to the next."""
STEP_SECONDS: Final = 0.6
HOLDS: Final = 0.95
"""A pace holds where so much of it was published, and so much of that was delivered."""
HIGHEST: Final = 20_000.0
"""Frames a second: where the search ends."""
LONGEST: Final = ("after_stop_ms",)
"""Figures of which no median is wanted, but the largest."""

Row = dict[str, Any]
Counts = npt.NDArray[np.int64]


class Cell:
    """A system at work."""

    def __init__(self, system: System, work: Work, folder: Path) -> None:
        self.system, self.work = system, work
        self.place = Place(folder, work.shape, work.workers, free_ports(work.workers + 1), {})
        (folder / "counts").write_bytes(bytes(8 * (work.workers + 1)))
        self.counts: Counts = counts_of(self.place)
        self.log = folder / "log"
        self.row: Row = {}
        self._parts: list[Part] = []
        self._broker: Broker | None = None

    def run(self, seconds: float) -> Row:
        """Measure. The row has `error` where it failed."""
        began = time.monotonic()
        try:
            self._start()
            if self.work.highest:
                self._climb()
            else:
                self._steady(seconds)
            if self.work.stopped:
                self._stop_one()
        except Exception as error:  # whatever a library may raise: the other cells go on
            self.row["error"] = self._why(error)
        finally:
            self._end()
        self.row["took_s"] = round(time.monotonic() - began, 1)
        return self.row

    @property
    def _workers(self) -> list[int]:
        """Their processes."""
        words = self._parts[0].words if self._parts else []
        return words[0]["pids"] if words else []

    def _start(self) -> None:
        place = self.place
        self._broker = self.system.broker(place)
        words = {**vars(place), "folder": str(place.folder)}
        with self.log.open("wb") as log:
            for part, more in (("work", {"pauses": self.work.pauses}), ("publish", {"fps": self.work.fps})):
                arguments = {"system": self.system.name, "place": words, **more}
                self._parts.append(Part(PROGRAM, part, arguments, log))
        crew, camera = self._parts
        until(lambda: (camera.words and crew.words) or self._dead(), "publisher and workers", START_WITHIN)
        camera.go()
        until(lambda: self.counts[:-1].any() or self._dead(), "a worker's first frame", START_WITHIN)
        with suppress(TimeoutError):
            until(lambda: self.counts[:-1].all() or self._dead(), "a frame for each", ALL_WITHIN)
        self.row["without_a_frame"] = int((self.counts[:-1] == 0).sum())
        time.sleep(SETTLE)

    def _dead(self) -> bool:
        """Raises where a part has ended."""
        for part in self._parts:
            if not part.running:
                raise RuntimeError(f"a part ended with status {part.process.returncode}")
        return False

    def _steady(self, seconds: float) -> None:
        assert self._broker is not None
        who = {"broker": self._broker.pids(), "publisher": [self._parts[1].pid], "workers": self._workers}
        began, machine = time.monotonic_ns(), machine_seconds()
        cpu = {name: cpu_seconds(pids) for name, pids in who.items()}
        time.sleep(seconds)
        self._dead()
        cpu = {name: cpu_seconds(pids) - cpu[name] for name, pids in who.items()}
        ended, busy = time.monotonic_ns(), machine_seconds() - machine - sum(cpu.values())
        self.row |= {
            "window": (began, ended),
            "cpu": cpu,
            "others": busy / ((ended - began) / 1e9) / (os.cpu_count() or 1),
            "memory_mb": sum(resident(pid) for pids in who.values() for pid in pids) / 1e6,
        }

    def _stop_one(self) -> None:
        """SIGSTOP for worker 1, and how old its first frame is when it goes on."""
        pid = self._workers[1]
        before, began = self.counts.copy(), time.monotonic_ns()
        os.kill(pid, signal.SIGSTOP)
        time.sleep(STOPPED_FOR)
        after, at = self.counts.copy(), time.monotonic_ns()
        os.kill(pid, signal.SIGCONT)
        with suppress(TimeoutError):
            until(lambda: self.counts[1] > after[1] + 2, "the stopped worker", END_WITHIN)
        grown = after - before
        self.row |= {
            "continued_at": at,
            "neighbours_share": float(grown[2:-1].mean() / max(1, grown[-1])),
            "publish_while_stopped_fps": float(grown[-1] / ((at - began) / 1e9)),
        }

    def _climb(self) -> None:
        """Raise the pace until it does not hold, twice; then once more between the last two."""
        held, best = 0.0, 0.0
        pace = self.work.fps
        while pace < HIGHEST and (reached := self._holds(pace) or self._rested(pace)):
            held, best = pace, reached
            pace *= STEP
        if held:
            best = self._rested(held * STEP**0.5) or best
        self.row["highest_fps"] = best

    def _rested(self, pace: float) -> float:
        """Whether a pace holds after a pause, in which queues drain."""
        self._parts[1].tell("5")
        time.sleep(STEP_SECONDS)
        return self._holds(pace)

    def _holds(self, pace: float) -> float:
        """Frames a second that were published, if the pace holds; else 0."""
        self._parts[1].tell(str(pace))
        time.sleep(STEP_SECONDS / 2)
        before, began = self.counts.copy(), time.monotonic()
        time.sleep(STEP_SECONDS)
        grown, seconds = self.counts - before, time.monotonic() - began
        self._dead()
        published = float(grown[-1]) / seconds
        holds = published >= HOLDS * pace and grown[:-1].mean() >= HOLDS * grown[-1]
        return published if holds else 0.0

    def _end(self) -> None:
        if self._broker is not None and self._parts:
            with suppress(Exception):
                self.row["reported_drops"] = self._broker.drops()
        hung = []
        for part, pids in zip(reversed(self._parts), ([], self._workers), strict=False):
            if not finish(part, pids):
                hung.append("workers" if pids else "publisher")
        if hung:
            self.row["hung"] = hung
        for part in self._parts[1:]:
            if part.words and part.words[-1].get("drops") is not None:
                self.row["reported_drops"] = part.words[-1]["drops"]
        if "error" not in self.row and not self.work.highest:
            try:
                self.row |= figures(self.place, self.work, self.row)
            except (OSError, ValueError) as error:
                self.row["error"] = self._why(error)
        if self._broker is not None:
            with suppress(Exception):
                self._broker.close()

    def _why(self, error: Exception) -> str:
        """What went wrong, with the last that was written to the log."""
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        hung = [f"had to be killed: {', '.join(self.row['hung'])}"] if "hung" in self.row else []
        return " – ".join([f"{type(error).__name__}: {error}", *hung, *lines[-1:]])[:400]


def measure(system: System, work: Work, seconds: float, kind: type[Cell] = Cell) -> Row:
    """One cell."""
    if reason := system.missing():
        return {"skipped": reason}
    if system.max_workers is not None and work.workers > system.max_workers:
        return {"skipped": f"at most {system.max_workers} workers"}
    before = set(os.listdir(SHM)) if SHM.is_dir() else set()
    with tempfile.TemporaryDirectory(prefix="peer-", dir=SHM if SHM.is_dir() else None) as folder:
        row = kind(system, work, Path(folder)).run(seconds)
    patterns = [pattern.format(folder=Path(folder).name) for pattern in system.leftovers]
    left = [path for pattern in patterns for path in SHM.glob(pattern) if path.name not in before]
    for path in left:
        with suppress(OSError):
            path.unlink()
    return {**row, "left_files": len(left)}


def figures(place: Place, work: Work, row: Row) -> Row:
    """What the files of a run say."""
    began, ended = row.pop("window")
    published = np.load(place.folder / "published.npy")
    got = [np.load(place.folder / f"got-{index}.npy") for index in range(work.workers)]
    drops = [json.loads((place.folder / f"drops-{index}.json").read_text()) for index in range(work.workers)]
    if any(count is not None for count in drops):
        row["reported_drops"] = sum(count or 0 for count in drops)
    inside = [frames[(frames[:, 0] >= began) & (frames[:, 0] < ended)] for frames in got]
    calls = published[(published[:, 0] >= began) & (published[:, 0] < ended)]
    seconds = (ended - began) / 1e9
    delivered = sum(map(len, inside))
    cpu = row.pop("cpu")
    found: Row = {
        "published_fps": len(calls) / seconds,
        "received_fps": delivered / work.workers / seconds,
        "delivered": delivered,
        "cpu_s_per_1000": sum(cpu.values()) / max(1, delivered) * 1000,
        "cpu_s": cpu,
        **spread("publish", calls[:, 1]),
        "missed": sum(int(frames[-1, 1] - frames[0, 1] + 1 - len(frames)) for frames in got if len(frames)),
    }
    fast = inside[1:] if work.slow else inside
    found |= spread("age", np.concatenate([frames[:, 2] for frames in fast]))
    if work.slow:
        found |= spread("slow_age", inside[0][:, 2])
    if work.stopped:
        later = got[1][got[1][:, 0] >= row.pop("continued_at")]
        found["after_stop_ms"] = float(later[0, 2]) / 1e6 if len(later) else None
    return found


def spread(name: str, nanoseconds: Counts) -> Row:
    """Median, 99 % and the most, in ms."""
    if not len(nanoseconds):
        return {}
    p50, p99 = np.quantile(nanoseconds, (0.5, 0.99)) / 1e6
    return {
        f"{name}_p50_ms": float(p50),
        f"{name}_p99_ms": float(p99),
        f"{name}_max_ms": float(nanoseconds.max()) / 1e6,
    }


def resident(pid: int) -> int:
    """Bytes that a process has in memory; a page that several have counts for each in part (PSS)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def finish(part: Part, pids: Iterable[int]) -> bool:
    """End a part, and kill it with its children where it hangs; whether it ended by itself."""
    with suppress(BrokenPipeError):
        part.release()
    try:
        part.process.wait(END_WITHIN)
    except subprocess.TimeoutExpired:
        for pid in (*pids, part.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # a machine out of breath takes its time; the next cell need not wait
            part.process.wait(END_WITHIN)
        return False
    return True


def medians(rows: list[Row]) -> Row:
    """Of each figure over the rounds, but of LONGEST; errors and skips are kept where no round succeeded."""
    good = [row for row in rows if "error" not in row and "skipped" not in row]
    if not good:
        return rows[-1]
    merged: Row = {"rounds": len(good)}
    for key in good[0]:
        values = [row[key] for row in good if row.get(key) is not None]
        if values and all(isinstance(value, int | float) for value in values):
            merged[key] = max(values) if key in LONGEST else statistics.median(values)
        else:
            merged[key] = good[0][key]
    if len(good) < len(rows):
        merged["failed_rounds"] = len(rows) - len(good)
    return merged

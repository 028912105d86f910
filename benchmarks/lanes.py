"""Frames inline against frames in shared memory, side by side in one run.

    python benchmarks/lanes.py                      everything, about 12 minutes
    python benchmarks/lanes.py --only age --rounds 5 --seconds 10

The lanes are `inline` (shared_memory="off"), `publish` (an array is copied into a slot) and `loan` (the picture is
written into the slot, as a decoder would). They take turns, and a figure is the median over the rounds. Age is from the
call of `publish` to the array in the worker's hands. CPU is of all processes (daemon, exporter, publisher, workers)
between two moments when everybody is connected. Workers look at the first and the last byte. Output: JSON and a table.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from rig import Rig, cpu_seconds, machine_seconds, memory, play, say, told, until, wait_for_go, when_ended
from supplierd_client import Publisher, Worker

LANES: Final = ("inline", "publish", "loan")
FULL_HD: Final = (1080, 1920, 3)
ULTRA_HD: Final = (2160, 3840, 3)
FPS: Final = 30.0
STREAM: Final = "cam-1"
WARM_UP: Final = 1.5
"""Seconds of frames before measuring begins."""


# --- parts ------------------------------------------------------------------------------------------------------------


def publish(runtime_dir: str, lane: str, shape: list[int], fps: float) -> None:
    """A camera at a fixed pace."""
    picture = np.random.default_rng(1).integers(0, 255, shape, np.uint8)
    with Publisher(STREAM, shared_memory="off" if lane == "inline" else "on", runtime_dir=runtime_dir) as publisher:
        say(ready=True)
        wait_for_go()
        due = time.monotonic()
        took = []
        while not told():
            payload: Any = picture
            if lane == "loan":
                payload = publisher.loan(picture.shape, picture.dtype)
                np.copyto(payload.array, picture)
            began = time.perf_counter()
            publisher.publish(payload)
            took.append(time.perf_counter() - began)
            due = max(due + 1.0 / fps, time.monotonic() - 1.0 / fps)
            time.sleep(max(0.0, due - time.monotonic()))
        say(published=publisher.published, publish=statistics.median(took))


def work(runtime_dir: str, name: str, keep: int = 0) -> None:
    """A worker that notes when it got each frame, or the last `keep`, and how old it was."""
    worker = Worker(name, [STREAM], runtime_dir=runtime_dir)
    when_ended(worker.close)
    got: deque[tuple[float, float]] = deque(maxlen=keep or None)
    for frame in worker:
        got.append((time.monotonic(), frame.age))
        _ = int(frame.array.flat[0]) + int(frame.array.flat[-1])
    say(got=list(got))


# --- one run ----------------------------------------------------------------------------------------------------------


class Run:
    """A publisher and its workers, measured for a while.

    Attributes:
        delivered: frames that workers took meanwhile.
        cpu: seconds, by who used them.
        ages: seconds, of every frame delivered.
        fps: what the publisher achieved.
        received: frames a second and worker.
        inbox_drops: frames lost before the daemon had them.
        inline: frames that came inline, by reason.
        others: the share of the machine that processes not of this run took: more than some percent spoil it.
    """

    def __init__(self, lane: str, shape: tuple[int, ...], workers: int, seconds: float, fps: float = FPS) -> None:
        self.lane = lane
        with Rig(__file__, "[daemon]\nmax_workers = 128\n") as rig:
            publisher = rig.start("publish", lane=lane, shape=shape, fps=fps)
            consumers = [rig.start("work", name=f"worker-{i}") for i in range(workers)]
            until(lambda: publisher.words, "the publisher")
            rig.wait_for_workers(workers)
            publisher.go()
            time.sleep(WARM_UP)
            who = {
                "daemon": rig.daemon_pids(),
                "publisher": [publisher.pid],
                "workers": [consumer.pid for consumer in consumers],
            }
            before, began, machine = rig.snapshot(), time.monotonic(), machine_seconds()
            cpu = {name: cpu_seconds(pids) for name, pids in who.items()}
            time.sleep(seconds)
            self.cpu = {name: cpu_seconds(pids) - cpu[name] for name, pids in who.items()}
            after, ended = rig.snapshot(), time.monotonic()
            busy = machine_seconds() - machine - sum(self.cpu.values())
            self.others = busy / (ended - began) / (os.cpu_count() or 1)
            self.publish = publisher.end()["publish"]
            for consumer in consumers:
                consumer.release()
            got = [pair for consumer in consumers for pair in consumer.end()["got"]]
        self.ages = [age for at, age in got if began <= at < ended]
        taken = [sum(m.consumed for w in snapshot.workers for m in w.mailboxes) for snapshot in (before, after)]
        self.delivered = taken[1] - taken[0]
        (first,), (last,) = before.streams, after.streams
        self.fps = (last.published - first.published) / (after.at - before.at)
        self.received = self.delivered / workers / (after.at - before.at)
        self.inbox_drops = sum(last.dropped.values()) - sum(first.dropped.values())
        self.inline = last.inline

    def figures(self) -> dict[str, float]:
        """The figures of this run: milliseconds, CPU seconds per 1000 frames delivered, frames a second."""
        thousands = self.delivered / 1000
        return {
            "age_p50_ms": statistics.median(self.ages) * 1e3,
            "age_p99_ms": float(np.quantile(self.ages, 0.99)) * 1e3,
            "cpu_s_per_1000": sum(self.cpu.values()) / thousands,
            **{f"cpu_{name}_s_per_1000": seconds / thousands for name, seconds in self.cpu.items()},
            "publish_p50_ms": self.publish * 1e3,
            "published_fps": self.fps,
            "received_fps": self.received,
            "inbox_drops": self.inbox_drops,
            "others": self.others,
        }


# --- scenarios --------------------------------------------------------------------------------------------------------


def in_turns(lanes: tuple[str, ...], rounds: int, run: Callable[[str], Run]) -> dict[str, dict[str, float]]:
    """Run each lane in turn, `rounds` times: the median of each figure, by lane."""
    found: dict[str, list[dict[str, float]]] = {lane: [] for lane in lanes}
    for number in range(rounds):
        for lane in lanes:
            found[lane].append(run(lane).figures())
            note(f"round {number + 1} of {rounds}, {lane}: {brief(found[lane][-1])}")
    return {
        lane: {name: statistics.median(figures[name] for figures in each) for name in each[0]}
        for lane, each in found.items()
    }


def age(options: argparse.Namespace) -> dict[str, Any]:
    """Raw 1080p at 30 fps to 8 workers: age and CPU."""
    return in_turns(LANES, options.rounds, lambda lane: Run(lane, FULL_HD, 8, options.seconds))


def crowd(options: argparse.Namespace) -> dict[str, Any]:
    """Raw 1080p at 30 fps to 64 workers: does it hold?"""
    return in_turns(("publish", "loan"), options.rounds, lambda lane: Run(lane, FULL_HD, 64, options.seconds))


def large(options: argparse.Namespace) -> dict[str, Any]:
    """Raw 4K at 30 fps to 8 workers: does it hold?"""
    return in_turns(LANES, options.rounds, lambda lane: Run(lane, ULTRA_HD, 8, options.seconds))


def sizes(options: argparse.Namespace) -> dict[str, Any]:
    """From which size on is shared memory better? 30 fps to 4 workers."""
    found = {}
    for kib in (4, 8, 16, 32, 64, 128, 256, 1024):
        note(f"{kib} KiB")
        run = partial(Run, shape=(kib * 1024,), workers=4, seconds=options.seconds)
        found[f"{kib} KiB"] = in_turns(("inline", "publish"), options.rounds, run)
    return found


def growth(options: argparse.Namespace) -> dict[str, Any]:
    """Resident memory of 8 workers over 10,000 frames, as fast as they come."""
    samples: list[tuple[int, float, float]] = []
    with Rig(__file__) as rig:
        publisher = rig.start("publish", lane="publish", shape=FULL_HD, fps=200.0)
        consumers = [rig.start("work", name=f"worker-{i}", keep=1) for i in range(8)]
        until(lambda: publisher.words, "the publisher")
        rig.wait_for_workers(8)
        publisher.go()
        while not samples or samples[-1][0] < options.frames:
            time.sleep(0.5)
            taken = sum(m.consumed for w in rig.snapshot().workers for m in w.mailboxes) // 8
            resident = [memory(consumer.pid) for consumer in consumers]
            samples.append((taken, statistics.mean(r[0] for r in resident), statistics.mean(r[1] for r in resident)))
    settled = [sample for sample in samples if sample[0] >= options.frames / 10]
    frames, private, shared = map(np.array, zip(*settled, strict=True))
    return {
        "frames_per_worker": int(frames[-1] - frames[0]),
        "private_start_mb": private[0] / 1e6,
        "private_end_mb": private[-1] / 1e6,
        "private_slope_bytes_per_frame": float(np.polyfit(frames, private, 1)[0]),
        "shared_start_mb": shared[0] / 1e6,
        "shared_end_mb": shared[-1] / 1e6,
    }


SCENARIOS: Final = {scenario.__name__: scenario for scenario in (age, crowd, large, growth, sizes)}


# --- output -----------------------------------------------------------------------------------------------------------


def note(text: str) -> None:
    """Say how it goes, to whoever watches."""
    print(text, file=sys.stderr, flush=True)


def brief(figures: dict[str, float]) -> str:
    """A run in one line."""
    return (
        f"age {figures['age_p50_ms']:.2f}/{figures['age_p99_ms']:.2f} ms, CPU {figures['cpu_s_per_1000']:.3f} s per "
        f"1000, {figures['published_fps']:.1f} fps published, {figures['received_fps']:.1f} received, "
        f"{figures['inbox_drops']:.0f} inbox drops; others took {figures['others']:.0%} of the machine"
    )


def table(results: dict[str, Any]) -> str:
    """The lanes' figures in Markdown, with how many times less than inline they are."""
    lines = [
        "| | age p50 / p99 ms | CPU s per 1000 delivered | publish ms | fps published / received | inbox drops |",
        "|---|---|---|---|---|---|",
    ]
    for name, lanes in results.items():
        base = lanes.get("inline")
        for lane, f in lanes.items():
            less = {
                key: f" (÷ {base[key] / f[key]:.1f})" if base and f is not base else ""
                for key in ("age_p50_ms", "cpu_s_per_1000")
            }
            lines.append(
                f"| {name} {lane} | {f['age_p50_ms']:.2f}{less['age_p50_ms']} / {f['age_p99_ms']:.2f} "
                f"| {f['cpu_s_per_1000']:.3f}{less['cpu_s_per_1000']} | {f['publish_p50_ms']:.2f} "
                f"| {f['published_fps']:.1f} / {f['received_fps']:.1f} | {f['inbox_drops']:.0f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=["age", "crowd", "large", "growth"])
    parser.add_argument("--rounds", type=int, default=3, help="of each lane (default 3)")
    parser.add_argument("--seconds", type=float, default=10.0, help="measured in each run (default 10)")
    parser.add_argument("--frames", type=int, default=10_000, help="of `growth` (default 10000)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    results: dict[str, Any] = {"load": os.getloadavg()[0], "cores": os.cpu_count()}
    for name in options.only:
        note(f"{name}: {SCENARIOS[name].__doc__}")
        results[name] = SCENARIOS[name](options)
    text = json.dumps(results, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text)
    lanes = {name: results[name] for name in options.only if name in ("age", "crowd", "large")}
    lanes |= {f"{size}:": each for size, each in results.get("sizes", {}).items()}
    if lanes:
        print(table(lanes))


if __name__ == "__main__" and not play((publish, work)):
    main()

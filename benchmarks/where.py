"""Where do the microseconds of a frame go?

    python benchmarks/where.py            8 workers, 100 KB in shared memory; about a minute

First nothing is touched: the CPU time and the context switches of every thread, out of /proc, for each frame delivered,
at a camera's pace. Then the steps of the path are wrapped, which adds a microsecond or two to each, and the median of
what they took is shown: at a camera's pace, where every step finds the processor's caches full of others' work, and at
a high one to a single worker, where it finds its own.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import supplierd_client.doorbell
import supplierd_client.express
import supplierd_client.lane
import supplierd_client.publisher
import supplierd_client.session
from rig import Rig, play, say, told, until, wait_for_go, when_ended
from supplierd_client import Publisher, Worker

import supplierd.arena.holding
import supplierd.core.supplier
import supplierd.daemon.attendance
import supplierd.daemon.dialogue
import supplierd.daemon.distribution
import supplierd.daemon.express
import supplierd.daemon.parcels
import supplierd.transport.bells
import supplierd.wire.encoder
import supplierd.wire.frame
from supplierd.cli.main import main as supplierd_main

SIZE: Final = 100_000
"""Bytes of a frame: a JPEG picture of 1080p."""
CAMERA_FPS: Final = 30.0
WARM_FPS: Final = 400.0
WARM_UP: Final = 1.5
"""Seconds of frames before anything counts."""
PUBLISHER: Final[dict[str, tuple[Any, str]]] = {
    "publish": (Publisher, "publish"),
    "· copy into a slot": (supplierd_client.lane.Lane, "store"),
    "· header": (supplierd.wire.encoder.Encoder, "encode"),
    "· doorbell": (supplierd_client.doorbell.Doorbell, "put"),
}
DAEMON: Final[dict[str, tuple[Any, str]]] = {
    "a frame": (supplierd.daemon.distribution.Distribution, "take"),
    "· decode": (supplierd.wire.frame.Decoder, "decode"),
    "· lease": (supplierd.daemon.parcels.Parcels, "make"),
    "· decide, for all workers": (supplierd.core.supplier.Supplier, "frame"),
    "· send to one worker": (supplierd.transport.bells.Bell, "ring"),
    "a demand": (supplierd.daemon.dialogue.Dialogue, "rung"),
    "· decode one": (supplierd.daemon.dialogue.wire_bell, "decode_demand"),
    "· book the last frame": (supplierd.core.supplier.Supplier, "demand"),
    "a tick": (supplierd.core.supplier.Supplier, "tick"),
    "a look at who is there": (supplierd.daemon.attendance.Attendance, "look"),
}
WORKER: Final[dict[str, tuple[Any, str]]] = {
    "write the demand": (supplierd_client.session.Session, "begin"),
    "map, lock and check": (supplierd.arena.ArenaReader, "array"),
    "book it": (supplierd_client.session.Session, "take"),
    "frame": (supplierd_client.express, "Frame"),
    "let go of the last one": (supplierd.arena.holding.Slots, "drop"),
}
if str(supplierd.wire.encoder.__file__).endswith(".so"):
    del PUBLISHER["· header"]
if str(supplierd_client.express.__file__).endswith(".so"):
    WORKER.clear()  # compiled, they are no calls that could be wrapped
if str(supplierd.daemon.express.__file__).endswith(".so"):
    for label in DAEMON.keys() - {"a look at who is there"}:
        del DAEMON[label]


# --- parts ------------------------------------------------------------------------------------------------------------


def timed(steps: dict[str, tuple[Any, str]]) -> dict[str, list[int]]:
    """Wrap the steps; the nanoseconds of each call from now on, by step."""
    took: dict[str, list[int]] = {}
    for label, (owner, name) in steps.items():
        _wrap(owner, name, took.setdefault(label, []))
    return took


def _wrap(owner: Any, name: str, took: list[int]) -> None:
    step: Callable[..., Any] = getattr(owner, name)
    now = time.perf_counter_ns

    def wrapped(*args: Any, **options: Any) -> Any:
        began = now()
        result = step(*args, **options)
        took.append(now() - began)
        return result

    setattr(owner, name, wrapped)


def medians(took: dict[str, list[int]]) -> dict[str, float]:
    """Microseconds by step, of those that happened, the first fifth left out."""
    return {label: statistics.median(each[len(each) // 5 :]) / 1e3 for label, each in took.items() if each}


def publish(runtime_dir: str, fps: float, wrapped: bool) -> None:
    """A camera at a fixed pace."""
    took = timed(PUBLISHER) if wrapped else {}
    picture = np.zeros(SIZE, np.uint8)
    with Publisher("cam-1", shared_memory="on", runtime_dir=runtime_dir) as publisher:
        say(ready=True)
        wait_for_go()
        due = time.monotonic()
        while not told():
            publisher.publish(picture)
            due = max(due + 1.0 / fps, time.monotonic() - 1.0 / fps)
            time.sleep(max(0.0, due - time.monotonic()))
    say(took=medians(took))


def work(runtime_dir: str, name: str, wrapped: bool) -> None:
    """A worker that looks at the first and the last byte."""
    took = timed(WORKER) if wrapped else {}
    worker = Worker(name, ["cam-1"], runtime_dir=runtime_dir)
    when_ended(worker.close)
    for frame in worker:
        _ = int(frame.array[0]) + int(frame.array[-1])
        del frame
    say(took=medians(took))


def daemon(arguments: list[str], report: str) -> None:
    """A daemon whose steps are wrapped."""
    took = timed(DAEMON)
    sys.argv[1:] = arguments
    try:
        supplierd_main()
    finally:
        Path(report).write_text(json.dumps(medians(took)))


# --- measuring --------------------------------------------------------------------------------------------------------


def threads(pid: int) -> dict[str, tuple[float, int]]:
    """CPU seconds and voluntary context switches so far of a process's threads, by what they do."""
    found: dict[str, tuple[float, int]] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        seconds = int((task / "schedstat").read_text().split()[0]) / 1e9
        switches = next(line for line in (task / "status").read_text().splitlines() if line.startswith("voluntary"))
        name = "main" if int(task.name) == pid else "ZeroMQ"
        before = found.get(name, (0.0, 0))
        found[name] = before[0] + seconds, before[1] + int(switches.split()[1])
    return found


def consumed(rig: Rig) -> int:
    """Frames that workers have reported so far."""
    return sum(mailbox.consumed for worker in rig.snapshot().workers for mailbox in worker.mailboxes)


def untouched(workers: int, seconds: float) -> dict[str, Any]:
    """What the threads use for each frame delivered."""
    with Rig(__file__) as rig:
        parts = _start(rig, workers, CAMERA_FPS, wrapped=False)
        who = {
            "publisher": [parts[0].pid],
            "daemon": rig.daemon_pids()[:1],
            "exporter": rig.daemon_pids()[1:],
            "worker": [part.pid for part in parts[1:]],
        }
        delivered = -consumed(rig)
        before = {name: [threads(pid) for pid in pids] for name, pids in who.items()}
        time.sleep(seconds)
        after = {name: [threads(pid) for pid in pids] for name, pids in who.items()}
        delivered += consumed(rig)
        for part in parts:
            part.end()
    used: dict[str, Any] = {}
    for name, processes in after.items():
        for then, now in zip(before[name], processes, strict=True):
            for thread, (cpu, switches) in now.items():
                line = used.setdefault(f"{name}, {thread}", {"cpu_us": 0.0, "switches": 0.0})
                line["cpu_us"] += (cpu - then.get(thread, (0.0, 0))[0]) * 1e6 / delivered
                line["switches"] += (switches - then.get(thread, (0.0, 0))[1]) / delivered
    return used


def wrapped(workers: int, fps: float, seconds: float) -> dict[str, dict[str, float]]:
    """What the steps take: microseconds, by process and step."""
    with Rig(__file__, daemon=(__file__,)) as rig:
        parts = _start(rig, workers, fps, wrapped=True)
        time.sleep(seconds)
        camera, *crew = [part.end()["took"] for part in parts]
        rig.stop()
        inside = json.loads((rig.runtime_dir.parent / "report").read_text())
    steps = {label: statistics.median(took[label] for took in crew if label in took) for label in crew[0]}
    return {"publisher": camera, "daemon": inside, "worker": steps}


def _start(rig: Rig, workers: int, fps: float, *, wrapped: bool) -> list[Any]:
    camera = rig.start("publish", fps=fps, wrapped=wrapped)
    crew = [rig.start("work", name=f"worker-{i}", wrapped=wrapped) for i in range(workers)]
    until(lambda: camera.words, "the camera")
    rig.wait_for_workers(workers)
    camera.go()
    time.sleep(WARM_UP)
    return [camera, *crew]


# --- output -----------------------------------------------------------------------------------------------------------


def tables(used: dict[str, Any], cold: dict[str, dict[str, float]], warm: dict[str, dict[str, float]]) -> str:
    """Both tables, in Markdown."""
    total = sum(line["cpu_us"] for line in used.values())
    lines = ["| thread | CPU µs per frame delivered | times it slept |", "|---|---|---|"]
    for name, line in used.items():
        if line["cpu_us"] >= 0.5:
            lines.append(f"| {name} | {line['cpu_us']:.0f} | {line['switches']:.2f} |")
    lines += [f"| all | {total:.0f} | |", ""]
    lines += [f"| process | step | µs at {CAMERA_FPS:g} fps | µs at {WARM_FPS:g} fps |", "|---|---|---|---|"]
    for process, steps in cold.items():
        for label, took in steps.items():
            other = warm[process].get(label)
            lines.append(f"| {process} | {label} | {took:.0f} | {'–' if other is None else f'{other:.0f}'} |")
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=8, help="at the camera's pace (default 8)")
    parser.add_argument("--seconds", type=float, default=10.0, help="measured in each run (default 10)")
    options = parser.parse_args()
    print(f"load before: {os.getloadavg()[0]:.1f}", file=sys.stderr)
    used = untouched(options.workers, options.seconds)
    cold = wrapped(options.workers, CAMERA_FPS, options.seconds)
    warm = wrapped(1, WARM_FPS, options.seconds)
    print(tables(used, cold, warm))


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:  # in place of `python -m supplierd run …`
        daemon(sys.argv[1:], str(Path(sys.argv[sys.argv.index("--runtime-dir") + 1]).parent / "report"))
    elif not play((publish, work)):
        main()

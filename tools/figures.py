"""The figures on which decision records rest and that need no daemon: `python tools/figures.py rate|scrape`.

rate    a camera of 30 frames a second and a worker that is promised 10, simulated with the core (ADR 0007)
scrape  what a scrape costs the daemon's loop, and what it costs the exporter (ADR 0011)
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Final

import msgpack
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from supplierd.core import snapshot
from supplierd.core.mailbox import Report
from supplierd.core.service import Settings
from supplierd.core.stream import Frame
from supplierd.core.supplier import Delivery, Supplier
from supplierd.core.worker import JoinRequest
from supplierd.metrics import SnapshotCollector

BOOT: Final = bytes(16)
STREAM: Final = "cam-1"
CAMERA_FPS: Final = 30.0
PROMISED_FPS: Final = 10.0
SECONDS: Final = 600.0
TICK: Final = 0.05
"""Seconds between two ticks, as the daemon's loop has them."""
WORK: Final = 0.020
"""Seconds that the simulated worker takes for a frame."""


def join(supplier: Supplier, number: int, target_fps: float | None = None) -> None:
    """Let worker `number` (from 1, also its session) join, and ask for its first frame."""
    request = JoinRequest(f"worker-{number}", bytes(16), 1, (STREAM,), target_fps)
    supplier.join(request, number, None, 0.0)
    supplier.demand(number, 1, None, 0.0)


def arrivals(jitter: float) -> Iterator[float]:
    """When the camera's frames arrive, in seconds: evenly, each up to `jitter` late."""
    chance = random.Random(1)
    for i in range(round(SECONDS * CAMERA_FPS)):
        yield 1.0 + i / CAMERA_FPS + chance.uniform(0.0, jitter)


def by_core(jitter: float) -> tuple[list[float], int]:
    """When a worker was served by the core as it is, and how many frames it dropped."""
    supplier = Supplier(Settings(), BOOT, 0)
    join(supplier, 1, PROMISED_FPS)
    events = [(at, seq) for seq, at in enumerate(arrivals(jitter), 1)]
    events += [(i * TICK, 0) for i in range(round(SECONDS / TICK))]
    demand, free_at, report, served = 1, 0.0, None, []
    for now, seq in sorted(events):
        deliveries = []
        if report and now >= free_at:
            demand += 1
            given = supplier.demand(1, demand, report, now)
            report = None
            if isinstance(given, Delivery):
                deliveries.append(given)
        deliveries += supplier.frame(Frame(STREAM, BOOT, 1, seq, 0, "", None), now) if seq else supplier.tick(now)
        for delivery in deliveries:
            served.append(now)
            free_at, report = now + WORK, reported(delivery)
    ledger = supplier.workers["worker-1"].mailboxes[STREAM].ledger
    assert ledger.balance == 0
    return served, ledger.dropped


def reported(delivery: Delivery) -> Report:
    """The worker's word on a frame that it was sent."""
    frame = delivery.mailbox.in_flight
    assert frame is not None
    return Report(frame.stream, frame.epoch, frame.seq, "consumed")


def by_gate(jitter: float, grid: bool) -> list[float]:
    """When a plain gate would serve it: with the first frame that comes once the next is due."""
    served, due, period = [], float("-inf"), 1.0 / PROMISED_FPS
    for now in arrivals(jitter):
        if now >= due:
            served.append(now)
            due = due + period if grid and now - due < period else now + period
    return served


def rate() -> str:
    """A table: frames a second by each rule, at several jitters, and the gaps between them (1st to 99th percentile)."""
    lines = ["| jitter | the core | from the last taken | grid, no tolerance |", "|---|---|---|---|"]
    for jitter in (0.0, 0.002, 0.005, 0.010, 0.020):
        served, dropped = by_core(jitter)
        last, grid = (told(by_gate(jitter, grid)) for grid in (False, True))
        lines.append(f"| {jitter * 1e3:.0f} ms | {told(served)}, {dropped} drops | {last} | {grid} |")
    return "\n".join(lines)


def told(served: list[float]) -> str:
    """Frames a second, and the gaps between them."""
    gaps = sorted(after - before for before, after in pairwise(served))
    low, high = (gaps[round(q * (len(gaps) - 1))] * 1e3 for q in (0.01, 0.99))
    return f"{len(served) / SECONDS:.2f}/s, {low:.0f}–{high:.0f} ms"


def scrape() -> str:
    """Milliseconds (median of 50) of the parts of a scrape, by number of workers."""
    lines = ["| workers | snapshot, in the loop | packing, in the loop | rendering, in the exporter | bytes |"]
    lines.append("|---|---|---|---|---|")
    for count in (1, 8, 64):
        supplier = Supplier(Settings(), BOOT, 0)
        for number in range(1, count + 1):
            join(supplier, number)
        supplier.frame(Frame(STREAM, BOOT, 1, 1, 0, "", None), 1.0)
        picture = snapshot.take(supplier, 2.0, 1e9)
        registry = CollectorRegistry()
        registry.register(SnapshotCollector(partial(snapshot.take, supplier, 2.0, 1e9), {}))
        parts: list[Callable[[], object]] = [
            partial(snapshot.take, supplier, 2.0, 1e9),
            partial(msgpack.packb, picture.to_wire()),
            partial(generate_latest, registry),
        ]
        times = [statistics.median(timed(part) for _ in range(50)) for part in parts]
        size = len(generate_latest(registry))
        lines.append(f"| {count} | {times[0]:.2f} ms | {times[1]:.2f} ms | {times[2]:.1f} ms | {size:,} |")
    return "\n".join(lines)


def timed(part: Callable[[], object]) -> float:
    """How long a call takes, in milliseconds."""
    began = time.perf_counter()
    part()
    return (time.perf_counter() - began) * 1e3


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("rate", "scrape"))
    sys.stdout.write({"rate": rate, "scrape": scrape}[parser.parse_args().what]() + "\n")

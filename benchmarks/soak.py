"""Does anything grow, or get lost, while workers come and go for half an hour? Exit status 1 where a bound is broken.

    python benchmarks/soak.py                            64 workers for 30 minutes
    python benchmarks/soak.py --seconds 60 --workers 16  a short one
    python benchmarks/soak.py --names 0                  every guest has a name of its own

One process for each of the workers, of all four classes; cameras that are stopped or killed now and then; and guests,
workers that join, take a frame or two and leave, some of them killed while they do. Every few seconds the memory,
descriptors and threads of everybody are read from /proc, what lies in the runtime directory is counted, the metrics are
scraped, and every ledger must add up. soak_report.py has the bounds.
"""

import argparse
import json
import os
import random
import re
import struct
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import soak_report
from rig import Part, Rig, memory, open_accounts, play, say, told, until, wait_for_go, when_ended
from supplierd_client import Publisher, RefusedError, Worker

from supplierd.arena import arena_directory
from supplierd.core.snapshot import Snapshot

CLASSES: Final[dict[str, tuple[int, dict[str, float]]]] = {
    "critical": (1, {}),
    "high": (3, {}),
    "normal": (8, {"target_fps": 15.0}),
    "best_effort": (4, {"target_fps": 5.0, "pause": 0.05}),
}
"""Workers of each class in every 16, the rate that they ask for, and the seconds that they work on a frame."""
GUEST_PROCESSES: Final = 3
"""The first of them is never killed: it shows what joins and leaves cost a client."""
GUEST_THREADS: Final = 4
STAY: Final = 0.3
"""Seconds for which a guest keeps its last frame, at most."""
FIRST_FRAME_WITHIN: Final = 10.0
SETTLED_WITHIN: Final = 30.0
"""Seconds for killed workers' accounts to close (10), and for arenas of dead publishers to be found (5)."""
_COUNTS: Final = struct.Struct("<QQQ")


class Counts:
    """Three counts in a file, which outlives a SIGKILL; they go on where the file's last holder left them."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._lock = threading.Lock()
        self._values = list(_COUNTS.unpack(os.pread(self._file, _COUNTS.size, 0).ljust(_COUNTS.size, b"\0")))

    def add(self, *more: int) -> None:
        """Add to each of them."""
        with self._lock:
            self._values = [value + n for value, n in zip(self._values, more, strict=True)]
            os.pwrite(self._file, _COUNTS.pack(*self._values), 0)

    @staticmethod
    def read(paths: Iterable[Path]) -> tuple[int, int, int]:
        """The sums over several files."""
        found = [_COUNTS.unpack(path.read_bytes()) for path in paths if path.stat().st_size]
        return tuple(map(sum, zip(*found, strict=True))) if found else (0, 0, 0)  # type: ignore[return-value]


# --- parts ------------------------------------------------------------------------------------------------------------


def publish(runtime_dir: str, stream: str, counts: str, size: int, fps: float) -> None:
    """A camera at a fixed pace."""
    picture, published = np.zeros(size, np.uint8), Counts(counts)
    with Publisher(stream, runtime_dir=runtime_dir) as publisher:
        say(ready=True)
        wait_for_go()
        due = time.monotonic()
        while not told():
            published.add(1, 0, 0)  # before, so that a kill leaves no frame that was not counted
            publisher.publish(picture)
            due = max(due + 1.0 / fps, time.monotonic() - 1.0 / fps)
            time.sleep(max(0.0, due - time.monotonic()))


def work(
    runtime_dir: str, *, name: str, streams: list[str], counts: str, target_fps: float | None = None, pause: float = 0.0
) -> None:
    """A worker that stays."""
    worker, handed = Worker(name, streams, runtime_dir=runtime_dir, target_fps=target_fps), Counts(counts)
    when_ended(worker.close)
    for frame in worker:
        handed.add(1, 0, 0)
        _ = frame.data[0] + frame.data[-1]
        del frame
        if pause:
            time.sleep(pause)


def visit(runtime_dir: str, *, number: int, streams: list[str], counts: str, names: int, per_second: float) -> None:
    """Guests, in several threads: each joins, takes a frame or two, and leaves, `per_second` of them in all."""
    tally, over = Counts(counts), threading.Event()
    when_ended(over.set)

    def come_and_go(thread: int) -> None:
        chance = random.Random(time.monotonic_ns() + thread)
        own = range(number * GUEST_THREADS + thread, max(names, GUEST_PROCESSES * GUEST_THREADS), _GUESTS)
        interval, visits = GUEST_THREADS / per_second, 0
        due = time.monotonic() + chance.uniform(0.0, interval)
        while not over.wait(max(0.0, due - time.monotonic())):
            due = max(due + interval, time.monotonic())
            visits += 1
            name = f"guest-{chance.choice(own)}" if names else f"guest-{own[0]}-{os.getpid()}-{visits}"
            with Worker(name, streams, runtime_dir=runtime_dir) as worker:
                try:
                    frames = [worker.read(FIRST_FRAME_WITHIN)]
                    if chance.randrange(2):
                        frames.append(worker.read(0.2))
                except RefusedError:
                    tally.add(0, 0, 1)
                    continue
                time.sleep(chance.uniform(0.0, STAY))
                taken = len(frames) - frames.count(None)
            tally.add(1, taken, 0)

    threads = [threading.Thread(target=come_and_go, args=(i,)) for i in range(GUEST_THREADS)]
    for thread in threads:
        thread.start()
    say(ready=True)
    for thread in threads:
        thread.join()


_GUESTS: Final = GUEST_PROCESSES * GUEST_THREADS


# --- the run ----------------------------------------------------------------------------------------------------------


class Soak:
    """A daemon and everybody around it.

    Attributes:
        samples: what was measured, each with its time `t`, seconds.
        unaccounted: frames that some ledger lacked, by whose ledger and when; must stay empty.
        restarts: how often a camera or a process of guests was ended, by how.
    """

    def __init__(self, rig: Rig, options: argparse.Namespace) -> None:
        self.rig = rig
        self.samples: list[dict[str, float]] = []
        self.unaccounted: list[str] = []
        self.restarts: Counter[str] = Counter()
        self._options = options
        self._chance = random.Random(options.seed)
        self._counts = rig.runtime_dir.parent / "counts"
        self._counts.mkdir()
        self._streams = [f"cam-{i + 1}" for i in range(options.streams)]
        self._began = time.monotonic()
        self._metrics = re.search(rb"metrics=(http://\S+)", rig.log_file.read_bytes())
        self.workers = [self._worker(*one) for one in crew(options.workers)]
        rig.wait_for_workers(options.workers)
        self.cameras = {stream: self._camera(stream) for stream in self._streams}
        self.guests: list[Part] = []

    def _worker(self, name: str, ways: dict[str, float]) -> Part:
        counts = self._counts / f"worker.{name}"
        return self.rig.start("work", name=name, streams=self._streams, counts=str(counts), **ways)

    def _camera(self, stream: str) -> Part:
        options, counts = self._options, self._counts / f"camera.{stream}"
        camera = self.rig.start("publish", stream=stream, counts=str(counts), size=options.size, fps=options.fps)
        until(lambda: camera.words, "a camera")
        camera.go()
        return camera

    def _guest(self, number: int) -> Part:
        options, counts = self._options, self._counts / f"guest.{number}"
        rate = options.joins_per_second / GUEST_PROCESSES
        return self.rig.start(
            "visit", number=number, streams=self._streams, counts=str(counts), names=options.names, per_second=rate
        )

    def run(self) -> None:
        """Guests come, cameras and guests are restarted, and samples are taken, for the time asked for."""
        options = self._options
        self.guests = [self._guest(i) for i in range(GUEST_PROCESSES)]
        end = time.monotonic() + options.seconds
        camera_at, guest_at = (time.monotonic() + every for every in (options.camera_restarts, options.guest_kills))
        while (now := time.monotonic()) < end:
            if now >= camera_at:
                camera_at = now + options.camera_restarts
                self._restart_camera(self._chance.choice(self._streams))
            if now >= guest_at:
                guest_at = now + options.guest_kills
                number = self._chance.randrange(1, GUEST_PROCESSES)
                self.guests[number].kill()
                self.rig.parts.remove(self.guests[number])
                self.restarts["guests killed"] += 1
                self.guests[number] = self._guest(number)
            self.samples.append(self.sample())
            time.sleep(max(0.0, min(now + options.every, end) - time.monotonic()))

    def _restart_camera(self, stream: str) -> None:
        camera = self.cameras[stream]
        if self._chance.randrange(2):
            camera.kill()
            self.restarts["cameras killed"] += 1
        else:
            camera.end()
            self.restarts["cameras stopped"] += 1
        self.rig.parts.remove(camera)
        self.cameras[stream] = self._camera(stream)

    def sample(self) -> dict[str, float]:
        """Everything, now."""
        snapshot = self.rig.snapshot()
        seconds = time.monotonic() - self._began
        self.unaccounted += [f"{seconds:.0f} s: {what}" for what in missing(snapshot)]
        if self._metrics:
            with urllib.request.urlopen(self._metrics[1].decode(), timeout=30) as answer:
                answer.read()
        daemon, exporter = self.rig.daemon_pids()
        who = {"daemon": [daemon], "exporter": [exporter], "worker": [part.pid for part in self.workers]}
        if self.guests:
            who["client"] = [self.guests[0].pid]
        found = {"t": seconds}
        for name, pids in who.items():
            costs = np.array([cost(pid) for pid in pids]).mean(axis=0)
            found |= dict(zip((f"{name} {what}" for what in soak_report.COSTS), map(float, costs), strict=True))
        arenas = list(arena_directory(self.rig.runtime_dir).iterdir())
        return found | {
            "arena files": len(arenas),
            "arena leased": sum(arena.leased for arena in snapshot.arenas),
            "arena bytes": sum(arena.bytes for arena in snapshot.arenas),
            "runtime files": sum(1 for _ in self.rig.runtime_dir.iterdir()),
            "known workers": len(snapshot.workers),
            "published": sum(stream.published for stream in snapshot.streams),
            "consumed": sum(m.consumed for w in snapshot.workers if w.configured for m in w.mailboxes),
        }

    def at_rest(self, what: str, before: dict[str, float] | None = None) -> dict[str, float]:
        """A sample when no guest is there, and the arenas of former cameras have gone; and what must be as it was
        `before` has had the time to become so: the loop lets go of an arena some seconds after it was unlinked."""
        count = self._options.workers
        until(lambda: sum(w.state != "gone" for w in self.rig.snapshot().workers) == count, what, SETTLED_WITHIN)
        arenas = arena_directory(self.rig.runtime_dir)
        until(lambda: len(list(arenas.iterdir())) == len(self._streams), f"arenas {what}", SETTLED_WITHIN)
        found, end = self.sample(), time.monotonic() + SETTLED_WITHIN
        while before and time.monotonic() < end and any(found[n] != before[n] for n in soak_report.SAME_AFTERWARDS):
            time.sleep(0.5)
            found = self.sample()
        return found

    def let_guests_go(self) -> None:
        """All guests take their leave."""
        for part in self.guests:
            part.release()
        for part in self.guests:
            part.end()
        self.guests = []

    def finish(self) -> tuple[Snapshot, list[str]]:
        """Everybody ends, the daemon last: its last account, and the files that are left."""
        for part in (*self.cameras.values(), *self.workers):
            part.release()
        for part in (*self.cameras.values(), *self.workers):
            part.end()

        def closed() -> Snapshot | None:
            snapshot = self.rig.snapshot()
            return None if any(open_accounts(snapshot)) else snapshot

        snapshot = until(closed, "the accounts to close", SETTLED_WITHIN)
        assert snapshot is not None
        self.unaccounted += [f"at the end: {what}" for what in missing(snapshot)]
        arenas = arena_directory(self.rig.runtime_dir)
        until(lambda: not list(arenas.iterdir()), "the arenas to go", SETTLED_WITHIN)
        self.rig.stop()
        return snapshot, [path.name for path in self.rig.runtime_dir.iterdir() if path.suffix not in (".lock", "")]

    def counted(self, kind: str) -> tuple[int, int, int]:
        """What cameras, workers or guests counted themselves."""
        return Counts.read(self._counts.glob(f"{kind}.*"))


def crew(count: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Names and ways of the workers that stay; the name begins with the class."""
    ways = [(name, way) for name, (share, way) in CLASSES.items() for _ in range(share)]
    for number in range(count):
        service_class, way = ways[number * len(ways) // count]
        yield f"{service_class}-{number:02}", way


def document(options: argparse.Namespace) -> str:
    """The daemon's configuration: the crew's classes, and room for half of the guests' names, so that it forgets."""
    lines = ["[daemon]", f"max_workers = {options.workers + max(options.names // 2, 8 * _GUESTS)}"]
    for name, _ in crew(options.workers):
        lines += [f"[workers.{name}]", f'class = "{name.rpartition("-")[0]}"']
    return "\n".join(lines)


def cost(pid: int) -> tuple[int, int, int, int]:
    """What soak_report.COSTS names, of one process."""
    threads = len(os.listdir(f"/proc/{pid}/task"))
    return (*memory(pid), len(os.listdir(f"/proc/{pid}/fd")), threads)


def missing(snapshot: Snapshot) -> Iterator[str]:
    """Whatever does not add up."""
    for stream in snapshot.streams:
        if lacking := stream.published - stream.received - sum(stream.dropped.values()):
            yield f"{lacking} frames of {stream}"
    for worker in snapshot.workers:
        for mailbox in worker.mailboxes:
            if mailbox.balance or mailbox.pending not in (0, 1) or mailbox.in_flight not in (0, 1):
                yield f"{mailbox.balance} frames of {worker.name}: {mailbox}"


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The whole run: what soak_report.report makes of it."""
    with Rig(__file__, document(options)) as rig:
        soak = Soak(rig, options)
        until(lambda: all(sum(m.consumed for m in w.mailboxes) for w in rig.snapshot().workers), "first frames")
        soak_report.note(f"{options.workers} workers, {options.streams} cameras; guests for {options.seconds:g} s")
        before = soak.at_rest("before guests")
        soak.run()
        soak.let_guests_go()
        after = soak.at_rest("after guests", before)
        snapshot, left = soak.finish()
        counted = {kind: soak.counted(kind) for kind in ("camera", "worker", "guest")}
    return soak_report.report(
        options, soak.samples, before, after,
        snapshot=snapshot, counted=counted, unaccounted=soak.unaccounted, left=left, restarts=soak.restarts,
    )  # fmt: skip


def main() -> int:
    """Run what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1800.0, help="with guests (default 1800)")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between samples (default 5)")
    parser.add_argument("--workers", type=int, default=64, help="that stay, a process each (default 64)")
    parser.add_argument("--streams", type=int, default=1, help="cameras; every worker has them all (default 1)")
    parser.add_argument("--fps", type=float, default=30.0, help="of each camera (default 30)")
    parser.add_argument("--size", type=int, default=100_000, help="of a frame, bytes (default 100000)")
    parser.add_argument("--joins-per-second", type=float, default=6.5, help="of guests (default 6.5: 11700 in 30 min)")
    parser.add_argument("--names", type=int, default=200, help="of guests; 0: a new one for each (default 200)")
    parser.add_argument("--camera-restarts", type=float, default=60.0, help="seconds between two (default 60)")
    parser.add_argument("--guest-kills", type=float, default=20.0, help="seconds between two (default 20)")
    parser.add_argument("--seed", type=int, default=1, help="of what is restarted how (default 1)")
    parser.add_argument("--json", type=Path, help="write everything to this file, the samples too")
    options = parser.parse_args()
    result = measure(options)
    samples = result.pop("samples")
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps({**result, "samples": samples}, indent=1))
    print(soak_report.table(result))
    return 1 if result["broken"] else 0


if __name__ == "__main__" and not play((publish, work, visit)):
    sys.exit(main())

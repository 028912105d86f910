"""Is any frame in shared memory ever torn, mixed up or lost track of? A check for people; exit status 1 for any defect.

    python benchmarks/torn.py --frames 100000
    python benchmarks/torn.py --frames 100000 --kill --seed 7

A publisher fills each frame with a value of its own, as fast as the machine lets it, and changes the size now and then.
Workers, fast ones, slow ones and one that keeps frames, look at every page of each frame (at every word of one in
16), and at kept ones again before they let go. With --kill, workers and the publisher are killed with SIGKILL at random
moments and started again. At the end every slot must be free, every file gone, and every ledger must add up.
"""

import argparse
import json
import os
import random
import struct
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rig import Part, Rig, open_accounts, play, say, told, until, wait_for_go, when_ended
from supplierd_client import Publisher, Worker

from supplierd.arena import arena_directory
from supplierd.core.snapshot import Snapshot

STREAM: Final = "cam-1"
SIZE: Final = 6_220_800
"""Bytes: 1080p, 3 bytes a pixel."""
WORDS_PER_PAGE: Final = 512
ALL_WORDS_EVERY: Final = 16
SIZES: Final = (1.0, 0.5, 3.0)
"""Times the size asked for, in turn; the last needs an arena of its own."""
SIZE_LASTS: Final = 1000
"""Frames."""
ARRAY_EVERY: Final = 8
"""One frame in so many is published as an array, the others as loans."""
WORKERS: Final[dict[str, dict[str, float]]] = {
    "fast-1": {},
    "fast-2": {},
    "keeper": {"keep": 12},
    "slow": {"keep": 2, "pause": 0.05},
}
KILL_EVERY: Final = (0.2, 1.0)
"""Seconds between two kills."""
SETTLED_WITHIN: Final = 20.0
"""Seconds after the last frame in which slots must be free and files gone; the daemon looks every 5."""
_COUNTS: Final = struct.Struct("<QQQ")  # frames handed out, torn, out of order


def value_of(epoch: int, seq: int) -> int:
    """What a frame is filled with."""
    return (epoch * 0x9E3779B97F4A7C15 + seq * 0xC2B2AE3D27D4EB4F) % (1 << 64)


# --- parts ------------------------------------------------------------------------------------------------------------


def publish(runtime_dir: str, size: int) -> None:
    """Publish as fast as possible from one line on standard input to the next; then hold the arena until that ends."""
    with Publisher(STREAM, runtime_dir=runtime_dir) as publisher:
        wait_for_go()
        while not told():
            seq = publisher.published + 1
            shape = (int(size * SIZES[seq // SIZE_LASTS % len(SIZES)]) // 8,)
            value = value_of(publisher.epoch, seq)
            if seq % ARRAY_EVERY:
                loan = publisher.loan(shape, np.uint64)
                loan.array[:] = value
                publisher.publish(loan)
            else:
                publisher.publish(np.full(shape, value, np.uint64))
        wait_for_go()
        say(stopped=True)
        wait_for_go()


def work(runtime_dir: str, name: str, counts: str, keep: int = 0, pause: float = 0.0) -> None:
    """Check frames, and write into the file `counts` how many there were: that outlives a SIGKILL."""
    worker = Worker(name, [STREAM], runtime_dir=runtime_dir)
    when_ended(worker.close)
    file = os.open(counts, os.O_RDWR | os.O_CREAT, 0o600)
    chance = random.Random(name)
    kept: deque[tuple[npt.NDArray[np.uint64], int]] = deque()
    torn = disordered = 0
    last = (0, 0)
    for handed, frame in enumerate(worker, 1):
        value = value_of(frame.epoch, frame.seq)
        torn += not whole(frame.array, value, every_word=handed % ALL_WORDS_EVERY == 0)
        disordered += (frame.epoch, frame.seq) <= last
        last = frame.epoch, frame.seq
        kept.append((frame.array, value))
        while len(kept) > keep:
            torn += not whole(*kept[0], every_word=False)
            kept.popleft()
        os.pwrite(file, _COUNTS.pack(handed, torn, disordered), 0)
        del frame
        if pause:
            time.sleep(chance.uniform(0.0, pause))


def whole(words: npt.NDArray[np.uint64], value: int, *, every_word: bool) -> bool:
    """Whether a frame has one value on all its pages."""
    seen = words if every_word else words[::WORDS_PER_PAGE]
    return bool((seen == value).all()) and int(words[-1]) == value


# --- the check --------------------------------------------------------------------------------------------------------


class Check:
    """One publisher and its workers, with whoever is killed started again."""

    def __init__(self, rig: Rig, size: int) -> None:
        self.rig = rig
        self.kills: Counter[str] = Counter()
        self._size = size
        self._counts = rig.runtime_dir.parent / "counts"
        self._counts.mkdir()
        self.parts: dict[str, Part] = {name: self._start(name) for name in (*WORKERS, STREAM)}
        rig.wait_for_workers(len(WORKERS))
        self.parts[STREAM].go()

    def published(self) -> int:
        """Frames of all runs of the publisher, as far as the daemon knows."""
        return sum(stream.published for stream in self.rig.snapshot().streams)

    def kill(self, name: str) -> None:
        """SIGKILL, and a new start."""
        self.parts[name].kill()
        self.kills[name] += 1
        self.parts[name] = self._start(name)
        if name == STREAM:
            self.parts[name].go()

    def run(self, frames: int, chance: random.Random | None) -> None:
        """Wait for so many frames; by chance kill meanwhile, everybody at least once."""
        due: list[str] = []
        kill_at = time.monotonic()
        while self.published() < frames or (chance is not None and len(self.kills) < len(self.parts)):
            for name, part in self.parts.items():
                if not part.running:
                    raise RuntimeError(f"{name} has ended with status {part.process.returncode}")
            if chance is not None and time.monotonic() >= kill_at:
                due = due or chance.sample(list(self.parts), len(self.parts))
                self.kill(due.pop())
                kill_at = time.monotonic() + chance.uniform(*KILL_EVERY)
            time.sleep(0.05)

    def leaked_slots(self) -> int:
        """Let the workers end while the publisher's arena is still there: slots held beyond the daemon's newest."""
        publisher = self.parts[STREAM]
        publisher.go()
        until(lambda: publisher.words, "the publisher to stop")
        for name in WORKERS:
            self.parts[name].release()
        for name in WORKERS:
            self.parts[name].end()
        in_time(lambda: not any(open_accounts(self.rig.snapshot())))

        def leased() -> int:
            return max(0, sum(arena.leased for arena in self.rig.snapshot().arenas) - 1)

        return 0 if in_time(lambda: not leased()) else leased()

    def leaked_files(self) -> list[str]:
        """End the publisher and the daemon: files that are still there."""
        self.parts[STREAM].end()
        arenas = arena_directory(self.rig.runtime_dir)
        in_time(lambda: not list(arenas.iterdir()))
        left = [path.name for path in arenas.iterdir()]
        self.rig.stop()
        return left + [path.name for path in self.rig.runtime_dir.iterdir() if path.suffix not in (".lock", "")]

    def counts(self) -> dict[str, tuple[int, int, int]]:
        """Of each worker over all its runs: frames handed out, torn, out of order."""
        found = {}
        for name in WORKERS:
            runs = [_COUNTS.unpack(path.read_bytes()) for path in self._counts.glob(f"{name}.*") if path.stat().st_size]
            found[name] = tuple(map(sum, zip(*runs, strict=True))) if runs else (0, 0, 0)
        return found  # type: ignore[return-value]

    def _start(self, name: str) -> Part:
        if name == STREAM:
            return self.rig.start("publish", size=self._size)
        counts = self._counts / f"{name}.{self.kills[name]}"
        return self.rig.start("work", name=name, counts=str(counts), **WORKERS[name])


def in_time(condition: Any) -> bool:
    """Whether `condition` comes true within SETTLED_WITHIN."""
    try:
        until(condition, "", SETTLED_WITHIN)
    except TimeoutError:
        return False
    return True


def ledger_errors(snapshot: Snapshot, handed: dict[str, int], kills: Counter[str]) -> Iterator[str]:
    """Whatever does not add up. Of each run one frame may have been handed out and not reported, when it was killed or
    its leave came too late."""
    yield from open_accounts(snapshot)
    for stream in snapshot.streams:
        if stream.published != stream.received + sum(stream.dropped.values()):
            yield f"stream {stream.name}: {stream}"
    for worker in snapshot.workers:
        for mailbox in worker.mailboxes:
            if mailbox.balance:
                yield f"worker {worker.name}: {mailbox}"
            if not 0 <= handed[worker.name] - mailbox.consumed <= kills[worker.name] + 1:
                yield f"worker {worker.name} took {handed[worker.name]}, the ledger says {mailbox.consumed}"


def main() -> int:
    """Run the check that the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=10_000, help="to be published (default 10000)")
    parser.add_argument("--size", type=int, default=SIZE, help=f"of a frame, bytes (default {SIZE})")
    parser.add_argument("--kill", action="store_true", help="kill workers and the publisher at random")
    parser.add_argument("--seed", type=int, default=1, help="of the kills (default 1)")
    options = parser.parse_args()
    with Rig(__file__) as rig:
        check = Check(rig, options.size)
        began = time.monotonic()
        check.run(options.frames, random.Random(options.seed) if options.kill else None)
        seconds = time.monotonic() - began
        leaked_slots = check.leaked_slots()
        snapshot = rig.snapshot()
        leaked_files = check.leaked_files()
        counts = check.counts()
        log = Path(rig.log_file).read_text()
    published = sum(stream.published for stream in snapshot.streams)
    handed = {name: count[0] for name, count in counts.items()}
    errors = list(ledger_errors(snapshot, handed, check.kills))
    discarded = sum((Counter(m.discarded) for w in snapshot.workers for m in w.mailboxes), Counter[str]())
    defects = {
        "torn": sum(count[1] for count in counts.values()),
        "out_of_order": sum(count[2] for count in counts.values()),
        "leaked_slots": leaked_slots,
        "leaked_files": leaked_files,
        "ledger_errors": errors,
        "idle_workers": [name for name, count in handed.items() if not count],
    }
    report = {
        "frames": published,
        "seconds": round(seconds, 1),
        "fps": round(published / seconds),
        **defects,
        "kills": check.kills,
        "consumed": handed,
        "discarded": discarded,
        "inline": [stream.inline for stream in snapshot.streams],
        "rejected": snapshot.rejected,
    }
    print(json.dumps(report, indent=2))
    if any(defects.values()):
        print(log, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__" and not play((publish, work)):
    sys.exit(main())

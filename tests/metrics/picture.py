"""One fixed snapshot in which every family has something to say, and its exposition.

`python -m tests.metrics.picture > tests/metrics/golden.prom` writes the golden file anew, after a wanted change.
"""

from prometheus_client import CollectorRegistry, generate_latest

from supplierd.core.histogram import HistogramSnapshot
from supplierd.core.snapshot import ArenaSnapshot, MailboxSnapshot, Snapshot, StreamSnapshot, WorkerSnapshot
from supplierd.metrics import SnapshotCollector

AT = 1_700_000_000.0
NOTHING = HistogramSnapshot((0.01, 0.1, 1.0), (0, 0, 0, 0), 0.0)
BUILD = {"version": "1.2.3", "wire": "1", "libzmq": "4.3.5"}


def picture() -> Snapshot:
    """Two streams, one of them silent; a busy detector, an idle model that promised a rate, and a plain push worker."""
    detector = MailboxSnapshot(
        stream="cam-1",
        offered=1000,
        consumed=990,
        overwritten=5,
        decimated=0,
        discarded={"stale": 2, "disconnected": 1},
        pending=1,
        in_flight=1,
        consecutive_drops=0,
        last_consumed_at=AT - 0.04,
        last_consumed_seq=1007,
        window_promised=300,
        window_dropped=2,
        age=HistogramSnapshot((0.01, 0.1, 1.0), (900, 80, 9, 1), 12.5),
    )
    model = MailboxSnapshot(
        stream="cam-1",
        offered=1000,
        consumed=10,
        overwritten=89,
        decimated=900,
        discarded={},
        pending=1,
        in_flight=0,
        consecutive_drops=12,
        last_consumed_at=AT - 45,
        last_consumed_seq=400,
        window_promised=30,
        window_dropped=12,
        age=HistogramSnapshot((0.01, 0.1, 1.0), (0, 0, 9, 1), 4.25),
    )
    quiet = MailboxSnapshot("cam-2", 0, 0, 0, 0, {}, 0, 0, 0, None, 0, 0, 0, NOTHING)

    def worker(name: str, service_class: str, state: str, *boxes: MailboxSnapshot, **more: object) -> WorkerSnapshot:
        fields = {
            "configured": True,
            "expected": True,
            "push": False,
            "target_fps": None,
            "drop_budget": 0.0,
            "idle_after": 30.0,
            "pid": 42,
            "client": "python 1.2.3",
            "inline_reason": "",
            "leases": 0,
            "processing": NOTHING,
        }
        return WorkerSnapshot(name, service_class, state, **{**fields, **more}, mailboxes=boxes)  # type: ignore[arg-type]

    took = HistogramSnapshot((0.01, 0.1, 1.0), (100, 880, 10, 0), 61.0)
    return Snapshot(
        at=AT,
        drop_window=30.0,
        streams=(
            StreamSnapshot(
                name="cam-1",
                silent=False,
                published=1010,
                received=1000,
                dropped={"overwritten": 7, "disconnected": 3, "old_epoch": 0},
                last_frame_at=AT - 0.02,
                last_seq=1010,
                epoch=123,
                fps=30.0,
                inline={"no_slot": 4, "small": 2},
            ),
            StreamSnapshot("cam-2", True, 0, 0, dict.fromkeys(("overwritten",), 0), None, 0, 0, 0.0, {}),
        ),
        workers=(
            worker("detector", "critical", "busy", detector, quiet, processing=took, leases=2),
            worker("plain", "normal", "gone", push=True, drop_budget=0.5),
            worker("model", "best_effort", "idle", model, drop_budget=1.0, target_fps=1.0, inline_reason="remote"),
        ),
        arenas=(ArenaSnapshot("cam-1", 6_000_000, 7, 3),),
        rejected={"bad_magic": 3, "no_handshake": 1},
        distribution=HistogramSnapshot((0.001, 0.01), (995, 4, 1), 0.75),
    )


def exposition() -> str:
    """What a scrape of the snapshot gives."""
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(picture, BUILD))
    return generate_latest(registry).decode()


if __name__ == "__main__":
    print(exposition(), end="")

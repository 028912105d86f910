"""What a soak's samples say: slopes by least squares, what was there before and after, and which bounds are broken.

A slope is taken over the settled part, and broken only where it is both steeper than its bound and, over that part,
more than the noise that such a figure has: a run of 20 s, taken by the hour, shows noise alone.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from supplierd.core.snapshot import Snapshot, WorkerSnapshot

MIB: Final = float(1 << 20)
COSTS: Final = ("private", "shared", "fds", "threads")
"""Of a process: resident bytes (RssAnon, RssShmem), open descriptors, threads."""
SETTLED_AFTER: Final = 0.2
"""Share of the run that is left out: allocators and caches fill, and each guest's name is new once."""
LOST_PER_RESTART: Final = 2
"""Frames of a camera that ends which nobody can know of: the one it was sending, and one that no later one follows."""


class Bound(NamedTuple):
    """How much something may grow: per hour, and as noise within one run."""

    per_hour: float
    noise: float


BOUNDS: Final[dict[str, Bound]] = {
    "daemon private": Bound(4 * MIB, 2 * MIB),
    "daemon fds": Bound(8, 24),  # each guest that is there has some
    "daemon threads": Bound(1, 1),
    "exporter private": Bound(4 * MIB, 2 * MIB),
    "exporter fds": Bound(8, 4),
    "exporter threads": Bound(1, 2),  # one for each scrape that is under way
    "worker private": Bound(1 * MIB, 0.5 * MIB),  # the mean of all
    "worker fds": Bound(1, 1),
    "worker threads": Bound(1, 1),
    "client private": Bound(8 * MIB, 4 * MIB),  # a process whose threads join and leave thousands of times
    "client fds": Bound(8, 60),
    "client threads": Bound(1, 12),
    "arena files": Bound(1, 4),  # of cameras that were restarted, until the daemon looks
    "arena leased": Bound(4, 8),  # slots
    "arena bytes": Bound(4 * MIB, 4 * MIB),
    "runtime files": Bound(8, 24),  # a socket for each guest that is there
}
SAME_AFTERWARDS: Final = (
    "daemon fds", "daemon threads", "worker fds", "worker threads", "arena files", "runtime files",
)  # fmt: skip
"""What is to be after the last guest what it was before the first."""


def report(
    options: argparse.Namespace,
    samples: list[dict[str, float]],
    before: dict[str, float],
    after: dict[str, float],
    *,
    snapshot: Snapshot,
    counted: dict[str, tuple[int, int, int]],
    unaccounted: list[str],
    left: list[str],
    restarts: Counter[str],
) -> dict[str, Any]:
    """All figures of a run; "broken" lists the bounds that do not hold.

    Args:
        options: of the run.
        samples, before, after: what was measured while guests came, before the first and after the last.
        snapshot: the daemon's last account.
        counted: what cameras, workers and guests counted themselves.
        unaccounted: ledgers that did not add up.
        left: files in the runtime directory after the daemon's end.
        restarts: how often who was ended how.
    """
    settled = [sample for sample in samples if sample["t"] >= samples[0]["t"] + SETTLED_AFTER * options.seconds]
    growth = {name: fit(settled, name) for name in BOUNDS}
    for name, figures in growth.items():
        figures |= {"before": before.get(name), "after": after.get(name), "bound_per_hour": BOUNDS[name].per_hour}
    crew = [worker for worker in snapshot.workers if worker.configured]
    joins, guest_frames, refused = counted["guest"]
    published, consumed = (stream_total(snapshot), sum(m.consumed for w in crew for m in w.mailboxes))
    seconds = samples[-1]["t"] - samples[0]["t"]
    ends = restarts["cameras killed"] + restarts["cameras stopped"] + options.streams
    result: dict[str, Any] = {
        "seconds": options.seconds,
        "workers": options.workers,
        "samples": samples,
        "joins_and_leaves": joins,
        "joins_refused": refused,
        "restarts": dict(restarts),
        "published": published,
        "published_by_cameras": counted["camera"][0],
        "delivered": consumed + guest_frames,
        "delivered_per_second": round((samples[-1]["consumed"] - samples[0]["consumed"]) / seconds),
        "handed_to_crew": counted["worker"][0],
        "consumed_by_crew": consumed,
        "unaccounted": unaccounted,
        "files_left": left,
        "inbox_drops": dict(sum((Counter(s.dropped) for s in snapshot.streams), Counter[str]())),
        "rejected": snapshot.rejected,
        "classes": {name: class_figures(crew, name) for name in dict.fromkeys(w.service_class for w in crew)},
        "growth": growth,
    }
    result["broken"] = list(broken(result, ends))
    return result


def fit(samples: list[dict[str, float]], name: str) -> dict[str, Any]:
    """The line through the samples by least squares."""
    points = [(sample["t"], sample[name]) for sample in samples]
    times, values = map(np.array, zip(*points, strict=True))
    slope, at_zero = np.polyfit(times, values, 1)
    start, end = (float(at_zero + slope * t) for t in (times[0], times[-1]))
    return {"start": start, "end": end, "per_hour": float(slope) * 3600.0}


def class_figures(crew: list[WorkerSnapshot], name: str) -> dict[str, Any]:
    """What became of the frames for the workers of a class."""
    mailboxes = [m for worker in crew if worker.service_class == name for m in worker.mailboxes]
    offered, decimated = (sum(getattr(m, what) for m in mailboxes) for what in ("offered", "decimated"))
    dropped = sum((Counter(m.dropped) for m in mailboxes), Counter[str]())
    missed = sum(dropped.values()) - dropped["left"]
    return {
        "consumed": sum(m.consumed for m in mailboxes),
        "drop_ratio": missed / max(offered - decimated, 1),
        "dropped": dict(dropped),
    }


def stream_total(snapshot: Snapshot) -> int:
    """Frames published, as the daemon counted."""
    return sum(stream.published for stream in snapshot.streams)


def broken(result: dict[str, Any], camera_ends: int) -> Iterator[str]:
    """The bounds that do not hold."""
    for name, figures in result["growth"].items():
        bound = BOUNDS[name]
        if figures["per_hour"] > bound.per_hour and figures["end"] - figures["start"] > bound.noise:
            yield f"{name} grows by {figures['per_hour']:.3g} an hour, at most {bound.per_hour:.3g} are allowed"
        if name in SAME_AFTERWARDS and figures["after"] != figures["before"]:
            yield f"{name}: {figures['before']:g} before the first guest, {figures['after']:g} after the last"
    if result["unaccounted"]:
        yield f"unaccounted frames: {len(result['unaccounted'])} ledgers did not add up"
    if result["files_left"]:
        yield f"files left over: {', '.join(result['files_left'])}"
    if result["handed_to_crew"] != result["consumed_by_crew"]:
        yield f"workers took {result['handed_to_crew']} frames, their ledgers say {result['consumed_by_crew']}"
    if not 0 <= result["published_by_cameras"] - result["published"] <= LOST_PER_RESTART * camera_ends:
        yield f"cameras published {result['published_by_cameras']} frames, the daemon says {result['published']}"
    if not result["joins_and_leaves"]:
        yield "no guest came"


def table(result: dict[str, Any]) -> str:
    """The figures in Markdown."""
    lines = ["| what | before | start | end | after | per hour | bound |", "|---|---|---|---|---|---|---|"]
    for name, f in result["growth"].items():
        scale, unit = (MIB, " MiB") if name.endswith(("private", "bytes")) else (1.0, "")
        before, after = ("–" if f[key] is None else f"{f[key] / scale:.2f}" for key in ("before", "after"))
        lines.append(
            f"| {name}{unit} | {before} | {f['start'] / scale:.2f} | {f['end'] / scale:.2f} | {after} "
            f"| {f['per_hour'] / scale:+.2f} | {f['bound_per_hour'] / scale:g} |"
        )
    classes = ", ".join(f"{name} {f['drop_ratio']:.2%} dropped" for name, f in result["classes"].items())
    ended = ", ".join(f"{count} {what}" for what, count in result["restarts"].items()) or "nobody restarted"
    lines += [
        "",
        f"{result['workers']} workers, {result['seconds']:g} s: {result['joins_and_leaves']:,} joins and leaves, "
        f"{ended}; {result['published']:,} frames published, {result['delivered']:,} delivered "
        f"({result['delivered_per_second']:,}/s to those who stayed: {classes}); "
        f"{len(result['unaccounted'])} unaccounted.",
        "Bounds broken: " + ("; ".join(result["broken"]) or "none") + ".",
    ]
    return "\n".join(lines)


def note(text: str) -> None:
    """Say how it goes, to whoever watches."""
    print(text, file=sys.stderr, flush=True)

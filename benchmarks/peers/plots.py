"""Results as pictures: bars for the comparison, lines for growth. Needs matplotlib.

supplierd's lanes are blue, the others grey; a system that failed at a work keeps its place, and says so. Axes of time
are logarithmic, as systems differ by orders of magnitude.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

Medians = dict[str, dict[str, dict[str, Any]]]
OWN: Final = "#1f6fb4"
OTHER: Final = "#8c8c8c"
LANES: Final = {"supplierd-loan": "#0b3c6f", "supplierd-shm": "#1f6fb4", "supplierd-inline": "#e08214"}
PANELS: Final = (
    ("jpeg-8", "age", "100 KB at 30 fps to 8 workers: age p50 / p99, ms"),
    ("raw-8", "age", "1080p raw at 30 fps to 8 workers: age p50 / p99, ms"),
    ("jpeg-64", "age", "100 KB at 30 fps to 64 workers: age p50 / p99, ms"),
    ("raw-8", "cpu_s_per_1000", "1080p raw to 8: CPU s per 1000 frames delivered"),
    ("raw-mixed", "after_stop_ms", "1080p raw: age of the first frame after a 3 s stop, ms"),
    ("raw-rate", "highest_fps", "1080p raw to 4: highest pace that holds, fps (more is better)"),
)


def draw_comparison(medians: Medians, folder: Path) -> None:
    """compared.png: what was measured of PANELS."""
    panels = [panel for panel in PANELS if any(panel[0] in row for row in medians.values())]
    if not panels:
        return
    systems = [name for name, row in medians.items() if not all("skipped" in cell for cell in row.values())]
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    figure, axes = plt.subplots(
        down, across, figsize=(6.4 * across, (0.27 * len(systems) + 0.9) * down), squeeze=False, layout="constrained"
    )
    for axis, (work, key, title) in zip(axes.flat, panels, strict=False):
        bars(axis, [(name, medians[name].get(work, {})) for name in systems], key)
        axis.set_title(title, fontsize=10, loc="left")
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    save(figure, folder / "compared.png")


def bars(axis: Any, rows: list[tuple[str, dict[str, Any]]], key: str) -> None:
    """One bar for each system; of ages the median, with a line to the p99."""
    first = "age_p50_ms" if key == "age" else key
    values = [row.get(first) for _, row in rows]
    known = [value for value in values if value]
    left = min(known, default=1.0) / 2
    for at, ((name, row), value) in enumerate(zip(rows, values, strict=True)):
        colour = OWN if name.startswith("supplierd") else OTHER
        if value:
            axis.barh(at, value - left, left=left, color=colour, height=0.7)
            end = value
            if key == "age":
                end = row["age_p99_ms"]
                axis.plot([value, end], [at, at], color="black", linewidth=1.0)
                axis.plot([end], [at], marker="|", color="black", markersize=6)
            said = f"{label(value)} / {label(end)}" if key == "age" else label(value)
            axis.annotate(said, (end, at), (4, 0), textcoords="offset points", va="center", fontsize=7.5)
        else:
            said = "not measured" if not row or "skipped" in row else "failed" if "error" in row else "does not hold"
            axis.annotate(said, (left, at), (4, 0), textcoords="offset points", va="center", fontsize=7.5, color="grey")
    axis.set_xscale("log")
    tallest = max([row.get("age_p99_ms", 0) if key == "age" else (row.get(first) or 0) for _, row in rows], default=1)
    right = max(tallest, left) * 4
    axis.set_xlim(left, right)
    if right < 100 * left:
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    plain(axis.xaxis)
    axis.grid(axis="x", linewidth=0.4, color="#dddddd")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def draw_growth(medians: Medians, workers: Sequence[int], sizes: Sequence[int], path: Path) -> None:
    """growth.png: age and CPU against the number of workers, and against the size."""
    figure, axes = plt.subplots(2, 2, figsize=(10.5, 7.0), layout="constrained")
    for column, (kind, values, title) in enumerate(
        (("workers", workers, "workers (100 KB at 30 fps)"), ("size", sizes, "bytes of a frame (10 fps to 4 workers)"))
    ):
        upper, lower = axes[0][column], axes[1][column]
        for lane, colour in LANES.items():
            found = [(value, medians.get(lane, {}).get(f"{kind}-{value}", {})) for value in values]
            found = [(value, row) for value, row in found if "age_p50_ms" in row]
            if not found:
                continue
            at = [value for value, _ in found]
            p50, p99 = ([row[f"age_{name}_ms"] for _, row in found] for name in ("p50", "p99"))
            upper.plot(at, p50, marker="o", markersize=4, color=colour)
            upper.plot(at, p99, linestyle=":", color=colour)
            lower.plot(at, [row["cpu_s_per_1000"] for _, row in found], marker="o", markersize=4, color=colour)
        for axis, what in ((upper, "age, ms: p50, dotted p99"), (lower, "CPU s per 1000 frames delivered")):
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.set_xlabel(title)
            axis.set_ylabel(what)
            axis.xaxis.set_major_locator(FixedLocator(list(values)))
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
            axis.xaxis.set_minor_locator(NullLocator())
            axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            plain(axis.yaxis)
            axis.grid(linewidth=0.4, color="#dddddd")
            axis.spines[["top", "right"]].set_visible(False)
    lines = [Line2D([], [], color=colour, marker="o", markersize=4) for colour in LANES.values()]
    names = [lane.removeprefix("supplierd-") for lane in LANES]
    figure.legend(lines, names, loc="outside upper center", ncols=len(LANES), frameon=False)
    save(figure, path)


def plain(axis: Any) -> None:
    """Numbers as one says them, not powers of ten."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def label(value: float) -> str:
    """With two digits that mean something."""
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def short(value: float) -> str:
    """Bytes or workers on an axis."""
    for unit, name in ((1e6, " MB"), (1e3, " KB")):
        if value >= unit:
            return f"{round(value / unit, 1):g}{name}"
    return f"{value:g}"


def save(figure: Any, path: Path) -> None:
    """As PNG, without what changes from run to run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)

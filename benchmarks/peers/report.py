"""Results as Markdown tables, and how they get into a document: between two marks, the rest stays as it is."""

from pathlib import Path
from typing import Any, Final

from peers.works import WORKS

Medians = dict[str, dict[str, dict[str, Any]]]
NONE: Final = "–"
IN_SHORT: Final = ("jpeg-1", "jpeg-8", "jpeg-64", "raw-1", "raw-8")
BUSY: Final = 0.1
"""The share of the machine that others may have before a figure is doubtful."""


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: Any) -> str:
    """With as many digits as mean something."""
    if value is None:
        return NONE
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{digits}f}"


def pair(row: dict[str, Any], *keys: str) -> str:
    """Figures of one row, with slashes between; why there are none."""
    if "skipped" in row:
        return "skipped"
    if "error" in row:
        return "failed"
    return " / ".join(number(row.get(key)) for key in keys)


def by_work(medians: Medians, works: list[str], *keys: str, least: bool = True) -> str:
    """Systems down, works across; the least of the first key of each column in bold."""
    best = {}
    if least:
        for work in works:
            found = [row[work][keys[0]] for row in medians.values() if row.get(work, {}).get(keys[0]) is not None]
            best[work] = min(found) if found else None
    rows = []
    for system, row in medians.items():
        if all("skipped" in row.get(work, {}) for work in works):
            continue
        cells = []
        for work in works:
            text = pair(row.get(work, {}), *keys)
            cells.append(f"**{text}**" if least and row.get(work, {}).get(keys[0]) == best[work] is not None else text)
        rows.append([system, *cells])
    return table(["", *(WORKS[work].title for work in works)], rows)


def summary(medians: Medians) -> str:
    """The works that say most, in one table."""
    works = [work for work in IN_SHORT if any(work in row for row in medians.values())]
    return (
        "Age p50 / p99 in ms, and CPU seconds of all processes per 1000 frames delivered:\n\n"
        f"{by_work(medians, works, 'age_p50_ms', 'age_p99_ms', 'cpu_s_per_1000')}"
    )


def markdown(data: dict[str, Any], medians: Medians) -> str:
    """All tables."""
    seen = [work for work in WORKS if any(work in row for row in medians.values())]
    steady = [work for work in seen if not WORKS[work].highest and not WORKS[work].stopped]
    mixed = [work for work in seen if WORKS[work].stopped]
    rates = [work for work in seen if WORKS[work].highest]
    machine = data["machine"]
    shares = [cell["others"] for row in medians.values() for cell in row.values() if "others" in cell]
    busy = sum(other > BUSY for other in shares)
    parts = [
        f"Measured on {machine['cores']} cores ({machine['model']}), kernel {machine['kernel']}, Python "
        f"{machine['python']}; {data['seconds']:g} s in each run, medians over the rounds (one "
        f"round where the pace is raised). Other processes took more than "
        f"{BUSY:.0%} of the machine in {busy} of {len(shares)} cells."
    ]
    if steady:
        parts += [
            "Age of a frame in the worker's hands, ms: p50 / p99 / max",
            by_work(medians, steady, "age_p50_ms", "age_p99_ms", "age_max_ms"),
            "CPU seconds of all processes per 1000 frames delivered",
            by_work(medians, steady, "cpu_s_per_1000"),
            "One call of `publish`, ms: p50 / p99 / max",
            by_work(medians, steady, "publish_p50_ms", "publish_p99_ms", "publish_max_ms"),
            "Memory of all processes (PSS), MB",
            by_work(medians, steady, "memory_mb"),
            "Frames missed between each worker's first and last one / drops that the system reported in the whole run",
            by_work(medians, steady, "missed", "reported_drops", least=False),
            "Frames a second: received by each worker / published",
            by_work(medians, steady, "received_fps", "published_fps", least=False),
        ]
    for work in mixed:
        rows = [
            [
                system,
                pair(row[work], "slow_age_p50_ms", "slow_age_max_ms"),
                pair(row[work], "age_p50_ms", "age_p99_ms"),
                pair(row[work], "cpu_s_per_1000"),
                pair(row[work], "after_stop_ms"),
                share(row[work]),
                pair(row[work], "publish_max_ms"),
                pair(row[work], "memory_mb"),
            ]
            for system, row in medians.items()
            if work in row and "skipped" not in row[work]
        ]
        parts += [
            f"{WORKS[work].title} of 4 workers",
            table(
                [
                    "",
                    "slow one's age p50 / max ms",
                    "others' age p50 / p99 ms",
                    "CPU s per 1000",
                    "first age after a 3 s stop, at most, ms",
                    "neighbours got meanwhile",
                    "longest publish ms",
                    "memory MB",
                ],
                rows,
            ),
        ]
    if rates:
        parts += ["The highest pace that holds, frames a second", by_work(medians, rates, "highest_fps", least=False)]
    parts += [_notes(data, medians)]
    return "\n\n".join(parts) + "\n"


def share(row: dict[str, Any]) -> str:
    """Of what was published while one was stopped."""
    return f"{row['neighbours_share']:.0%}" if "neighbours_share" in row and "error" not in row else pair(row, "none")


def _notes(data: dict[str, Any], medians: Medians) -> str:
    """Settings and versions, and whatever did not go as it should."""
    lines = []
    for system, row in medians.items():
        about = data.get("about", {}).get(system, {})
        reasons = {cell["skipped"] for cell in row.values() if "skipped" in cell}
        if reasons and all("skipped" in cell for cell in row.values()):
            lines.append(f"- {system}: **not measured**, {'; '.join(sorted(reasons))}")
            continue
        lines.append(f"- {system}: {about.get('version') or 'version unknown'}; {about.get('settings')}")
        for work, cell in row.items():
            said = cell.get("skipped") or cell.get("error")
            if said:
                lines.append(f"  - {WORKS[work].title}: {' '.join(str(said).split())}")
            if cell.get("without_a_frame"):
                lines.append(f"  - {WORKS[work].title}: {cell['without_a_frame']:.0f} workers got no frame at all")
            if cell.get("hung"):
                lines.append(f"  - {WORKS[work].title}: had to be killed: {', '.join(cell['hung'])}")
    return "\n".join(lines)


def paste(document: Path, mark: str, text: str, picture: str | None = None, caption: str = "") -> None:
    """Put text between the comments `begin MARK` and `end MARK` of a document, and the picture where it was drawn.

    Raises:
        ValueError: it has no such marks.
    """
    begin, end = f"<!-- begin {mark} -->\n", f"<!-- end {mark} -->"
    before, found, rest = document.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{document} has no lines {begin.strip()} … {end}")
    if picture is not None and (document.parent / "pictures" / picture).exists():
        text = f"![{caption}](pictures/{picture})\n\n{text}"
    document.write_text(f"{before}{begin}\n{text.strip()}\n\n{end}{after}")

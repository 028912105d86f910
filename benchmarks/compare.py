"""The systems that a user would pick instead, side by side with supplierd, on the same work.

    python benchmarks/compare.py --systems supplierd zmq            no further packages
    make bench-peers                                                installs the others, and runs them all

Systems take turns, round by round; a figure is the median over the rounds. Results are written after each cell, and a
second call with the same --json goes on where the first ended, and tries again what failed. A system that is not
installed is listed, with why.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the workers are forked after NumPy is imported

from peers.cell import measure, medians
from peers.parts import publish, work
from peers.registry import SYSTEMS
from peers.report import markdown, paste, summary
from peers.works import WORKS
from rig import play

LAYOUT: Final = 1
"""Of the file of results."""


def chosen(words: list[str]) -> list[str]:
    """The systems that the words name: each a name, or else what names begin with before a dash."""
    names = []
    for word in words:
        found = [word] if word in SYSTEMS else [name for name in SYSTEMS if name.split("-")[0] == word]
        if not found:
            sys.exit(f"unknown: {word}; systems are {', '.join(SYSTEMS)}")
        names += found
    return list(dict.fromkeys(names))


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cores": os.cpu_count(),
        "model": model[0].partition(":")[2].strip() if model else "",
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def there(system: str) -> bool:
    """Whether a system is known, and installed."""
    return system in SYSTEMS and SYSTEMS[system].missing() is None


class Results:
    """What was measured so far, and its file."""

    def __init__(self, path: Path | None, seconds: float) -> None:
        self._path = path
        self.data: dict[str, Any] = {"layout": LAYOUT, "machine": machine(), "seconds": seconds, "cells": {}}
        if path is not None and path.exists():
            found = json.loads(path.read_text())
            if (found.get("layout"), found.get("seconds")) != (LAYOUT, seconds):
                sys.exit(f"{path} was measured otherwise; move it away, or name another file with --json")
            self.data = found
            for system, works in found["cells"].items():  # what failed, or was not installed then, is tried again
                for rows in works.values():
                    rows[:] = [row for row in rows if "error" not in row and not ("skipped" in row and there(system))]

    def rows(self, system: str, work_name: str) -> list[dict[str, Any]]:
        """Of one system on one work."""
        rows: list[dict[str, Any]] = self.data["cells"].setdefault(system, {}).setdefault(work_name, [])
        return rows

    def add(self, system: str, work_name: str, row: dict[str, Any]) -> None:
        """One more, written at once."""
        self.rows(system, work_name).append(row)
        self.data.setdefault("about", {})[system] = {
            "settings": SYSTEMS[system].settings,
            "version": "" if SYSTEMS[system].missing() else SYSTEMS[system].version(),
        }
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft = self._path.with_suffix(".tmp")
            draft.write_text(json.dumps(self.data, indent=1))
            draft.replace(self._path)

    def medians(self) -> dict[str, dict[str, dict[str, Any]]]:
        """By system and work."""
        return {
            system: {name: medians(rows) for name, rows in works.items() if rows}
            for system, works in self.data["cells"].items()
        }


def brief(row: dict[str, Any]) -> str:
    """A row in one line."""
    if said := row.get("skipped") or row.get("error"):
        return str(said)
    if "highest_fps" in row:
        return f"{row['highest_fps']:.0f} fps"
    text = (
        f"age {row['age_p50_ms']:.2f}/{row['age_p99_ms']:.2f}/{row['age_max_ms']:.1f} ms, publish p99 "
        f"{row['publish_p99_ms']:.2f} ms, {row['cpu_s_per_1000']:.3f} s per 1000, {row['memory_mb']:.0f} MB, "
        f"{row['received_fps']:.1f} of {row['published_fps']:.1f} fps, missed {row['missed']} "
        f"(reported {row.get('reported_drops')}), others {row['others']:.0%}"
    )
    if "after_stop_ms" in row:
        text += (
            f"; slow {row.get('slow_age_p50_ms', 0):.0f} ms, after a stop {row['after_stop_ms'] or float('nan'):.1f} "
            f"ms, neighbours {row['neighbours_share']:.0%}"
        )
    return text + (f", hung: {row['hung']}" if "hung" in row else "")


def run(systems: list[str], works: list[str], rounds: int, seconds: float, results: Results) -> None:
    """Round by round, work by work, the systems in turn."""
    for number in range(rounds):
        for name in works:
            if WORKS[name].highest and number:
                continue
            for system in systems:
                if len(results.rows(system, name)) > number:
                    continue
                row = measure(SYSTEMS[system], WORKS[name], seconds)
                results.add(system, name, row)
                print(f"round {number + 1} of {rounds}, {name}, {system}: {brief(row)}", file=sys.stderr, flush=True)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = [name for name, system in SYSTEMS.items() if system.by_default]
    parser.add_argument(
        "--systems", nargs="+", default=usual, help=f"of {', '.join(SYSTEMS)} (default: {' '.join(usual)})"
    )
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--rounds", type=int, default=2, help="of each work at a given pace (default 2)")
    parser.add_argument("--seconds", type=float, default=2.0, help="measured in each cell (default 2)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, and go on from it")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file, too")
    parser.add_argument("--pictures", type=Path, help="draw the plots into this folder (needs matplotlib)")
    parser.add_argument("--paste", type=Path, help="put the tables between the marks of this document")
    parser.add_argument("--paste-summary", type=Path, help="put one table between the marks of this document")
    parser.add_argument("--report", action="store_true", help="measure nothing: make tables of what there is")
    options = parser.parse_args()
    results = Results(options.json, options.seconds)
    if not options.report:
        began = time.monotonic()
        run(chosen(options.systems), options.works, options.rounds, options.seconds, results)
        print(f"took {(time.monotonic() - began) / 60:.1f} minutes", file=sys.stderr)
        if options.json:  # in a process of its own: not all peers' libraries let this one end in peace
            sys.exit(subprocess.run([sys.executable, *sys.argv, "--report"], check=False).returncode)
    text = markdown(results.data, results.medians())
    print(text)
    if options.markdown:
        options.markdown.parent.mkdir(parents=True, exist_ok=True)
        options.markdown.write_text(text)
    if options.pictures:
        from peers.plots import draw_comparison

        draw_comparison(results.medians(), options.pictures)
    if options.paste:
        paste(options.paste, "compared", text, "compared.png", "supplierd and its peers: age, CPU, recovery, pace")
    if options.paste_summary:
        paste(options.paste_summary, "in short", summary(results.medians()))


if __name__ == "__main__" and not play((publish, work)):
    main()

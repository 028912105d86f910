"""How supplierd's cost grows: with the number of workers, 1 to 64, and with the size of a frame, 1 KB to 25 MB.

    python benchmarks/growth.py --json build/bench/growth.json --pictures docs/pictures

Workers: 100 KB at 30 fps through shared memory and inline. Sizes: to 4 workers at 10 fps; with loans nothing copies the
picture after it is written, so age must not depend on the size. The cells are those of compare.py, taken in turns.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from compare import Results, brief
from peers.cell import measure
from peers.registry import SYSTEMS
from peers.report import NONE, number, paste, table
from peers.works import FPS, JPEG, Work

LANES: Final = ("supplierd-loan", "supplierd-shm", "supplierd-inline")
WORKERS: Final = (1, 2, 4, 8, 16, 32, 64)
SIZES: Final = (1_000, 10_000, 100_000, 1_000_000, 6_220_800, 25_000_000)
"""Bytes; the last is 4K in three bytes a pixel, or nearly."""
SIZE_FPS: Final = 10.0
SIZE_WORKERS: Final = 4
WORKS: Final = {
    **{f"workers-{n}": Work(f"workers-{n}", f"{n} workers", JPEG, n, FPS) for n in WORKERS},
    **{f"size-{n}": Work(f"size-{n}", f"{n} bytes", (n,), SIZE_WORKERS, SIZE_FPS) for n in SIZES},
}


def size_title(size: int) -> str:
    """For people."""
    return f"{size / 1e6:.2g} MB" if size >= 1_000_000 else f"{size / 1e3:g} KB"


def tables(medians: dict[str, dict[str, dict[str, Any]]]) -> str:
    """One for workers, one for sizes."""
    parts = []
    for kind, values, title in (("workers", WORKERS, str), ("size", SIZES, size_title)):
        lanes = [lane for lane in LANES if any(f"{kind}-{value}" in medians.get(lane, {}) for value in values)]
        if not lanes:
            continue
        heads = [
            f"{lane.removeprefix('supplierd-')} {what}" for lane in lanes for what in ("age p50 / p99 ms", "CPU s")
        ]
        rows = []
        for value in values:
            cells = []
            for lane in lanes:
                row = medians[lane].get(f"{kind}-{value}", {})
                failed = "error" in row or not row
                cells += [
                    NONE if failed else f"{number(row['age_p50_ms'])} / {number(row['age_p99_ms'])}",
                    NONE if failed else number(row["cpu_s_per_1000"]),
                ]
            rows.append([title(value), *cells])
        parts.append(table([{"workers": "workers, 100 KB", "size": "frame, 4 workers"}[kind], *heads], rows))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("workers", "size"), help="one of the two")
    parser.add_argument("--rounds", type=int, default=2, help="medians over so many (default 2)")
    parser.add_argument("--seconds", type=float, default=2.0, help="measured in each cell (default 2)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, and go on from it")
    parser.add_argument("--pictures", type=Path, help="draw the plot into this folder (needs matplotlib)")
    parser.add_argument("--paste", type=Path, help="put the tables between the marks of this document")
    options = parser.parse_args()
    results = Results(options.json, options.seconds)
    for number_of_round in range(options.rounds):
        for name, work in WORKS.items():
            for lane in LANES:
                if name.startswith(options.only or "") and len(results.rows(lane, name)) <= number_of_round:
                    row = measure(SYSTEMS[lane], work, options.seconds)
                    results.add(lane, name, row)
                    print(f"{name}, {lane}: {brief(row)}", file=sys.stderr, flush=True)
    text = tables(results.medians())
    print(text)
    if options.pictures:
        from peers.plots import draw_growth

        draw_growth(results.medians(), WORKERS, SIZES, options.pictures / "growth.png")
    if options.paste:
        paste(options.paste, "growth", text, "growth.png", "Age and CPU against the number of workers and the size")


if __name__ == "__main__":
    main()

"""Does a scrape of /metrics change the age of frames? None, one each second, and one after the other without a pause.

    python benchmarks/scraping.py --rounds 5 --seconds 8

100 KB at 30 fps through shared memory, to 8 workers or so many as one says. The three take turns, in another order each
round; what is compared is the median of the rounds' p99. The aim: less than 10 % apart.
"""

import argparse
import json
import os
import re
import statistics
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from peers.cell import Cell, Row, measure
from peers.registry import SYSTEMS
from peers.report import number, paste, table
from peers.works import FPS, JPEG, Work

LANE: Final = "supplierd-shm"
PAUSES: Final[dict[str, float | None]] = {"none": None, "each second": 1.0, "without a pause": 0.0}
"""Seconds between two scrapes."""


class Scraper:
    """Scrapes until it is closed. A scraper is elsewhere, as a rule; so this thread takes what the others leave."""

    def __init__(self, url: str, pause: float) -> None:
        self._url, self._pause = url, pause
        self._ended = threading.Event()
        self.took: list[float] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        while not self._ended.wait(self._pause):
            began = time.monotonic()
            with urllib.request.urlopen(self._url, timeout=10.0) as answer:
                answer.read()
            self.took.append(time.monotonic() - began)

    def close(self) -> None:
        """Stop."""
        self._ended.set()
        self._thread.join()


class Scraped(Cell):
    """A cell with a scraper, while it is measured."""

    pause: float | None = None

    def _steady(self, seconds: float) -> None:
        scraper = None
        if self.pause is not None:
            scraper = Scraper(self._url(), self.pause)
        try:
            super()._steady(seconds)
        finally:
            if scraper is not None:
                scraper.close()
                self.row["scrapes"] = len(scraper.took)
                self.row["scrape_p50_ms"] = statistics.median(scraper.took) * 1e3 if scraper.took else 0.0

    def _url(self) -> str:
        """Where the daemon serves its metrics, out of its log."""
        log = Path(self.place.address["runtime_dir"]).parent / "log"
        found = re.search(r"http://[^\s\"]+/metrics", log.read_text())
        if found is None:
            raise RuntimeError(f"no address of metrics in the daemon's log:\n{log.read_text()}")
        return found.group()


def one(pause: float | None, workers: int, seconds: float) -> Row:
    """One run."""
    kind = type("OneScraped", (Scraped,), {"pause": pause})
    return measure(SYSTEMS[LANE], Work("scraped", f"100 KB to {workers}", JPEG, workers, FPS), seconds, kind)


def report(rows: dict[str, list[Row]], workers: int) -> str:
    """The table, with how far each is from none."""
    lines, base = [], None
    for name, each in rows.items():
        good = [row for row in each if "error" not in row]
        if not good:
            lines.append([name, *["failed"] * 6])
            continue
        p99 = statistics.median(row["age_p99_ms"] for row in good)
        base = p99 if base is None else base
        lines.append(
            [
                name,
                number(statistics.median(row["age_p50_ms"] for row in good)),
                number(p99),
                f"{p99 / base - 1:+.0%}",
                number(statistics.median(row["cpu_s_per_1000"] for row in good)),
                number(statistics.median(row.get("scrapes", 0) for row in good)),
                number(statistics.median(row.get("scrape_p50_ms", 0.0) for row in good)),
            ]
        )
    head = [
        f"scrapes, {workers} workers",
        "age p50 ms",
        "age p99 ms",
        "against none",
        "CPU s per 1000",
        "scrapes in a run",
        "a scrape, ms",
    ]
    return table(head, lines) + "\n"


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="medians over so many (default 15)")
    parser.add_argument("--workers", type=int, default=8, help="that take each frame (default 8)")
    parser.add_argument("--seconds", type=float, default=10.0, help="measured in each run (default 10)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--paste", type=Path, help="put the table between the marks of this document")
    options = parser.parse_args()
    rows: dict[str, list[Row]] = {name: [] for name in PAUSES}
    for turn in range(options.rounds):
        order = list(PAUSES)[turn % 3 :] + list(PAUSES)[: turn % 3]
        for name in order:
            row = one(PAUSES[name], options.workers, options.seconds)
            rows[name].append(row)
            said: Any = row.get("error") or f"age p50/p99 {row['age_p50_ms']:.2f}/{row['age_p99_ms']:.2f} ms"
            print(f"round {turn + 1} of {options.rounds}, {name}: {said}", file=sys.stderr, flush=True)
            if options.json:
                options.json.parent.mkdir(parents=True, exist_ok=True)
                options.json.write_text(json.dumps(rows, indent=1))
    text = report(rows, options.workers)
    print(text)
    if options.paste:
        paste(options.paste, "scraping", text)


if __name__ == "__main__":
    main()

"""/metrics as a scraper sees it."""

import http.client
import shutil
import subprocess
import time
from collections.abc import Mapping
from typing import Final, NamedTuple

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.support.waiting import DEADLINE, STEP

TIMEOUT: Final = 10.0
MAILBOX: Final = ("worker", "stream", "class")


class Answer(NamedTuple):
    """What an HTTP server said."""

    status: int
    kind: str
    body: str


class Scrape(NamedTuple):
    """The samples of one scrape by name and labels.

    Attributes:
        text: as it came.
        kind: its content type.
        samples: by name, then by sorted labels.
        types: of the families, by name.
    """

    text: str
    kind: str
    samples: Mapping[str, Mapping[tuple[tuple[str, str], ...], float]]
    types: Mapping[str, str]

    def value(self, name: str, **labels: str) -> float:
        """One sample; 0 where there is none. A label named `class_` means `class`."""
        key = tuple(sorted((label.rstrip("_"), text) for label, text in labels.items()))
        return self.samples.get(name, {}).get(key, 0.0)

    def labels(self, name: str) -> set[str]:
        """The names of the labels that a sample carries."""
        return {label for key in self.samples[name] for label, _ in key}


def get(port: int, path: str, accept: str | None = None, method: str = "GET") -> Answer:
    """One request to 127.0.0.1. Raises OSError."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request(method, path, headers={"Accept": accept} if accept else {})
        response = connection.getresponse()
        return Answer(response.status, response.getheader("Content-Type", ""), response.read().decode())
    finally:
        connection.close()


def scrape(port: int, accept: str | None = None) -> Scrape:
    """GET /metrics, again and again while the exporter is starting."""
    end = time.monotonic() + DEADLINE
    while True:
        try:
            answer = get(port, "/metrics", accept)
            break
        except OSError:
            assert time.monotonic() < end, "no exporter answered"
            time.sleep(STEP)
    assert answer.status == 200, answer
    return parse(answer.body, answer.kind)


def parse(text: str, kind: str = "text/plain") -> Scrape:
    """The samples in an exposition."""
    read = openmetrics.text_string_to_metric_families if "openmetrics" in kind else text_string_to_metric_families
    samples: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    types = {}
    for family in read(text):
        types[family.name] = family.type
        for sample in family.samples:
            samples.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return Scrape(text, kind, samples, types)


def lint(text: str) -> str:
    """What Prometheus' own tool finds wrong with an exposition; skips the test where it is not installed."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: it is part of Debian's package prometheus")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, check=False, capture_output=True, text=True, timeout=TIMEOUT
    )
    return done.stdout + done.stderr or ("" if done.returncode == 0 else f"status {done.returncode}")


def assert_adds_up(scraped: Scrape) -> None:
    """Every mailbox of a scrape: offered = consumed + dropped(all reasons) + decimated + pending + in flight."""
    prefix = "supplierd_worker_frames_"
    for labels, offered in scraped.samples.get(f"{prefix}offered_total", {}).items():
        dropped = sum(
            value
            for key, value in scraped.samples.get(f"{prefix}dropped_total", {}).items()
            if tuple(pair for pair in key if pair[0] != "reason") == labels
        )
        rest = (f"{prefix}{name}" for name in ("consumed_total", "decimated_total", "pending", "in_flight"))
        assert offered == dropped + sum(scraped.samples[name][labels] for name in rest), labels

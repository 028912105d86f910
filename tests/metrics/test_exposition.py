"""The metrics as a scraper reads them: the exact text, every promised name and label, and Prometheus' own lint."""

from pathlib import Path
from unittest.mock import Mock

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from supplierd.core.ledger import DISCARD_REASONS
from supplierd.core.worker import State
from supplierd.metrics import SnapshotCollector
from tests.metrics.picture import BUILD, exposition, picture
from tests.support.scrape import assert_adds_up, lint, parse

GOLDEN = Path(__file__).with_name("golden.prom")
MAILBOX = {"worker", "stream", "class"}
WORKER = {"worker", "class"}

# The names are an interface: dashboards, alerts and other programs rely on them.
PROMISED = {
    "supplierd_build_info": {"version", "wire", "libzmq"},
    "supplierd_stream_frames_received_total": {"stream"},
    "supplierd_stream_frames_dropped_total": {"stream", "reason"},
    "supplierd_stream_last_frame_timestamp_seconds": {"stream"},
    "supplierd_messages_rejected_total": {"reason"},
    "supplierd_stream_silent": {"stream"},
    "supplierd_worker_frames_offered_total": MAILBOX,
    "supplierd_worker_frames_consumed_total": MAILBOX,
    "supplierd_worker_frames_dropped_total": MAILBOX | {"reason"},
    "supplierd_worker_frames_decimated_total": MAILBOX,
    "supplierd_worker_frames_pending": MAILBOX,
    "supplierd_worker_frames_in_flight": MAILBOX,
    "supplierd_worker_consecutive_drops": MAILBOX,
    "supplierd_worker_last_consumed_timestamp_seconds": MAILBOX,
    "supplierd_worker_last_consumed_seq": MAILBOX,
    "supplierd_worker_idle": WORKER,
    "supplierd_worker_connected": WORKER,
    "supplierd_worker_expected": WORKER,
    "supplierd_worker_state": WORKER | {"state"},
    "supplierd_worker_drop_budget_ratio": WORKER,
    "supplierd_worker_target_fps": WORKER,
    "supplierd_worker_frame_age_seconds_bucket": MAILBOX | {"le"},
    "supplierd_worker_frame_age_seconds_sum": MAILBOX,
    "supplierd_worker_frame_age_seconds_count": MAILBOX,
    "supplierd_worker_processing_seconds_bucket": WORKER | {"le"},
    "supplierd_worker_processing_seconds_count": WORKER,
    "supplierd_distribution_seconds_bucket": {"le"},
    "supplierd_distribution_seconds_count": set(),
}


def test_golden() -> None:
    assert exposition() == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PROMISED)
def test_promised_names_and_labels(name: str) -> None:
    assert parse(exposition()).labels(name) == PROMISED[name]


def test_each_ledger_adds_up() -> None:
    assert_adds_up(parse(exposition()))


def test_every_reason_of_a_drop_is_there_from_the_start() -> None:
    """A counter that begins with its first drop hides that drop from rate()."""
    samples = parse(exposition()).samples["supplierd_worker_frames_dropped_total"]
    reasons = {dict(key)["reason"] for key in samples if ("stream", "cam-2") in key}
    assert reasons == {*DISCARD_REASONS, "overwritten"}


def test_a_worker_is_in_one_state_and_idle_is_one_of_them() -> None:
    scraped = parse(exposition())
    for worker in picture().workers:
        labels = {"worker": worker.name, "class_": worker.service_class}
        states = {state: scraped.value("supplierd_worker_state", state=state, **labels) for state in map(str, State)}
        assert states == {state: float(state == worker.state) for state in states}
        assert scraped.value("supplierd_worker_idle", **labels) == (worker.state == "idle")
        assert scraped.value("supplierd_worker_connected", **labels) == (worker.state != "gone")


def test_what_never_happened_has_no_time() -> None:
    scraped = parse(exposition())
    times = scraped.samples["supplierd_worker_last_consumed_timestamp_seconds"]
    assert all(("stream", "cam-2") not in key for key in times)
    assert (("stream", "cam-2"),) not in scraped.samples["supplierd_stream_last_frame_timestamp_seconds"]


def test_openmetrics_says_the_same() -> None:
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(picture, BUILD))
    encode, kind = choose_encoder("application/openmetrics-text; version=1.0.0")
    opened = parse(encode(registry).decode(), kind)
    assert opened.samples == parse(exposition()).samples


def test_nothing_is_asked_of_the_daemon_before_a_scrape() -> None:
    fetch = Mock(side_effect=picture)
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(fetch, BUILD))
    fetch.assert_not_called()
    list(registry.collect())
    fetch.assert_called_once()  # all families come from one snapshot


def test_prometheus_own_lint() -> None:
    assert lint(exposition()) == ""

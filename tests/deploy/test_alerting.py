"""From end to end: a real Prometheus and Alertmanager, with the shipped files, watch a real daemon."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.deploy import monitoring
from tests.support.daemon import Daemon
from tests.support.processes import Actor
from tests.support.waiting import wait_for

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(180),
    pytest.mark.skipif(bool(monitoring.missing()), reason=monitoring.missing()),
]

CONFIG = '[streams.cam-1]\n[workers.detector]\nclass = "critical"\ntarget_fps = 10\n'


def test_a_worker_that_ends_raises_an_alert_and_one_that_comes_back_ends_it(
    daemons: Callable[..., Daemon], actor: Callable[..., Actor], home: Path
) -> None:
    daemon = daemons(CONFIG).start()
    actor("publish", inbox=daemon.inbox, stream="cam-1")
    detector = actor("work", control=daemon.control, name="detector")
    with (
        monitoring.webhook() as (hook, heard),
        monitoring.alertmanager(home, hook) as alerts,
        monitoring.prometheus(home, daemon.metrics_port, alerts) as port,
    ):
        taken = 'worker_stream:supplierd_worker_frames_consumed:rate1m{worker="detector"} > 1'
        wait_for(lambda: monitoring.query(port, taken), "frames in the recorded rates", 60)
        assert "SupplierdCriticalWorkerMissing" not in _firing(heard)
        detector.kill()
        wait_for(lambda: "SupplierdCriticalWorkerMissing" in _firing(heard), "the alert at the webhook", 60)
        missing = next(a for a in heard if a["labels"]["alertname"] == "SupplierdCriticalWorkerMissing")
        assert missing["labels"]["worker"] == "detector"
        assert missing["annotations"]["summary"] == "critical worker detector is missing"
        assert not monitoring.query(port, 'ALERTS{alertname="SupplierdLedgerBroken"}')
        actor("work", control=daemon.control, name="detector")
        wait_for(lambda: not _pending(port, "SupplierdCriticalWorkerMissing"), "the alert to end", 60)


def _firing(heard: list[dict[str, Any]]) -> set[str]:
    """The names of the alerts that came."""
    return {alert["labels"]["alertname"] for alert in heard if alert["status"] == "firing"}


def _pending(port: int, alert: str) -> list[dict[str, Any]]:
    return monitoring.query(port, f'ALERTS{{alertname="{alert}"}}')

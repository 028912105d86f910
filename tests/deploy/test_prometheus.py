"""The rules and alerts, tried with Prometheus' own promtool: each case of alert_cases.py, and each alert's runbook."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.alert_cases import CASES, HEALTHY, Case

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "deploy/prometheus"
ALERTS = (SHIPPED / "alerts.yml").read_text()
SEVERITY = dict(re.findall(r"- alert: (\w+).*?severity: (\w+)", ALERTS, re.DOTALL))
INSTANCE = {"job": "supplierd", "instance": "nuc"}

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing: it comes with Debian's package prometheus"
)


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_the_configuration_is_one_that_prometheus_takes() -> None:
    promtool("check", "config", SHIPPED / "prometheus.yml")


def test_every_alert_fires_in_a_case() -> None:
    assert SEVERITY.keys() == {alert for case in CASES for alert in case.fires}


@pytest.mark.parametrize("alert", SEVERITY)
def test_every_alert_has_its_paragraph_in_the_runbook(alert: str) -> None:
    assert f"\n## {alert}\n" in (ROOT / "docs/runbook.md").read_text()
    assert f'runbook: "docs/runbook.md#{alert.lower()}"' in ALERTS


@needs_promtool
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_alerts_fire_when_they_should_and_only_then(case: Case, tmp_path: Path) -> None:
    test = tmp_path / "test.json"  # JSON is YAML
    test.write_text(json.dumps(document(case)))
    promtool("test", "rules", test)


@needs_promtool
def test_what_the_recording_rules_record(tmp_path: Path) -> None:
    detector = '{class="critical", instance="nuc", job="supplierd", worker="detector"}'
    on_stream = '{class="critical", instance="nuc", job="supplierd", stream="cam-1", worker="detector"}'
    researchers = '{class="best_effort", instance="nuc", job="supplierd"}'
    expected = {
        f"worker_stream:supplierd_worker_frames_consumed:rate1m{on_stream}": 10,
        f"worker_stream:supplierd_worker_frames_promised:rate1m{on_stream}": 10,
        f"worker_stream:supplierd_worker_target_fps:ratio_rate1m{on_stream}": 1,
        f"worker:supplierd_worker_frames_dropped:ratio_rate1m{detector}": 0,
        f"class:supplierd_worker_frames_dropped:ratio_rate1m{researchers}": 0.98,
        'stream:supplierd_stream_frames_dropped:ratio_rate1m{instance="nuc", job="supplierd", stream="cam-1"}': 0,
        f"worker:supplierd_live_streams:count{detector}": 1,
    }
    tests = document(CASES[0])
    tests["tests"][0]["promql_expr_test"] = [
        {"expr": series, "eval_time": "5m", "exp_samples": [{"labels": series, "value": value}]}
        for series, value in expected.items()
    ]
    test = tmp_path / "test.json"
    test.write_text(json.dumps(tests))
    promtool("test", "rules", test)


def document(case: Case) -> dict[str, Any]:
    """The case as a test file of promtool's."""
    series = [{"series": _labelled(name), "values": text} for name, text in {**HEALTHY, **case.changes}.items()]
    alerts = []
    for alert, severity in SEVERITY.items():
        expected = []
        if alert in case.fires:
            labels, summary = case.fires[alert]
            expected = [
                {
                    "exp_labels": {**INSTANCE, "severity": severity, **labels},
                    "exp_annotations": {"summary": summary, "runbook": f"docs/runbook.md#{alert.lower()}"},
                }
            ]
        alerts.append({"alertname": alert, "eval_time": case.at, "exp_alerts": expected})
    rules = [str(SHIPPED / name) for name in ("rules.yml", "alerts.yml")]
    tests = [{"name": case.what, "interval": "5s", "input_series": series, "alert_rule_test": alerts}]
    return {"rule_files": rules, "evaluation_interval": "5s", "tests": tests}


def _labelled(name: str) -> str:
    """A series' name with the labels that a scrape adds."""
    labels = ",".join(f'{key}="{value}"' for key, value in INSTANCE.items() if f'{key}="' not in name)
    return name.replace("{", "{" + labels + ",", 1)

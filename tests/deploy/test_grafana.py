"""The dashboard: it is what its maker makes, fits the grid, and each query finds series in a real Prometheus."""

import json
import re
import runpy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from supplierd.core.service import Settings
from supplierd.core.snapshot import take
from supplierd.core.supplier import Supplier
from supplierd.metrics import families
from tests.deploy import monitoring
from tests.support.daemon import Daemon
from tests.support.processes import Actor
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "deploy/grafana/dashboards/supplierd.json"
DASHBOARD: dict[str, Any] = json.loads(SHIPPED.read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
VARIABLES = {
    "$__rate_interval": "10s",
    "$instance": ".*",
    "$stream": ".*",
    "$worker": ".*",
    "${datasource}": "supplierd",
}
CONFIG = """
[workers.detector]
class = "critical"
target_fps = 10
[workers.research]
class = "best_effort"
[workers.pose]
class = "high"
"""


def test_the_shipped_file_is_what_its_maker_makes(tmp_path: Path) -> None:
    maker = runpy.run_path(str(ROOT / "tools/grafana/dashboard.py"))
    assert maker["dashboard"]() == DASHBOARD, "run: python tools/grafana/dashboard.py"


def test_panels_fill_the_grid_and_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len(taken) == 24 * (1 + max(y for _, y in taken))
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_an_operator_can_choose_the_source_the_daemon_the_stream_and_the_worker() -> None:
    assert [each["name"] for each in DASHBOARD["templating"]["list"]] == ["datasource", "instance", "stream", "worker"]
    for panel in PANELS:
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


def test_every_metric_of_a_query_is_exported_or_recorded() -> None:
    recorded = set(re.findall(r"record: (\S+)", (monitoring.SHIPPED / "rules.yml").read_text()))
    suffix = {"counter": "_total", "histogram": "_bucket", "gauge": ""}
    empty = take(Supplier(Settings(), bytes(16), 1), 0.0, 0.0)
    exported = {family.name + suffix[family.type] for family in families(empty)}
    for target in _targets():
        named = set(re.findall(r"(?:\w+:)?supplierd_\w+(?::\w+)?", target["expr"]))
        assert named <= recorded | exported, target["expr"]


@pytest.mark.system
@pytest.mark.timeout(180)
@pytest.mark.skipif(bool(monitoring.missing()), reason=monitoring.missing())
def test_every_query_finds_series(daemons: Callable[..., Daemon], actor: Callable[..., Actor], home: Path) -> None:
    daemon = daemons(CONFIG).start()
    actor("publish", inbox=daemon.inbox, stream="cam-1", size=200_000)
    actor("work", control=daemon.control, name="detector")
    actor("work", control=daemon.control, name="research", busy=0.2)
    with monitoring.prometheus(home, daemon.metrics_port) as port:
        for target in _targets():
            for variable, value in VARIABLES.items():
                target["expr"] = target["expr"].replace(variable, value)
            wait_for(partial(monitoring.query, port, target["expr"]), target["expr"], 60)
        for variable in DASHBOARD["templating"]["list"][1:]:
            metric = re.fullmatch(r"label_values\((.*), \w+\)", variable["query"])
            assert metric
            expression = metric[1].replace("$instance", ".*")
            assert all(variable["name"] in series["metric"] for series in monitoring.query(port, expression))


def _targets() -> list[dict[str, Any]]:
    return [dict(target) for panel in PANELS for target in panel["targets"]]

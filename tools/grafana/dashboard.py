"""Makes deploy/grafana/dashboards/supplierd.json: `python tools/grafana/dashboard.py [FILE]`.

Strategy: what an operator asks first comes first (is anything wrong, and with whom), history below. Each panel is one
call; positions follow from widths. Rules: windows are the scrape's (`$__rate_interval`); a table cell and a budget come
from the recording rules of deploy/prometheus/rules.yml, so that dashboard and alerts agree.
"""

import json
import sys
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).parents[2] / "deploy/grafana/dashboards/supplierd.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
GREEN, DARK_GREEN, BLUE, ORANGE, RED, GREY = "green", "dark-green", "blue", "orange", "red", "#9aa0a6"

DAEMON = 'job="supplierd",instance=~"$instance"'
STREAM = f'{DAEMON},stream=~"$stream"'
WORKER = f'{DAEMON},worker=~"$worker"'
BOTH = f'{STREAM},worker=~"$worker"'

STATES = {"waiting": (1, GREEN), "busy": (2, DARK_GREEN), "starved": (3, BLUE), "gone": (4, ORANGE), "idle": (5, RED)}
_CODES = " or ".join(
    f'{code} * supplierd_worker_state{{{WORKER},state="{state}"}}' for state, (code, _) in STATES.items()
)
STATE_CODE = f"sum by (instance, worker, class) ({_CODES})"
BY_MAILBOX = "by (instance, worker, stream, class)"


def per_mailbox(expression: str) -> str:
    """A worker's figure, once for each stream that it follows; and for a worker that never had one, once."""
    mailboxes = f"0 * sum {BY_MAILBOX} (supplierd_worker_frames_offered_total{{{BOTH}}})"
    return (
        f"{mailboxes} + on (instance, worker, class) group_left () ({expression})"
        f" or on (instance, worker, class) ({expression})"
    )


def query(expression: str, legend: str = "", **more: Any) -> dict[str, Any]:
    """One query of a panel."""
    return {"expr": expression, "legendFormat": legend, "datasource": SOURCE, **more}


def steps(*pairs: tuple[float | None, str]) -> dict[str, Any]:
    """Thresholds: from each value on, a colour; the first value is None."""
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in pairs]}


def panel(kind: str, title: str, text: str, size: tuple[int, int], queries: list[dict[str, Any]], **more: Any) -> Any:
    """A panel, without its place."""
    named = [{**each, "refId": chr(ord("A") + number)} for number, each in enumerate(queries)]
    return {
        "type": kind,
        "title": title,
        "description": text,
        "datasource": SOURCE,
        "targets": named,
        "gridPos": {"w": size[0], "h": size[1], "x": 0, "y": 0},
        **more,
    }


def stat(title: str, text: str, expression: str, thresholds: dict[str, Any], **defaults: Any) -> Any:
    """One number whose colour says whether it is all right."""
    return panel(
        "stat", title, text, (3, 4), [query(expression, instant=True, range=False)],
        fieldConfig={
            "defaults": {"thresholds": thresholds, "color": {"mode": "thresholds"}, **defaults}, "overrides": [],
        },
        options={
            "colorMode": "background_solid", "graphMode": "none", "justifyMode": "auto", "orientation": "auto",
            "textMode": "value", "wideLayout": True, "showPercentChange": False, "percentChangeColorMode": "standard",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        },
    )  # fmt: skip


def chart(
    title: str, text: str, queries: list[dict[str, Any]], unit: str, *, style: dict[str, Any] | None = None,
    overrides: list[dict[str, Any]] | None = None, **defaults: Any,
) -> Any:  # fmt: skip
    """Lines over time, a third of the width."""
    custom = {"lineWidth": 2, "fillOpacity": 8, "showPoints": "never", "spanNulls": False, **(style or {})}
    return panel(
        "timeseries", title, text, (8, 8), queries,
        fieldConfig={
            "defaults": {"unit": unit, "min": 0, "color": {"mode": "palette-classic"}, "custom": custom}
            | defaults,
            "overrides": overrides or [],
        },
        options={
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    )  # fmt: skip


def properties(**named: Any) -> list[dict[str, Any]]:
    """What an override sets; `custom__x` is `custom.x`."""
    return [{"id": name.replace("__", "."), "value": value} for name, value in named.items()]


def override(regex: str, **named: Any) -> dict[str, Any]:
    """Properties of the series or columns whose names fit."""
    return {"matcher": {"id": "byRegexp", "options": regex}, "properties": properties(**named)}


def thin(regex: str, *dash: int) -> dict[str, Any]:
    """Series that accompany the others: grey, thin and dashed, not in the legend."""
    return override(
        regex, color={"mode": "fixed", "fixedColor": GREY}, custom__lineStyle={"fill": "dash", "dash": list(dash)},
        custom__lineWidth=1, custom__fillOpacity=0, custom__hideFrom={"legend": True, "tooltip": False, "viz": False},
    )  # fmt: skip


def now_row() -> list[Any]:
    """Is anything wrong?"""
    none_is_good = steps((None, GREEN), (1, RED))
    silent = f"supplierd_stream_silent{{{STREAM}}}"
    state = 'sum(supplierd_worker_state{%s,state="%s"}) or vector(0)'
    answers = {"mappings": [{"type": "value", "options": {"1": {"text": "up"}, "0": {"text": "down"}}}]}
    return [
        stat("Daemon", "Whether Prometheus can scrape it.", f"min(up{{{DAEMON}}})", steps((None, RED), (1, GREEN)),
             **answers),
        stat("Alerts", "Firing alerts; the runbook has a paragraph on each.",
             'count(ALERTS{alertname=~"Supplierd.*",alertstate="firing"}) or vector(0)', none_is_good),
        stat("Live streams", "Streams with frames.", f"count({silent} == 0) or vector(0)",
             steps((None, RED), (1, GREEN))),
        stat("Silent streams", "Streams without a frame for stream_timeout.", f"sum({silent})", none_is_good),
        stat("Idle workers", "Frames wait, and the worker takes none: it hangs.", state % (WORKER, "idle"),
             none_is_good),
        stat("Missing workers", "Configured or known, and not connected.", state % (WORKER, "gone"),
             steps((None, GREEN), (1, ORANGE))),
        stat("Starved workers", "They wait, and their streams are silent: nothing to do about the worker.",
             state % (WORKER, "starved"), steps((None, GREEN), (1, BLUE))),
        stat("Distribution p99", "From a frame's arrival to its last send; frames stay fresh while it is far below the "
             "time between two frames.", f"max(instance:supplierd_distribution_seconds:p99_1m{{{DAEMON}}})",
             steps((None, GREEN), (0.005, ORANGE), (0.015, RED)), unit="s", decimals=1),
    ]  # fmt: skip


def workers_table() -> Any:
    """Who is it?"""
    age = f"worker_stream:supplierd_worker_frame_age_seconds:%s_1m{{{BOTH}}}"
    columns = {
        "State": per_mailbox(STATE_CODE),
        "Age p50": f"sum {BY_MAILBOX} ({age % 'p50'})",
        "Age p95": f"sum {BY_MAILBOX} ({age % 'p95'})",
        "Age p99": f"sum {BY_MAILBOX} ({age % 'p99'})",
        "Taken": f"sum {BY_MAILBOX} (worker_stream:supplierd_worker_frames_consumed:rate1m{{{BOTH}}})",
        "Promised": f"sum {BY_MAILBOX} (worker_stream:supplierd_worker_frames_promised:rate1m{{{BOTH}}})",
        "Dropped": f"sum {BY_MAILBOX} (worker_stream:supplierd_worker_frames_dropped:rate1m{{{BOTH}}})"
        f" / (sum {BY_MAILBOX} (worker_stream:supplierd_worker_frames_promised:rate1m{{{BOTH}}}) > 0)",
        "Budget": per_mailbox(f"sum by (instance, worker, class) (supplierd_worker_drop_budget_ratio{{{WORKER}}})"),
        "Over budget": f"sum {BY_MAILBOX} (worker_stream:supplierd_worker_frames_dropped:rate1m{{{BOTH}}})"
        f" / (sum {BY_MAILBOX} (worker_stream:supplierd_worker_frames_promised:rate1m{{{BOTH}}}) > 0)"
        " > bool on (instance, worker, class) group_left () "
        f"sum by (instance, worker, class) (supplierd_worker_drop_budget_ratio{{{WORKER}}})",
    }
    labels = ["worker", "class", "stream"]
    fields = [f"Value #{chr(ord('A') + number)}" for number in range(len(columns))]
    order = {name: place for place, name in enumerate([*labels, *fields, "instance"])}
    renames = dict(
        zip([*labels, *fields, "instance"], ["Worker", "Class", "Stream", *columns, "Instance"], strict=True)
    )
    states = {str(code): {"text": state, "color": color} for state, (code, color) in STATES.items()}
    colored = {"custom__cellOptions": {"type": "color-background", "mode": "basic"}, "custom__align": "center"}
    over = {"0": {"text": "no", "color": "transparent"}, "1": {"text": "over", "color": RED}}
    return panel(
        "table", "Workers",
        "Each worker and stream, over the last minute. Dropped: of the frames promised; beyond target_fps frames are "
        "left out by contract and do not count.",
        (24, 9), [query(each, instant=True, range=False, format="table") for each in columns.values()],
        transformations=[
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {
                "excludeByName": {"Time": True}, "indexByName": order, "renameByName": renames, "includeByName": {}}},
        ],
        fieldConfig={
            "defaults": {"custom": {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False}},
            "overrides": [
                override("State", mappings=[{"type": "value", "options": states}], custom__width=90, **colored),
                override("Age.*", unit="s", decimals=1, custom__width=95),
                override("Taken|Promised", unit="fps", decimals=1, custom__width=100),
                override("Dropped|Budget", unit="percentunit", decimals=1, custom__width=95),
                override("Worker", custom__width=170),
                override("Class|Stream", custom__width=110),
                override("Over budget", mappings=[{"type": "value", "options": over}], custom__width=105, **colored),
            ],
        },
        options={"showHeader": True, "cellHeight": "sm", "frameIndex": 0,
                 "sortBy": [{"displayName": "State", "desc": True}]},
    )  # fmt: skip


def charts() -> list[Any]:
    """Since when, and why?"""
    interval = "[$__rate_interval]"
    ages = f"rate(supplierd_worker_frame_age_seconds_bucket{{{BOTH}}}{interval})"
    age = f"histogram_quantile(%s, sum by (le, worker) ({ages}))"
    rate = f"sum by (%s) (rate(supplierd_%s{{%s}}{interval}))"
    dropped = rate % ("worker", "worker_frames_dropped_total", f'{BOTH},reason!="left"')
    promised = (
        f"({rate % ('worker', 'worker_frames_offered_total', BOTH)}"
        f" - {rate % ('worker', 'worker_frames_decimated_total', BOTH)})"
    )
    stacked = {"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 60, "lineWidth": 1}
    steady = {**stacked, "lineInterpolation": "stepAfter"}
    sends = f"rate(supplierd_distribution_seconds_bucket{{{DAEMON}}}{interval})"
    distribution = f"histogram_quantile(%s, sum by (le) ({sends}))"
    return [
        chart("Frame age when taken", "Since capture. Solid: p99, dashed: p95, dotted: p50.",
              [query(age % "0.99", "{{worker}}"), query(age % "0.95", "{{worker}} p95"),
               query(age % "0.50", "{{worker}} p50")], "s", overrides=[thin(".* p95", 6, 6), thin(".* p50", 1, 4)]),
        chart("Frames taken against promised", "Dashed: what the worker's target_fps, or its stream, promises.",
              [query(rate % ("worker", "worker_frames_consumed_total", BOTH), "{{worker}}"),
               query(promised, "{{worker}} promised")], "fps", overrides=[thin(".* promised", 6, 6)]),
        chart("Drop ratio against budget", "Dropped of promised. Dashed: what the worker's class tolerates.",
              [query(f"{dropped} / ({promised} > 0)", "{{worker}}"),
               query(f"max by (worker) (supplierd_worker_drop_budget_ratio{{{WORKER}}})", "{{worker}} budget")],
              "percentunit", max=1, overrides=[thin(".* budget", 6, 6)]),
        chart("Drops by reason", "Where frames are lost: before the daemon (inbox) or in a worker's mailbox.",
              [query(rate % ("reason", "worker_frames_dropped_total", BOTH) + " > 0", "{{reason}}"),
               query(rate % ("reason", "stream_frames_dropped_total", STREAM), "inbox {{reason}}")],
              "fps", style=stacked),
        chart("Workers by state", "Idle: frames wait and it takes none. Starved: its streams are silent.",
              [query(f'sum(supplierd_worker_state{{{WORKER},state="{state}"}})', state) for state in reversed(STATES)],
              "short", style=steady, decimals=0,
              overrides=[override(state, color={"mode": "fixed", "fixedColor": color})
                         for state, (_, color) in STATES.items()]),
        chart("Streams", "Frames that arrive.",
              [query(rate % ("stream", "stream_frames_received_total", STREAM), "{{stream}}")], "fps"),
        chart("Shared memory", "Taken by each stream's arena.",
              [query(f"sum by (stream) (supplierd_arena_bytes{{{STREAM}}})", "{{stream}}")], "bytes"),
        chart("Arena slots", "Leased: frames that workers look at, and each stream's newest. Dashed: all slots.",
              [query(f'sum by (stream) (supplierd_arena_slots{{{STREAM},state="leased"}})', "{{stream}}"),
               query(f"sum by (stream) (supplierd_arena_slots{{{STREAM}}})", "{{stream}} all")], "short",
              decimals=0, overrides=[thin(".* all", 6, 6)]),
        chart("Distribution", "From a frame's arrival to its last send.",
              [query(distribution % quantile, f"p{quantile[2:]}") for quantile in ("0.50", "0.99")], "s"),
    ]  # fmt: skip


def variables() -> list[dict[str, Any]]:
    """Data source, instance, stream, worker: each narrows the next."""
    found = [
        {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "refresh": 1,
         "includeAll": False, "multi": False, "hide": 0, "current": {"text": "supplierd", "value": "supplierd"}},
    ]  # fmt: skip
    for name, metric in {
        "instance": 'up{job="supplierd"}',
        "stream": f"supplierd_stream_frames_received_total{{{DAEMON}}}",
        "worker": f"supplierd_worker_connected{{{DAEMON}}}",
    }.items():
        found.append(
            {"type": "query", "name": name, "label": name.capitalize(), "query": f"label_values({metric}, {name})",
             "datasource": SOURCE, "refresh": 2, "sort": 1, "includeAll": True, "multi": True, "allValue": ".*",
             "hide": 0, "current": {"text": ["All"], "value": ["$__all"]}}
        )  # fmt: skip
    return found


def placed(panels: list[Any]) -> list[Any]:
    """The panels from left to right, in lines of 24 columns."""
    x = y = height = 0
    for number, each in enumerate(panels, start=1):
        place = each["gridPos"]
        if x + place["w"] > 24:
            x, y = 0, y + height
        place["x"], place["y"], height = x, y, place["h"]
        x += place["w"]
        each["id"] = number
    return panels


def dashboard() -> dict[str, Any]:
    """The whole dashboard."""
    return {
        "uid": "supplierd",
        "title": "supplierd",
        "description": "Which worker takes its frames, how old they are, and why it missed the others.",
        "tags": ["supplierd"],
        "editable": True,
        "graphTooltip": 1,
        "schemaVersion": 41,
        "timezone": "browser",
        "refresh": "5s",
        "time": {"from": "now-15m", "to": "now"},
        "annotations": {"list": []},
        "templating": {"list": variables()},
        "panels": placed([*now_row(), workers_table(), *charts()]),
    }


def main() -> None:
    """Write the file."""
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    output.write_text(json.dumps(dashboard(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

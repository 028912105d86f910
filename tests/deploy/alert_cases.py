"""What happens to a healthy system, and which alerts that must and must not raise, for promtool to try.

The healthy one: camera cam-1 at 30 frames a second, a critical detector that is promised 10 of them and takes them, and
a researcher, best effort, that takes one in fifty. A case changes some series; every alert that it does not name must
stay silent. Values are promtool's: `0+150x120` is a counter that grows by 150 with each of 120 samples, 5 s apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

SAMPLES = 120
_DETECTOR = 'worker="detector",class="critical"'
_RESEARCH = 'worker="research",class="best_effort"'
_STREAM = 'stream="cam-1"'


def _steady(by: int) -> str:
    return f"0+{by}x{SAMPLES}"


def _always(value: int) -> str:
    return f"{value}x{SAMPLES}"


def _from_a_minute(before: str, after: str) -> str:
    """Twelve samples of the one, the rest of the other."""
    return f"{before}x12 {after}x{SAMPLES - 12}"


HEALTHY: Mapping[str, str] = {
    'up{job="supplierd"}': _always(1),
    f"supplierd_stream_frames_received_total{{{_STREAM}}}": _steady(150),
    f'supplierd_stream_frames_dropped_total{{{_STREAM},reason="overwritten"}}': _always(0),
    f"supplierd_stream_silent{{{_STREAM}}}": _always(0),
    f"supplierd_worker_connected{{{_DETECTOR}}}": _always(1),
    f"supplierd_worker_expected{{{_DETECTOR}}}": _always(1),
    f"supplierd_worker_idle{{{_DETECTOR}}}": _always(0),
    f"supplierd_worker_target_fps{{{_DETECTOR}}}": _always(10),
    f"supplierd_worker_drop_budget_ratio{{{_DETECTOR}}}": _always(0),
    f"supplierd_worker_frames_offered_total{{{_DETECTOR},{_STREAM}}}": _steady(150),
    f"supplierd_worker_frames_consumed_total{{{_DETECTOR},{_STREAM}}}": _steady(50),
    f"supplierd_worker_frames_decimated_total{{{_DETECTOR},{_STREAM}}}": _steady(100),
    f'supplierd_worker_frames_dropped_total{{{_DETECTOR},{_STREAM},reason="overwritten"}}': _always(0),
    f'supplierd_worker_frames_dropped_total{{{_DETECTOR},{_STREAM},reason="left"}}': _always(0),
    f"supplierd_worker_frames_pending{{{_DETECTOR},{_STREAM}}}": _always(0),
    f"supplierd_worker_frames_in_flight{{{_DETECTOR},{_STREAM}}}": _always(0),
    f"supplierd_worker_connected{{{_RESEARCH}}}": _always(1),
    f"supplierd_worker_idle{{{_RESEARCH}}}": _always(0),
    f"supplierd_worker_drop_budget_ratio{{{_RESEARCH}}}": _always(1),
    f"supplierd_worker_frames_offered_total{{{_RESEARCH},{_STREAM}}}": _steady(150),
    f"supplierd_worker_frames_consumed_total{{{_RESEARCH},{_STREAM}}}": _steady(3),
    f"supplierd_worker_frames_decimated_total{{{_RESEARCH},{_STREAM}}}": _always(0),
    f'supplierd_worker_frames_dropped_total{{{_RESEARCH},{_STREAM},reason="overwritten"}}': _steady(147),
    'supplierd_distribution_seconds_bucket{le="0.001"}': _steady(150),
    'supplierd_distribution_seconds_bucket{le="0.05"}': _steady(150),
    'supplierd_distribution_seconds_bucket{le="+Inf"}': _steady(150),
    f'supplierd_frames_inline_total{{{_STREAM},reason="small"}}': _steady(150),
}


@dataclass(frozen=True)
class Case:
    """One thing that happens.

    Attributes:
        what: in words.
        changes: series and their values, instead of the healthy ones.
        at: when to look, as promtool writes times.
        fires: each alert that must fire, with the labels that it must have beyond its rule's and the daemon's, and its
            summary.
    """

    what: str
    changes: Mapping[str, str] = field(default_factory=dict)
    at: str = "5m"
    fires: Mapping[str, tuple[Mapping[str, str], str]] = field(default_factory=dict)


_ON_DETECTOR = {"worker": "detector", "class": "critical"}
_ON_STREAM = {"stream": "cam-1"}

CASES = [
    Case("all is well"),
    Case(
        "the daemon does not answer",
        {name: values.replace(f"x{SAMPLES}", "x12 stale") for name, values in HEALTHY.items()}
        | {'up{job="supplierd"}': _from_a_minute("1", "0")},
        fires={"SupplierdDown": ({}, "supplierd on nuc does not answer")},
    ),
    Case("the daemon restarts within a few seconds", {'up{job="supplierd"}': "1x20 0x1 1x99"}, at="1m50s"),
    Case(
        "the camera fails: the workers starve, and nobody blames them",
        {
            f"supplierd_stream_frames_received_total{{{_STREAM}}}": "0+150x12 1800x108",
            f"supplierd_stream_silent{{{_STREAM}}}": _from_a_minute("0", "1"),
            f"supplierd_worker_frames_offered_total{{{_DETECTOR},{_STREAM}}}": "0+150x12 1800x108",
            f"supplierd_worker_frames_consumed_total{{{_DETECTOR},{_STREAM}}}": "0+50x12 600x108",
            f"supplierd_worker_frames_decimated_total{{{_DETECTOR},{_STREAM}}}": "0+100x12 1200x108",
        },
        fires={"SupplierdStreamSilent": (_ON_STREAM, "stream cam-1 has no frames")},
    ),
    Case(
        "the camera fails just after a drop, and the worker did not take the last frame",
        {
            f"supplierd_stream_silent{{{_STREAM}}}": _from_a_minute("0", "1"),
            f'supplierd_worker_frames_dropped_total{{{_DETECTOR},{_STREAM},reason="overwritten"}}': "0x12 1x108",
            f"supplierd_worker_frames_offered_total{{{_DETECTOR},{_STREAM}}}": "0+150x12 1802x108",
            f"supplierd_worker_frames_consumed_total{{{_DETECTOR},{_STREAM}}}": "0+50x12 600x108",
            f"supplierd_worker_frames_decimated_total{{{_DETECTOR},{_STREAM}}}": "0+100x12 1200x108",
            f"supplierd_worker_frames_pending{{{_DETECTOR},{_STREAM}}}": "0x12 1x108",
            f"supplierd_worker_idle{{{_DETECTOR}}}": "0x12 1x108",
        },
        at="1m30s",
        fires={"SupplierdStreamSilent": (_ON_STREAM, "stream cam-1 has no frames")},
    ),
    Case(
        "a camera that was declared never came",
        {
            'supplierd_stream_frames_received_total{stream="cam-2"}': _always(0),
            'supplierd_stream_silent{stream="cam-2"}': _always(1),
        },
        fires={"SupplierdStreamSilent": ({"stream": "cam-2"}, "stream cam-2 has no frames")},
    ),
    Case(
        "a critical worker is gone",
        {f"supplierd_worker_connected{{{_DETECTOR}}}": _from_a_minute("1", "0")},
        fires={"SupplierdCriticalWorkerMissing": (_ON_DETECTOR, "critical worker detector is missing")},
    ),
    Case(
        "a critical worker that nobody declared has taken its leave",
        {
            f"supplierd_worker_connected{{{_DETECTOR}}}": _from_a_minute("1", "0"),
            f"supplierd_worker_expected{{{_DETECTOR}}}": _from_a_minute("1", "0"),
        },
    ),
    Case("a worker of another class is gone", {f"supplierd_worker_connected{{{_RESEARCH}}}": _always(0)}),
    Case(
        "a critical worker hangs",
        {f"supplierd_worker_idle{{{_DETECTOR}}}": _from_a_minute("0", "1")},
        fires={
            "SupplierdCriticalWorkerIdle": (
                _ON_DETECTOR,
                "critical worker detector is idle: frames wait, and it takes none",
            )
        },
    ),
    Case("a worker of another class hangs", {f"supplierd_worker_idle{{{_RESEARCH}}}": _always(1)}),
    Case(
        "a critical worker drops one frame in ten",
        {
            f"supplierd_worker_frames_consumed_total{{{_DETECTOR},{_STREAM}}}": _steady(45),
            f'supplierd_worker_frames_dropped_total{{{_DETECTOR},{_STREAM},reason="overwritten"}}': _steady(5),
        },
        fires={
            "SupplierdCriticalDropBudgetExceeded": (_ON_DETECTOR, "critical worker detector dropped 10% of its frames")
        },
    ),
    Case(
        "a critical worker leaves a frame behind when it takes its leave",
        {
            f"supplierd_worker_frames_offered_total{{{_DETECTOR},{_STREAM}}}": f"0+150x50 7501+150x{SAMPLES - 51}",
            f'supplierd_worker_frames_dropped_total{{{_DETECTOR},{_STREAM},reason="left"}}': f"0x50 1x{SAMPLES - 51}",
            f"supplierd_worker_frames_consumed_total{{{_DETECTOR},{_STREAM}}}": f"0+50x50 2500+50x{SAMPLES - 51}",
            f"supplierd_worker_frames_decimated_total{{{_DETECTOR},{_STREAM}}}": f"0+100x50 5000+100x{SAMPLES - 51}",
        },
        at="4m30s",
    ),
    Case(
        "a normal worker drops more than half",
        {
            'supplierd_worker_drop_budget_ratio{worker="flow",class="normal"}': f"0.5x{SAMPLES}",
            'supplierd_worker_frames_offered_total{worker="flow",class="normal",stream="cam-1"}': _steady(150),
            'supplierd_worker_frames_consumed_total{worker="flow",class="normal",stream="cam-1"}': _steady(60),
            'supplierd_worker_frames_decimated_total{worker="flow",class="normal",stream="cam-1"}': _always(0),
            'supplierd_worker_frames_dropped_total{worker="flow",class="normal",stream="cam-1",reason="overwritten"}': (
                _steady(90)
            ),
        },
        fires={
            "SupplierdDropBudgetExceeded": (
                {"worker": "flow", "class": "normal"},
                "normal worker flow drops 60% of frames",
            )
        },
    ),
    Case(
        "a normal worker drops less than half",
        {
            'supplierd_worker_drop_budget_ratio{worker="flow",class="normal"}': f"0.5x{SAMPLES}",
            'supplierd_worker_frames_offered_total{worker="flow",class="normal",stream="cam-1"}': _steady(150),
            'supplierd_worker_frames_decimated_total{worker="flow",class="normal",stream="cam-1"}': _always(0),
            'supplierd_worker_frames_dropped_total{worker="flow",class="normal",stream="cam-1",reason="overwritten"}': (
                _steady(60)
            ),
        },
    ),
    Case(
        "frames are lost before the daemon",
        {f'supplierd_stream_frames_dropped_total{{{_STREAM},reason="overwritten"}}': _steady(50)},
        fires={"SupplierdInboxDrops": (_ON_STREAM, "25% of the frames of cam-1 are lost before the daemon")},
    ),
    Case(
        "one frame in a minute is lost before the daemon",
        {f'supplierd_stream_frames_dropped_total{{{_STREAM},reason="overwritten"}}': "0x50 1x69"},
        at="4m30s",
    ),
    Case(
        "handing out takes longer than half of the 33 ms between two frames",
        {
            'supplierd_distribution_seconds_bucket{le="0.001"}': _always(0),
            'supplierd_distribution_seconds_bucket{le="0.05"}': _steady(150),
        },
        fires={
            "SupplierdDistributionSlow": (
                {},
                "handing out a frame takes 49.51ms, over half the time between two frames",
            )
        },
    ),
    Case(
        "a ledger does not add up",
        {f"supplierd_worker_frames_consumed_total{{{_DETECTOR},{_STREAM}}}": f"0+50x40 1999+50x{SAMPLES - 41}"},
        fires={
            "SupplierdLedgerBroken": (
                _ON_DETECTOR | _ON_STREAM,
                "the ledger of detector on cam-1 is out by 51 frames",
            )
        },
    ),
    Case(
        "every slot of the arena is held",
        {f'supplierd_frames_inline_total{{{_STREAM},reason="no_slot"}}': _steady(30)},
        fires={
            "SupplierdArenaExhausted": (
                _ON_STREAM | {"reason": "no_slot"},
                "frames of cam-1 find no shared memory (no_slot) and are copied instead",
            )
        },
    ),
    Case(
        "shared memory is off, or not for this publisher",
        {f'supplierd_frames_inline_total{{{_STREAM},reason="{reason}"}}': _steady(30) for reason in ("off", "remote")},
    ),
]

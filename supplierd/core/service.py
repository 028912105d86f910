"""What a worker is promised: its class, and the limits that follow from it.

The figures are the user's: a person detector for fall detection tolerates no drops, a research model any.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class ServiceClass(StrEnum):
    """A worker's criticality, most critical first; fan-out goes in this order."""

    CRITICAL = "critical"
    HIGH = "high"
    NORMAL = "normal"
    BEST_EFFORT = "best_effort"


PRIORITY: Final[Mapping[ServiceClass, int]] = {name: rank for rank, name in enumerate(ServiceClass)}

DEFAULT_DROP_BUDGET: Final[Mapping[ServiceClass, float]] = {
    ServiceClass.CRITICAL: 0.0,
    ServiceClass.HIGH: 0.10,
    ServiceClass.NORMAL: 0.50,
    ServiceClass.BEST_EFFORT: 1.0,
}
"""Tolerated share of dropped frames."""

DEFAULT_IDLE_AFTER: Final = 30.0
"""Seconds without taking a waiting frame after which a worker counts as idle."""


@dataclass(frozen=True, slots=True)
class WorkerPolicy:
    """What the configuration says of one worker, its class's defaults filled in.

    Attributes:
        service_class: its class.
        drop_budget: tolerated share of dropped frames, 0 to 1.
        idle_after: seconds.
        streams: the streams that it may have; ("*",) for any.
        target_fps: frames a second of each stream that it is promised; None: as many as it can take.
        configured: False for a worker that only its JOIN made known.
        push: it has no client and gets every frame on a socket of its own.
    """

    service_class: ServiceClass = ServiceClass.NORMAL
    drop_budget: float = 0.50
    idle_after: float = DEFAULT_IDLE_AFTER
    streams: tuple[str, ...] = ("*",)
    target_fps: float | None = None
    configured: bool = False
    push: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the supplier must know beforehand.

    Attributes:
        workers: policy by worker's name.
        streams: declared streams.
        unknown_worker: policy of workers that are not configured; None refuses them.
        accept_unknown_streams: whether a frame or a JOIN may name a stream that is not declared.
        max_workers, max_streams: limits on names known; those of workers that are gone make room, no stream's does.
        drop_window: seconds over which drop ratios are taken.
        stream_timeout: seconds without a frame after which a stream is silent and its waiting workers are starved.
    """

    workers: Mapping[str, WorkerPolicy] = field(default_factory=dict)
    streams: tuple[str, ...] = ()
    unknown_worker: WorkerPolicy | None = WorkerPolicy()
    accept_unknown_streams: bool = True
    max_workers: int = 128
    max_streams: int = 32
    drop_window: float = 30.0
    stream_timeout: float = 5.0

"""Which promises a snapshot shows broken: the question that a supervisor asks every few seconds."""

from typing import NamedTuple

from supplierd.core.service import ServiceClass
from supplierd.core.snapshot import Snapshot, WorkerSnapshot


class Violation(NamedTuple):
    """One broken promise.

    Attributes:
        service_class: of the worker.
        worker: its name.
        reason: "missing", "idle" or "over_budget".
        text: one sentence for people.
    """

    service_class: str
    worker: str
    reason: str
    text: str


def violations(snapshot: Snapshot) -> list[Violation]:
    """Critical workers that are missing or idle, and workers of any class whose drops exceed its budget."""
    found = []
    for worker in snapshot.workers:
        name, service_class = worker.name, worker.service_class
        critical = service_class == ServiceClass.CRITICAL.value
        if critical and worker.state == "gone" and worker.expected:
            found.append(Violation(service_class, name, "missing", f"{service_class} worker {name} is missing"))
        if critical and worker.state == "idle":
            text = f"{service_class} worker {name} is idle: frames wait and it took none for {worker.idle_after:g} s"
            found.append(Violation(service_class, name, "idle", text))
        text = _over_budget(worker, snapshot.drop_window)
        if text:
            found.append(Violation(service_class, name, "over_budget", text))
    return found


def _over_budget(worker: WorkerSnapshot, window: float) -> str:
    ratio = worker.drop_ratio
    if ratio is None or ratio <= worker.drop_budget:
        return ""
    promised = sum(m.window_promised for m in worker.mailboxes)
    return (
        f"{worker.service_class} worker {worker.name} dropped {ratio:.1%} of {promised} frames "
        f"in the last {window:g} s, its budget is {worker.drop_budget:.0%}"
    )

"""What the log says of workers and streams: their changes, each as one line.

The conditions of now are compared with those of the last look. Counts never come here one by one: a worker that drops
frames is a line when it exceeds its budget, and another when it keeps to it again. Only names that the supplier knows
are remembered, so that memory follows its limits.
"""

import logging
from typing import Final

from supplierd.core.supplier import Supplier
from supplierd.core.worker import State, Worker
from supplierd.logs import event

KEPT_AGAIN: Final = 0.9
"""Share of its budget at which a worker keeps to it again: one that stands just at it is not a line for each look."""

log = logging.getLogger("supplierd.distribution")


class Changes:
    """Logs what has changed since the last look.

    Args:
        supplier: whose workers and streams are looked at; nothing of it is changed.
    """

    def __init__(self, supplier: Supplier) -> None:
        self._supplier = supplier
        self._workers: dict[str, str] = {}  # conditions by name
        self._over_budget: set[str] = set()
        self._streams: dict[str, tuple[int, bool]] = {}  # epoch, and whether silent, by name

    def log(self, now: float) -> None:
        """Look, and log. `now`: seconds, monotonic."""
        workers = self._supplier.workers
        for worker in workers.values():
            self._look_at(worker)
        if len(self._workers) > len(workers):
            self._workers = {name: condition for name, condition in self._workers.items() if name in workers}
            self._over_budget &= workers.keys()
        self._look_at_streams(now)

    def _look_at(self, worker: Worker) -> None:
        quiet = worker.state in (State.WAITING, State.BUSY)
        condition = "active" if quiet else worker.state.value
        before = self._workers.get(worker.name, State.GONE.value)
        self._workers[worker.name] = condition
        if condition != before and not (condition == State.GONE.value and not worker.following):
            level = logging.INFO if quiet else logging.WARNING
            event(log, level, f"worker {condition}", worker=worker.name, before=before)
        if not worker.connected:
            return  # it misses everything, which was said
        promised, dropped = worker.windowed()
        was_over = worker.name in self._over_budget
        over = dropped > promised * worker.policy.drop_budget * (KEPT_AGAIN if was_over else 1.0)
        if over != was_over:
            (self._over_budget.add if over else self._over_budget.discard)(worker.name)
            event(
                log,
                logging.WARNING if over else logging.INFO,
                "worker drops more than its budget" if over else "worker keeps to its drop budget again",
                worker=worker.name,
                service_class=worker.policy.service_class.value,
                dropped=dropped,
                promised=promised,
                window=f"{self._supplier.settings.drop_window:g}s",
                budget=f"{worker.policy.drop_budget:.0%}",
            )

    def _look_at_streams(self, now: float) -> None:
        for stream in self._supplier.streams.values():
            last = stream.last_frame_at
            silent = last is not None and now - last >= self._supplier.settings.stream_timeout
            epoch, was_silent = self._streams.get(stream.name, (0, False))
            self._streams[stream.name] = stream.epoch, silent
            if stream.epoch != epoch:
                event(log, logging.INFO, "stream has a new publisher", stream=stream.name, epoch=stream.epoch)
            if silent != was_silent:
                condition = "silent" if silent else "live"
                level = logging.WARNING if silent else logging.INFO
                event(log, level, f"stream {condition}", stream=stream.name, last_seq=stream.last_seq)

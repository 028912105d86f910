"""The supplier said again, in the simplest words: every frame offered to a worker has exactly one fate.

The model keeps each offer and its fate (records.py), and recounts; it has no counters, no clockwork and no lists of
followers. Where a promised rate leaves open which frame goes out, it looks what the supplier did and checks that this
was allowed. Every method that stands for an event of the supplier takes what the supplier answered.
"""

from collections import Counter
from collections.abc import Iterable

from supplierd.core.ledger import REPORTED_REASONS
from supplierd.core.mailbox import Report
from supplierd.core.service import Settings
from supplierd.core.stream import Frame
from supplierd.core.supplier import FOLLOW_GRACE, SETTLE_GRACE, Delivery, Reply, Supplier
from supplierd.core.worker import REPLACED_INSTANCES, JoinRequest, State
from tests.core.records import NEVER, Box, ModelStream, ModelWorker

LATE = 2.5
"""Promised periods after which a waiting worker must have been given what is pending: one period, half an interval of
tolerance, one interval of waiting for a better frame; no interval counts for more than a period."""


class Model:
    """All of it."""

    def __init__(self, settings: Settings, boot: bytes, started: int) -> None:
        self.settings, self.boot, self.started = settings, boot, started
        self.workers = {name: ModelWorker(name, policy) for name, policy in settings.workers.items()}
        self.streams: dict[str, ModelStream] = {}
        self.rejected: Counter[str] = Counter()
        for name in settings.streams:
            self.open_stream(name)

    # --- frames -----------------------------------------------------------------------------------------------------

    def frame(self, frame: Frame, refused: str | None, now: float) -> list[ModelWorker]:
        """A frame came, and was refused by the supplier or not; the workers that must be given it at once."""
        if frame.stream not in self.streams:
            if len(self.streams) >= self.settings.max_streams:
                assert refused == "too_many_streams"
                self.rejected[refused] += 1
                return []
            self.open_stream(frame.stream)
        stream = self.streams[frame.stream]
        assert refused == stream.refusal(frame)
        born_here = frame.boot == self.boot and frame.epoch >= self.started
        from_first = refused is None and (born_here or frame.unsent >= frame.seq - 1)
        stream.arrived(frame, refused, 0 if from_first else frame.seq - 1)
        if refused is not None:
            self.rejected[refused] += 1
            return []
        due = []
        for worker in self.workers.values():
            box = worker.boxes.get(frame.stream)
            if box is None or not box.followed:
                continue
            if not worker.connected:
                box.miss(frame, now)
                continue
            box.offer(frame, now)
            if worker.open and box.surely_due(worker.fps):
                due.append(worker)
        return due

    def delivered(self, deliveries: Iterable[Delivery], now: float) -> None:
        """The supplier moved these under way."""
        for core_worker, mailbox in deliveries:
            worker = self.workers[core_worker.name]
            assert worker.connected
            assert worker.open
            box = worker.boxes[mailbox.stream.name]
            box.take(now)
            if worker.fps is not None:  # never more than the promise; the first may be half a period early
                assert box.turns <= (now - box.first_at) * worker.fps + 1.5 + 1e-6
            worker.open, worker.last_taken = False, now
            assert mailbox.in_flight is self.streams[mailbox.stream.name].newest

    def put_back(self, worker: ModelWorker) -> None:
        box = worker.under_way()
        assert box is not None
        box.put_back()
        worker.open = True

    def unreadable(self, worker: ModelWorker) -> None:
        box = worker.under_way()
        assert box is not None
        served_at = box.served_at
        box.end("in_flight", "unreadable")
        box.served_at = served_at  # it has had its turn; where the worker says so, it begins anew
        worker.open = True

    def pushed(self, worker: ModelWorker) -> None:
        box = worker.under_way()
        assert box is not None
        box.end("in_flight", "consumed")
        worker.open = True

    # --- sessions ---------------------------------------------------------------------------------------------------

    def refuses(self, request: JoinRequest) -> str | None:
        """Why a JOIN must be refused."""
        worker = self.workers.get(request.worker)
        policy = worker.policy if worker else self.settings.unknown_worker
        assert policy is not None
        if worker is not None and request.instance in worker.replaced[-REPLACED_INSTANCES:]:
            return "taken_over"
        wanted = set(request.streams) - {"*"} if "*" not in request.streams else set()
        if "*" not in policy.streams:
            if not wanted <= set(policy.streams):
                return "stream_not_allowed"
            wanted = set(policy.streams) if "*" in request.streams else wanted
        if len(self.streams | dict.fromkeys(wanted)) > self.settings.max_streams and not wanted <= set(self.streams):
            return "too_many_streams"
        if worker is None and len(self.workers) >= self.settings.max_workers and not self.forgettable():
            return "too_many_workers"
        return None

    def forgettable(self) -> list[ModelWorker]:
        return [w for w in self.workers.values() if not (w.connected or w.following or w.policy.configured)]

    def forget(self, name: str) -> None:
        """The supplier made room by forgetting this worker."""
        forgettable = self.forgettable()
        worker = self.workers.pop(name)
        assert len(self.workers) + 1 >= self.settings.max_workers
        assert worker in forgettable
        assert worker.departed_at == min(w.departed_at for w in forgettable)

    def join(self, request: JoinRequest, session: int, report: Report | None, now: float) -> None:
        policy = self.settings.unknown_worker
        assert policy is not None
        worker = self.workers.setdefault(request.worker, ModelWorker(request.worker, policy))
        same = worker.instance == request.instance
        self.settle(worker, report if same else None, "lost" if same else "disconnected")
        if not same and worker.instance:
            worker.replaced.append(worker.instance)
        for name, box in worker.boxes.items():
            if not same:
                box.had, box.served_at = None, NEVER
            elif report is not None and report.outcome == "consumed" and report.stream == name:
                box.had = self.find(report)
        worker.session, worker.instance, worker.number = session, request.instance, 0
        worker.fps = worker.policy.target_fps or request.target_fps
        everything = "*" in request.streams
        worker.any_stream = everything and "*" in worker.policy.streams
        if worker.any_stream:
            names = set(self.streams)
        else:
            names = set(worker.policy.streams if everything else request.streams)
        self.enter(worker, names, now)
        worker.open = False

    def open_push(self, worker: ModelWorker, now: float) -> None:
        worker.any_stream = "*" in worker.policy.streams
        for box in worker.boxes.values():
            box.had, box.served_at = None, NEVER
        worker.fps = worker.policy.target_fps
        self.enter(worker, set(self.streams if worker.any_stream else worker.policy.streams), now)
        worker.open = True

    def enter(self, worker: ModelWorker, names: set[str], now: float) -> None:
        for box in worker.boxes.values():
            box.followed = False
        worker.connected = worker.following = True
        worker.last_taken = now
        for name in names:
            if name not in self.streams:
                self.open_stream(name)
            box = worker.boxes.setdefault(name, Box())
            box.followed = True
            box.promise()
            newest = self.streams[name].newest
            if newest is not None and box.only("pending") is None and box.had != newest:
                box.offer(newest, now, greeting=True)
        for box in worker.boxes.values():
            if not box.followed:
                box.end("pending", "left")

    def open_stream(self, name: str) -> None:
        self.streams[name] = ModelStream()
        for worker in self.workers.values():
            if worker.following and worker.any_stream:
                worker.boxes.setdefault(name, Box()).followed = True

    def depart(self, worker: ModelWorker, now: float) -> None:
        worker.connected = worker.open = False
        worker.session, worker.departed_at = 0, now

    def leave(self, worker: ModelWorker, report: Report | None, now: float) -> None:
        self.settle(worker, report, "left")
        self.depart(worker, now)
        self.unfollow(worker, "left")

    def unfollow(self, worker: ModelWorker, reason: str) -> None:
        worker.following = False
        for box in worker.boxes.values():
            box.followed = False
            box.end("pending", reason)

    def settle(self, worker: ModelWorker, report: Report | None, otherwise: str) -> None:
        box = worker.under_way()
        if box is None:
            return
        offer = box.only("in_flight")
        assert offer is not None
        frame = offer.frame
        if report is None or (report.stream, report.epoch, report.seq) != (frame.stream, frame.epoch, frame.seq):
            box.end("in_flight", otherwise)
        elif offer.greeting and report.outcome == "expired":
            box.end("in_flight", "spared")
        else:
            box.end("in_flight", report.outcome if report.outcome in ("consumed", *REPORTED_REASONS) else "unreadable")

    def find(self, report: Report) -> Frame | None:
        """The frame that a report names, as far as it matters: the newest of its stream, or none of interest."""
        newest = self.streams[report.stream].newest
        same = newest is not None and (newest.epoch, newest.seq) == (report.epoch, report.seq)
        return newest if same else None

    # --- demands and time -------------------------------------------------------------------------------------------

    def demand(
        self, worker: ModelWorker | None, number: int, report: Report | None, answer: Delivery | Reply, now: float
    ) -> None:
        if worker is None:
            assert answer is Reply.REJOIN
        elif number < worker.number:
            assert answer is Reply.NOTHING
        elif number == worker.number:
            assert answer is (Reply.WAIT if worker.open else Reply.UNDER_WAY)
        else:
            self.settle(worker, report, "lost")
            worker.number, worker.open = number, True
            if isinstance(answer, Delivery):
                self.fair(worker, worker.boxes[answer.mailbox.stream.name])
                self.delivered([answer], now)
            else:
                assert answer is Reply.NOTHING
                self.must_wait(worker, now)

    def recheck(self, worker: ModelWorker | None, number: int, answer: Delivery | Reply, now: float) -> None:
        box = worker.under_way() if worker else None
        if worker is None:
            assert answer is Reply.REJOIN
        elif number != worker.number or box is None:
            assert answer is Reply.NOTHING
        elif box.only("pending") is None:
            assert answer is Reply.NEWEST
        else:
            assert isinstance(answer, Delivery)
            box.end("in_flight", "stale")
            worker.open = True
            box.turns -= 1  # it takes the stale one's turn
            self.delivered([answer], now)

    def tick(self, deliveries: list[Delivery], now: float) -> None:
        self.delivered(deliveries, now)
        for worker in self.workers.values():
            if worker.open:
                self.must_wait(worker, now)
            gone_for = now - worker.departed_at
            if not worker.connected and gone_for >= SETTLE_GRACE:
                self.settle(worker, None, "disconnected")
            if not worker.connected and not worker.policy.configured and gone_for >= FOLLOW_GRACE:
                self.unfollow(worker, "disconnected")

    def fair(self, worker: ModelWorker, chosen: Box) -> None:
        """Of the streams that are ready for sure, none was served longer ago than the chosen one."""
        for box in worker.boxes.values():
            if box.only("pending") and box.surely_due(worker.fps):
                assert chosen.served_at <= box.served_at

    def must_wait(self, worker: ModelWorker, now: float) -> None:
        """Nothing was sent to a worker that waits: nothing may be ready."""
        for box in worker.boxes.values():
            if box.only("pending"):
                assert worker.fps is not None
                assert not box.surely_due(worker.fps)
                assert now - box.taken_at <= LATE / worker.fps + 1e-9

    # --- comparison -------------------------------------------------------------------------------------------------

    def compare(self, core: Supplier) -> None:
        """The supplier's counts are the model's recount, and its frames are where they should be."""
        assert core.rejected == self.rejected
        assert core.workers.keys() == self.workers.keys()
        assert core.streams.keys() == self.streams.keys()
        for name, stream in self.streams.items():
            core_stream = core.streams[name]
            ledger = core_stream.ledger
            assert core_stream.newest is stream.newest
            assert ledger.published == sum(run.top - run.base for run in stream.runs.values())
            assert (ledger.received, ledger.dropped["old_epoch"]) == (stream.received, stream.late)
            assert ledger.balance == 0
        for worker in self.workers.values():
            self.compare_worker(worker, core)

    def compare_worker(self, worker: ModelWorker, core: Supplier) -> None:
        core_worker = core.workers[worker.name]
        assert (core_worker.connected, core_worker.following) == (worker.connected, worker.following)
        assert (core_worker.session, core_worker.open_demand) == (worker.session, worker.open)
        assert (core_worker.state in (State.WAITING, State.STARVED)) == worker.open
        assert core_worker.mailboxes.keys() == worker.boxes.keys()
        worker.under_way()
        for name, box in worker.boxes.items():
            mailbox, fates = core_worker.mailboxes[name], Counter(offer.fate for offer in box.offers)
            ledger, pending, in_flight = mailbox.ledger, box.only("pending"), box.only("in_flight")
            assert ledger.balance == 0
            assert ledger.offered == len(box.offers)
            assert ledger.consumed == fates.pop("consumed", 0)
            assert ledger.decimated >= (spared := fates.pop("spared", 0))
            assert ledger.overwritten + ledger.decimated == fates.pop("replaced", 0) + spared
            assert ledger.pending == fates.pop("pending", 0)
            assert ledger.in_flight == fates.pop("in_flight", 0)
            assert ledger.discarded == fates
            assert mailbox.pending is (pending.frame if pending else None)
            assert mailbox.in_flight is (in_flight.frame if in_flight else None)
            assert pending is None or pending.frame is self.streams[name].newest

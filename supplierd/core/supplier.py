"""The supplier: who gets which frame. It decides and counts; whoever calls it does the sending, in the order given.

Everything here happens in one thread, in order of time. A method that returns deliveries has moved a frame of each
mailbox under way (`mailbox.in_flight`); the caller sends them, and reports with `undelivered` what could not be sent.
"""

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from enum import Enum, auto
from typing import Final, NamedTuple

from supplierd.core.histogram import DISTRIBUTION_BOUNDS, Histogram
from supplierd.core.ledger import REPORTED_REASONS
from supplierd.core.mailbox import Mailbox, Report
from supplierd.core.refusals import FrameRefusedError, RefusalError
from supplierd.core.service import PRIORITY, Settings, WorkerPolicy
from supplierd.core.stream import REFUSALS, Frame, Stream
from supplierd.core.worker import DEMAND, GONE, SERVE, WAITING, Event, JoinRequest, Worker

SETTLE_GRACE: Final = 10.0
"""Seconds for which the fate of a frame under way to a vanished worker stays open: it may return and report it."""
FOLLOW_GRACE: Final = 60.0
"""Seconds for which frames are still offered to a vanished worker; one that is configured has them until it returns."""


class Reply(Enum):
    """What to tell a worker that does not get a frame now."""

    NOTHING = auto()
    WAIT = auto()  # the daemon lives, and there is no frame for you yet
    UNDER_WAY = auto()  # your frame was sent
    NEWEST = auto()  # the frame you have is the newest
    REJOIN = auto()  # this session does not exist


NOTHING: Final = Reply.NOTHING


class Delivery(NamedTuple):
    """A worker, and its mailbox whose frame under way is to be sent to it."""

    worker: Worker
    mailbox: Mailbox


class Supplier:
    """All streams, workers and mailboxes of one daemon.

    Args:
        settings: classes, workers, streams and limits.
        boot: boot id of this machine.
        started: CLOCK_MONOTONIC of the daemon's start, ns.
    """

    def __init__(self, settings: Settings, boot: bytes, started: int) -> None:
        self.settings = settings
        self.streams: dict[str, Stream] = {name: Stream(name) for name in settings.streams}
        self.workers: dict[str, Worker] = {name: Worker(name, p) for name, p in settings.workers.items()}
        self.rejected: Counter[str] = Counter()
        self.distribution = Histogram(DISTRIBUTION_BOUNDS)
        self._followers: dict[str, list[Delivery]] = {name: [] for name in self.streams}  # most critical first
        self._sessions: dict[int, Worker] = {}
        self._boot, self._started = boot, started
        self._sampled_at = float("-inf")

    # --- frames -----------------------------------------------------------------------------------------------------

    def frame(self, frame: Frame, now: float) -> list[Delivery]:
        """A frame arrived: offer it to every follower of its stream, and say who gets it at once, most critical first.

        Raises:
            FrameRefusedError: nobody gets it; it was counted in `rejected`.
        """
        stream = self.streams.get(frame.stream)
        if stream is None:
            self.check_stream(frame.stream)
            stream = self._open_stream(frame.stream, now)
        refused = stream.accept(frame, now, frame.boot == self._boot and frame.epoch >= self._started)
        if refused is not None:
            self.rejected[refused] += 1
            raise FrameRefusedError(refused, f"frame {frame.seq} of {stream.name}: {REFUSALS[refused]}")
        served = []
        for follower in self._followers[frame.stream]:
            worker, mailbox = follower
            if worker.state is GONE:
                mailbox.miss(frame, now)
                continue
            mailbox.offer(frame, now)
            if worker.open_demand and mailbox.owed:
                self._take(worker, mailbox, now)
                served.append(follower)
            elif worker.begins(now):
                mailbox.owed = False
        return served

    def check_stream(self, name: str) -> None:
        """Refuse frames of a stream that is not known yet, and cannot be, as `frame` does."""
        try:
            self._check_new_streams([name])
        except RefusalError as refusal:
            self.rejected[refusal.reason] += 1
            raise FrameRefusedError(refusal.reason, str(refusal)) from None

    def undelivered(self, delivery: Delivery) -> None:
        """The frame under way could not be handed to the transport: it is pending again, its demand open."""
        worker, mailbox = delivery
        mailbox.put_back()
        worker.on(Event.RETURN)
        worker.open_demand = True

    def unreadable(self, delivery: Delivery, now: float) -> Delivery | None:
        """The frame under way can never reach its worker: it is discarded, its demand open. What goes out now."""
        worker, mailbox = delivery
        served_at = mailbox.last_served_at
        mailbox.settle("unreadable")
        mailbox.last_served_at = served_at  # other streams have their turn
        worker.on(Event.RETURN)
        worker.open_demand = True
        return self._serve(worker, now)

    def pushed(self, delivery: Delivery, now: float) -> None:
        """A push worker's socket took its frame, which is all that can be known: it counts as consumed."""
        worker, mailbox = delivery
        mailbox.settle("consumed")
        mailbox.last_consumed_at = now
        worker.on(DEMAND)
        worker.open_demand, worker.asking_since = True, now

    # --- workers ----------------------------------------------------------------------------------------------------

    def join(self, request: JoinRequest, session: int, report: Report | None, now: float) -> Worker:
        """Open a session for a worker, in place of the one it has.

        Args:
            request: what the worker said.
            session: a new number that names the session.
            report: its word on the last frame of its former session.
            now: seconds, monotonic.

        Raises:
            RefusalError: it may not join; nothing was changed.
        """
        worker = self.workers.get(request.worker)
        policy = worker.policy if worker else self.settings.unknown_worker
        if policy is None:
            raise RefusalError(
                "unknown_worker",
                f"worker {request.worker!r} is not in the configuration, and unknown ones are not accepted: "
                f"add [workers.{request.worker}] or set daemon.accept_unknown_workers",
            )
        if policy.push:
            raise RefusalError("push_worker", f'worker {request.worker!r} has delivery = "push": it cannot join')
        if worker is not None and request.instance in worker.replaced:
            raise RefusalError("taken_over", f"worker {request.worker!r} was taken over: end this process")
        names = self._permitted_streams(request, policy)
        worker = worker or self._register(request.worker, policy)
        same_process = worker.instance == request.instance
        self._settle(worker, report if same_process else None, "lost" if same_process else "disconnected", now)
        self._sessions.pop(worker.session, None)
        if worker.instance and not same_process:
            worker.replaced.append(worker.instance)
        for mailbox in worker.mailboxes.values():
            if not same_process:
                mailbox.forget()
            elif report is not None and report.outcome == "consumed" and report.stream == mailbox.stream.name:
                mailbox.remember(report)
        worker.session, worker.instance, worker.attempt = session, request.instance, request.attempt
        worker.number, worker.open_demand = 0, False
        worker.client, worker.pid, worker.inline_reason = request.client, request.pid, request.inline_reason
        worker.leases = 0
        worker.target_fps = policy.target_fps or request.target_fps
        worker.any_stream = "*" in request.streams and "*" in policy.streams
        self._sessions[session] = worker
        self._enter(worker, names, now)
        return worker

    def open_push_worker(self, worker: Worker, now: float) -> None:
        """The peer of a push worker's socket appeared, a newcomer: from now on it gets every frame."""
        worker.any_stream = "*" in worker.policy.streams
        for mailbox in worker.mailboxes.values():
            mailbox.forget()
        names = self._expand(worker.policy.streams)
        for name in names:
            with suppress(RefusalError):  # beyond max_streams: nobody can publish it either
                self._open_stream(name, now)
        self._enter(worker, [name for name in names if name in self.streams], now)
        worker.on(DEMAND)
        worker.open_demand, worker.asking_since = True, now

    def session(self, session: int) -> Worker | None:
        """The worker that has this session."""
        return self._sessions.get(session)

    def demand(self, session: int, number: int, report: Report | None, now: float) -> Delivery | Reply:
        """A worker is ready for a frame: what is to be sent to it, or what to tell it."""
        worker = self._sessions.get(session)
        if worker is None:
            return Reply.REJOIN
        if number < worker.number:
            return Reply.NOTHING
        if number == worker.number:
            return Reply.WAIT if worker.open_demand else Reply.UNDER_WAY
        self._settle(worker, report, "lost", now)
        worker.number = number
        worker.on(DEMAND)
        worker.open_demand, worker.asking_since = True, now
        return self._serve(worker, now) or NOTHING

    def recheck(self, session: int, number: int, now: float) -> Delivery | Reply:
        """A worker suspects that the frame it got had waited in a socket: a newer one replaces it, if there is one."""
        worker = self._sessions.get(session)
        if worker is None:
            return Reply.REJOIN
        mailbox = worker.in_flight()
        if number != worker.number or mailbox is None:
            return Reply.NOTHING
        if mailbox.pending is None:
            return Reply.NEWEST
        mailbox.settle("stale")
        worker.on(DEMAND)
        self._take(worker, mailbox, now)
        return Delivery(worker, mailbox)

    def leave(self, session: int, report: Report | None, now: float) -> Worker | None:
        """A worker takes its leave: its ledger closes, and no frames are offered to it until it joins again."""
        worker = self._sessions.get(session)
        if worker is not None:
            self._settle(worker, report, "left", now)
            self._depart(worker, now)
            self._unfollow(worker, "left")
        return worker

    def disconnected(self, worker: Worker, now: float) -> None:
        """A worker's connection is gone, without a leave."""
        self._depart(worker, now)

    # --- time -------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Delivery]:
        """Let time pass: mark who is idle or starved, close what stayed open too long, and say which pending frames
        have become due for workers that wait for them. Called some tens of times a second."""
        served = []
        for worker in self.workers.values():
            if worker.state is GONE:
                self._lapse(worker, now)
            elif worker.open_demand:
                delivery = self._serve(worker, now)
                if delivery is not None:
                    served.append(delivery)
                elif worker.state is WAITING and self._silent(worker, now):
                    worker.on(Event.DROUGHT)
            elif worker.overdue(now):
                worker.on(Event.OVERDUE)
        if now - self._sampled_at >= 1.0:
            self._sampled_at = now
            for worker in self.workers.values():
                for mailbox in worker.mailboxes.values():
                    mailbox.sample()
        return served

    # --- inside -----------------------------------------------------------------------------------------------------

    def _serve(self, worker: Worker, now: float) -> Delivery | None:
        mailbox = worker.best(now)
        if mailbox is None:
            return None
        self._take(worker, mailbox, now)
        return tuple.__new__(Delivery, (worker, mailbox))  # as Delivery(…), which is a function of Python's

    def _take(self, worker: Worker, mailbox: Mailbox, now: float) -> None:
        mailbox.take(now)
        worker.open_demand = False
        worker.last_taken_at = now
        worker.on(SERVE)

    def _settle(self, worker: Worker, report: Report | None, otherwise: str, now: float) -> None:
        """Close the account of the frame under way: by the worker's report, or as discarded for the reason given."""
        mailbox = worker.in_flight()
        if mailbox is None:
            return
        if report is None or report.stream != mailbox.stream.name or not mailbox.holds(report):
            mailbox.settle(otherwise)
            return
        if report.outcome == "consumed":
            mailbox.settle("consumed")
            mailbox.last_consumed_at = now - max(report.processing, 0.0)
            mailbox.age.observe(report.age)
            worker.processing.observe(report.processing)
        else:
            mailbox.settle(report.outcome if report.outcome in REPORTED_REASONS else "unreadable")

    def _depart(self, worker: Worker, now: float) -> None:
        for mailbox in worker.mailboxes.values():
            mailbox.keep()
        self._sessions.pop(worker.session, None)
        worker.session = worker.leases = 0
        worker.open_demand, worker.departed_at = False, now
        worker.on(Event.DEPART)

    def _lapse(self, worker: Worker, now: float) -> None:
        """A worker is gone: what of it has stayed open too long?"""
        if now - worker.departed_at >= SETTLE_GRACE:
            self._settle(worker, None, "disconnected", now)
        if worker.following and not worker.policy.configured and now - worker.departed_at >= FOLLOW_GRACE:
            self._unfollow(worker, "disconnected")

    def _enter(self, worker: Worker, names: Iterable[str], now: float) -> None:
        """Let a worker follow the streams named, beginning with the newest frame of each that it has not had."""
        worker.enter(now)
        self._unfollow(worker)
        worker.following = True
        worker.on(Event.JOIN)
        for name in names:
            self._attach(worker, self._open_stream(name, now), now)
        for mailbox in worker.mailboxes.values():
            if not mailbox.followed:
                mailbox.clear("left")

    def _attach(self, worker: Worker, stream: Stream, now: float) -> None:
        mailbox = worker.mailboxes.get(stream.name)
        if mailbox is None:
            mailbox = worker.mailboxes[stream.name] = Mailbox(stream, round(self.settings.drop_window))
        mailbox.followed = True
        mailbox.promise(worker.target_fps)
        mailbox.start(now, not worker.begins(now))
        followers = self._followers[stream.name]
        followers.append(Delivery(worker, mailbox))
        followers.sort(key=lambda f: (PRIORITY[f.worker.policy.service_class], f.worker.name))

    def _unfollow(self, worker: Worker, reason: str = "") -> None:
        worker.following = False
        for mailbox in worker.mailboxes.values():
            mailbox.followed = False
            if reason:
                mailbox.clear(reason)
        for followers in self._followers.values():
            followers[:] = [f for f in followers if f.worker is not worker]

    def _permitted_streams(self, request: JoinRequest, policy: WorkerPolicy) -> list[str]:
        """The streams that a JOIN leads to."""
        if "*" in policy.streams:
            wanted = self._expand(request.streams)
        else:
            wanted = list(policy.streams) if "*" in request.streams else list(dict.fromkeys(request.streams))
            outside = [name for name in wanted if name not in policy.streams]
            if outside:
                raise RefusalError(
                    "stream_not_allowed",
                    f"worker {request.worker!r} may have {', '.join(policy.streams)}, not {', '.join(outside)}: "
                    f"see [workers.{request.worker}] streams in the configuration",
                )
        self._check_new_streams([name for name in wanted if name not in self.streams])
        return wanted

    def _expand(self, names: tuple[str, ...]) -> list[str]:
        return list(self.streams) if "*" in names else list(dict.fromkeys(names))

    def _check_new_streams(self, new: list[str]) -> None:
        if new and not self.settings.accept_unknown_streams:
            raise RefusalError(
                "unknown_stream",
                f"stream {', '.join(new)} is not in the configuration, and unknown ones are not accepted: "
                f"add [streams.{new[0]}] or set daemon.accept_unknown_streams",
            )
        known, limit = len(self.streams), self.settings.max_streams
        if known + len(new) > limit:
            text = f"{known} streams exist and daemon.max_streams is {limit}: raise it; only a restart forgets streams"
            raise RefusalError("too_many_streams", text)

    def _open_stream(self, name: str, now: float) -> Stream:
        stream = self.streams.get(name)
        if stream is None:
            self._check_new_streams([name])
            stream = self.streams[name] = Stream(name)
            self._followers[name] = []
            for worker in self.workers.values():
                if worker.following and worker.any_stream:
                    self._attach(worker, stream, now)
        return stream

    def _register(self, name: str, policy: WorkerPolicy) -> Worker:
        known, limit = len(self.workers), self.settings.max_workers
        if known >= limit:
            forgettable = [w for w in self.workers.values() if not (w.connected or w.following or w.policy.configured)]
            if not forgettable:
                text = f"{known} workers are known and daemon.max_workers is {limit}: raise it, or end one"
                raise RefusalError("too_many_workers", text)
            del self.workers[min(forgettable, key=lambda w: w.departed_at).name]
        return self.workers.setdefault(name, Worker(name, policy))

    def _silent(self, worker: Worker, now: float) -> bool:
        """Whether a waiting worker has had no frame to wait for during stream_timeout."""
        limit = self.settings.stream_timeout
        return now - worker.asking_since >= limit and all(
            m.stream.last_frame_at is None or now - m.stream.last_frame_at >= limit
            for m in worker.mailboxes.values() if m.followed
        )  # fmt: skip

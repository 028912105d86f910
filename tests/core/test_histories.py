"""Random histories: publishers that restart and overlap, workers that come, ask, report, take over, vanish; and time.

The supplier and the model (model.py) live through the same history; after every step their counts are compared, and
what must never happen is looked for: a count that goes down, a ledger that does not add up, an older frame after a
newer one.
"""

import os
from collections.abc import Iterable

import msgpack
from hypothesis import HealthCheck, Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from supplierd.core.mailbox import Report
from supplierd.core.refusals import FrameRefusedError, RefusalError
from supplierd.core.service import PRIORITY, ServiceClass, Settings, WorkerPolicy
from supplierd.core.snapshot import Snapshot, take
from supplierd.core.stream import RETIRED_EPOCHS, Frame
from supplierd.core.supplier import Delivery, Supplier
from supplierd.core.worker import JoinRequest, State
from tests.core.builders import BOOT, OTHER_BOOT, STARTED, Camera
from tests.core.counters import counters
from tests.core.model import Model
from tests.core.records import Client, ModelWorker

STREAMS = ("cam-0", "cam-1", "cam-2", "cam-3")  # one more than fits
GUESTS = ("guest-a", "guest-b", "guest-c")
CONFIGURED = {
    "vip": WorkerPolicy(ServiceClass.CRITICAL, 0.0, idle_after=8.0, target_fps=4.0, configured=True),
    "high": WorkerPolicy(ServiceClass.HIGH, 0.1, idle_after=3.0, streams=("cam-0", "cam-1"), configured=True),
    "push": WorkerPolicy(configured=True, push=True, streams=("*",)),
    "paced-push": WorkerPolicy(configured=True, push=True, streams=("cam-0",), target_fps=2.0),
}
OUTCOMES = ("consumed", "consumed", "consumed", "stale", "expired", "closed", "unreadable", "stale_descriptor", "left")

streams = st.sampled_from(STREAMS[:2]) | st.sampled_from(STREAMS)
wishes = st.just(("*",)) | st.lists(streams, min_size=1, max_size=3).map(tuple)
steps = st.sampled_from([0.0, 0.01, 0.03, 0.05, 0.1, 0.3, 1.0, 2.0, 5.0, 11.0, 61.0])
failures = st.just(0) | st.just(0) | st.integers(0, 255)
"""A bit for each of the first four deliveries of a step: whether it cannot be sent; then one for each: never."""
traffics = st.just(0) | st.integers(0, 255)
"""What goes on besides, see Histories.traffic. It is in every rule, since Hypothesis leaves out some rules of each
history: they are the accidents, and this is the everyday life that they need to matter."""


class Histories(RuleBasedStateMachine):
    """Everything that can happen to a supplier."""

    @initialize(max_workers=st.sampled_from([5, 6, 100]), fps=st.sampled_from([None, None, 5.0]))
    def begin(self, max_workers: int, fps: float | None) -> None:
        chosen = Settings(
            CONFIGURED, STREAMS[:1], WorkerPolicy(idle_after=5.0, target_fps=fps), max_workers=max_workers,
            max_streams=3, drop_window=3.0, stream_timeout=4.0,
        )  # fmt: skip
        self.core = Supplier(chosen, BOOT, STARTED)
        self.model = Model(chosen, BOOT, STARTED)
        self.now = 0.0
        self.unique = 100
        self.cameras = [Camera("cam-0"), Camera("cam-1", STARTED - 1)]
        self.underway: list[Frame] = []  # frames that another one may overtake
        self.clients: list[Client] = []
        self.counted: dict[tuple[object, ...], float] = {}
        self.consecutive: dict[tuple[str, str], tuple[int, int, int]] = {}
        self.seen: dict[tuple[str, str], tuple[tuple[int, int], int]] = {}
        for name, wish in (("vip", ("*",)), ("high", ("cam-0",)), ("guest-a", ("cam-0", "cam-1"))):
            client = Client(name, self.fresh().to_bytes(16, "big"))
            self.clients.append(client)
            self.join(client, wish, None, None)
        for camera in self.cameras:
            self.arrive(camera.shoot(), 0)

    def pick(self, which: int, does: str = "demand") -> Client:
        """A client for whom this makes sense, mostly; sometimes any, a ghost perhaps."""
        fitting = []
        for client in self.clients:
            worker = self.model.workers.get(client.name)
            if worker is None or worker.instance != client.instance:
                continue  # it was taken over, or forgotten
            if worker.under_way() if does == "recheck" else worker.connected != (does == "rejoin"):
                fitting.append(client)
        chosen = fitting if fitting and which < 8 else self.clients
        return chosen[which % len(chosen)]

    def fresh(self) -> int:
        self.unique += 1
        return self.unique

    def traffic(self, bits: int) -> None:
        """Everyday life: up to three frames arrive, and a worker reports the one that it had and asks for the next."""
        for shot in range(bits & 3):
            self.now += 0.05
            self.arrive(self.cameras[(bits + shot) % len(self.cameras)].shoot(), 0)
        if bits & 12:
            client = self.pick(bits >> 4 & 7)
            told = client.last
            client.number += 1
            self.demand(client, Report(told.stream, told.epoch, told.seq, "consumed", 0.01, 0.04) if told else None, 0)

    # --- publishers -------------------------------------------------------------------------------------------------

    @rule(
        what=st.sampled_from(["new", "new", "new", "late", "again"]),
        which=st.integers(0, 9),
        lost=st.sampled_from([0, 0, 0, 1, 3]),
        unsent=st.sampled_from([0, 0, 0, 1, 2]),
        step=steps,
        fail=failures,
        traffic=traffics,
    )
    def publish(self, *, what: str, which: int, lost: int, unsent: int, step: float, fail: int, traffic: int) -> None:
        """A camera's next frame; or one that others have overtaken, or that was here before."""
        self.traffic(traffic)
        self.now += step
        if what != "new" and self.underway:
            which %= len(self.underway)
            self.arrive(self.underway[which] if what == "again" else self.underway.pop(which), fail)
            return
        camera = self.cameras[which % len(self.cameras)]
        for _ in range(lost):
            self.underway.append(camera.shoot())
        camera.seq += unsent
        camera.unsent += unsent
        self.underway.append(camera.shoot())
        self.arrive(self.underway[-1], fail)

    @rule(
        stream=streams,
        how=st.sampled_from(["later", "later", "other boot", "earlier", "long before"]),
        seq=st.integers(0, 9),
        traffic=traffics,
    )
    def another_publisher(self, stream: str, how: str, seq: int, traffic: int) -> None:
        self.traffic(traffic)
        known = self.model.streams.get(stream)
        if known is not None and len(known.runs) + len(self.cameras) >= RETIRED_EPOCHS:
            return  # what is forgotten is another test's business
        epoch = STARTED + 10 * self.fresh()
        if how == "earlier":
            epoch = STARTED + self.fresh()
        elif how == "long before":
            epoch = STARTED - self.fresh()
        camera = Camera(stream, epoch, OTHER_BOOT if how == "other boot" else BOOT, seq)
        if len(self.cameras) > 3:
            self.cameras.pop(0)
        self.cameras.append(camera)

    def arrive(self, arrived: Frame, fail: int) -> None:
        refused, deliveries = None, []
        try:
            deliveries = self.core.frame(arrived, self.now)
        except FrameRefusedError as refusal:
            refused = refusal.reason
            event(f"frame refused: {refused}")
        due = self.model.frame(arrived, refused, self.now)
        ranks = [(PRIORITY[worker.policy.service_class], worker.name) for worker, _ in deliveries]
        assert ranks == sorted(ranks)
        assert {worker.name for worker in due} <= {worker.name for worker, _ in deliveries}
        self.model.delivered(deliveries, self.now)
        self.transport(deliveries, fail)

    def transport(self, deliveries: Iterable[Delivery], fail: int) -> None:
        """Send, and say what came of it."""
        for place, delivery in enumerate(deliveries):
            worker = self.model.workers[delivery.worker.name]
            sent = delivery.mailbox.in_flight
            assert sent is not None
            if fail >> place & 1:
                event("undelivered")
                self.core.undelivered(delivery)
                self.model.put_back(worker)
                continue
            if fail >> place & 16:
                event("unreadable")
                following = self.core.unreadable(delivery, self.now)
                self.model.unreadable(worker)
                if following is not None:
                    self.model.delivered([following], self.now)
                    self.transport([following], 0)
                continue
            self.saw(worker, sent)
            if worker.policy.push:
                self.core.pushed(delivery, self.now)
                self.model.pushed(worker)
            for client in self.clients:
                if client.session == worker.session and not worker.policy.push:
                    client.before, client.last = client.last, sent

    def saw(self, worker: ModelWorker, sent: Frame) -> None:
        """A frame went out: it may not be older than any before it, nor, in one session, the same."""
        place = self.model.streams[sent.stream].order(sent)
        before, session = self.seen.get((worker.name, sent.stream), ((-1, 0), 0))
        assert place >= before
        if place == before:
            event("sent again")
            assert session != worker.session or worker.policy.push
        self.seen[worker.name, sent.stream] = place, worker.session

    # --- workers ----------------------------------------------------------------------------------------------------

    @rule(
        name=st.sampled_from(["vip", "high", "guest-a"]) | st.sampled_from(GUESTS),
        wish=wishes,
        fps=st.sampled_from([None, None, 3.0, 20.0]),
        refuses=st.booleans(),
        traffic=traffics,
    )
    def newcomer(self, *, name: str, wish: tuple[str, ...], fps: float | None, refuses: bool, traffic: int) -> None:
        """A process begins, perhaps as one that finds the frame that was there too old."""
        self.traffic(traffic)
        client = Client(name, self.fresh().to_bytes(16, "big"))
        worker = self.model.workers.get(name)
        if worker is not None and worker.connected:
            event("taken over")
        told = next((other.last for other in self.clients if other.name == name), None)
        self.clients = [*self.clients[-7:], client]
        # What another process was sent is not for this one to report.
        self.join(client, wish, fps, Report(told.stream, told.epoch, told.seq, "consumed") if told else None)
        for _ in range(2 if refuses else 0):
            client.number += 1
            old = client.last
            self.demand(client, Report(old.stream, old.epoch, old.seq, "expired") if old else None, 0)

    @rule(
        which=st.integers(0, 9),
        does=st.sampled_from(["demand", "demand", "recheck", "recheck", "rejoin", "leave"]),
        step=steps,
        fail=failures,
        draw=st.data(),
        traffic=traffics,
    )
    def client(self, *, which: int, does: str, step: float, fail: int, draw: st.DataObject, traffic: int) -> None:
        self.traffic(traffic)
        self.now += step
        client = self.pick(which, does)
        match does:
            case "demand":
                client.number += draw.draw(st.sampled_from([1, 1, 1, 1, 1, 0, -1, 3]))
                self.demand(client, self.report(client, draw), fail)
            case "recheck":
                self.recheck(client, client.number + draw.draw(st.sampled_from([0, 0, 0, 1])), fail)
            case "rejoin":
                self.rejoin(client, draw)
            case "leave":
                self.leave(client, self.report(client, draw))

    def rejoin(self, client: Client, draw: st.DataObject) -> None:
        worker = self.model.workers.get(client.name)
        if worker is not None and worker.instance == client.instance and worker.under_way():
            event("rejoined with a frame under way" + ("" if worker.connected else ", after a disconnect"))
        fps = draw.draw(st.sampled_from([None, 3.0]))
        self.join(client, draw.draw(wishes), fps, self.report(client, draw))

    def join(self, client: Client, wish: tuple[str, ...], fps: float | None, report: Report | None) -> None:
        client.attempt += 1
        request = JoinRequest(client.name, client.instance, client.attempt, wish, fps)
        session, refused = self.fresh(), None
        refusal = self.model.refuses(request)
        try:
            self.core.join(request, session, report, self.now)
        except RefusalError as error:
            refused = error.reason
            event(f"join refused: {refused}")
        assert refused == refusal
        if refused is not None:
            return
        for name in self.model.workers.keys() - self.core.workers.keys():
            event("forgotten")
            self.model.forget(name)
            self.forget(name)
        self.model.join(request, session, report, self.now)
        client.session, client.number = session, 0

    def forget(self, name: str) -> None:
        """A worker's counts went away with it."""
        self.counted = {key: value for key, value in self.counted.items() if key[1] != name}
        self.consecutive = {key: value for key, value in self.consecutive.items() if key[0] != name}
        self.seen = {key: value for key, value in self.seen.items() if key[0] != name}

    def report(self, client: Client, draw: st.DataObject) -> Report | None:
        """What a process says of the frame that it got last: often the truth."""
        about = draw.draw(st.sampled_from(["last", "last", "last", "nothing", "the one before", "nonsense"]))
        named = {"last": client.last, "the one before": client.before}.get(about)
        if about == "nonsense":
            return Report("cam-0", 1, 1, "consumed")
        if named is None:
            return None
        outcome = draw.draw(st.sampled_from(OUTCOMES))
        return Report(named.stream, named.epoch, named.seq, outcome, age=0.01, processing=0.1)

    def demand(self, client: Client, report: Report | None, fail: int) -> None:
        answer = self.core.demand(client.session, client.number, report, self.now)
        event(f"demand: {'a frame' if isinstance(answer, Delivery) else answer.name}")
        self.model.demand(self.spoken_for(client.session), client.number, report, answer, self.now)
        if isinstance(answer, Delivery):
            self.transport([answer], fail)

    def recheck(self, client: Client, number: int, fail: int) -> None:
        answer = self.core.recheck(client.session, number, self.now)
        event(f"recheck: {'a frame' if isinstance(answer, Delivery) else answer.name}")
        self.model.recheck(self.spoken_for(client.session), number, answer, self.now)
        if isinstance(answer, Delivery):
            self.transport([answer], fail)

    def leave(self, client: Client, report: Report | None) -> None:
        worker = self.spoken_for(client.session)
        left = self.core.leave(client.session, report, self.now)
        assert (left.name if left else None) == (worker.name if worker else None)
        if worker is not None:
            event("left")
            self.model.leave(worker, report, self.now)

    def spoken_for(self, session: int) -> ModelWorker | None:
        """The worker that has this session."""
        return next((w for w in self.model.workers.values() if session and w.session == session), None)

    @rule(which=st.integers(0, 9), appears=st.sampled_from([None, "push", "paced-push"]), traffic=traffics)
    def connection(self, which: int, appears: str | None, traffic: int) -> None:
        """A worker's connection is gone, or a push worker's is there."""
        self.traffic(traffic)
        there = sorted(name for name, worker in self.model.workers.items() if worker.connected)
        if appears is not None and appears not in there:
            event("a push worker's peer appeared")
            self.core.open_push_worker(self.core.workers[appears], self.now)
            self.model.open_push(self.model.workers[appears], self.now)
        elif there:
            worker = self.model.workers[there[which % len(there)]]
            event("disconnected" + (" with a frame under way" if worker.under_way() else ""))
            self.core.disconnected(self.core.workers[worker.name], self.now)
            self.model.depart(worker, self.now)

    # --- time -------------------------------------------------------------------------------------------------------

    @rule(step=steps, fail=failures, traffic=traffics)
    def tick(self, step: float, fail: int, traffic: int) -> None:
        self.traffic(traffic)
        self.now += step
        busy = {name: worker for name, worker in self.core.workers.items() if worker.state is State.BUSY}
        deliveries = self.core.tick(self.now)
        self.model.tick(deliveries, self.now)
        for name, worker in busy.items():
            idle = self.model.workers[name].overdue(self.now)
            assert worker.state is (State.IDLE if idle else State.BUSY)
        for worker in self.core.workers.values():
            event(f"{worker.state.value} after a tick")
        self.transport(deliveries, fail)

    # --- what must hold after every step ----------------------------------------------------------------------------

    @invariant()
    def the_model_agrees(self) -> None:
        self.model.compare(self.core)

    @invariant()
    def the_snapshot_adds_up_and_no_count_goes_down(self) -> None:
        snapshot = take(self.core, self.now, self.now + 1e9)
        for stream in snapshot.streams:
            assert stream.published == stream.received + sum(stream.dropped.values())
        for worker in snapshot.workers:
            for mailbox in worker.mailboxes:
                assert mailbox.balance == 0
                assert 0 <= mailbox.pending <= 1
                assert 0 <= mailbox.in_flight <= 1
                assert mailbox.window_dropped >= 0
                assert 0 <= mailbox.window_promised <= mailbox.offered - mailbox.decimated
            assert sum(mailbox.in_flight for mailbox in worker.mailboxes) <= 1
        counted = counters(snapshot)
        assert self.counted.keys() <= counted.keys()
        assert all(counted[key] >= value for key, value in self.counted.items())
        self.counted = counted
        self.rows_of_drops(snapshot)

    def rows_of_drops(self, snapshot: Snapshot) -> None:
        """consecutive_drops grows with each drop, and begins anew with each consumed frame."""
        for worker in snapshot.workers:
            for mailbox in worker.mailboxes:
                dropped = sum(mailbox.dropped.values()) - mailbox.discarded.get("left", 0)
                key, row = (worker.name, mailbox.stream), mailbox.consecutive_drops
                consumed_before, dropped_before, row_before = self.consecutive.get(key, (0, 0, 0))
                if mailbox.consumed == consumed_before:
                    assert row - row_before == dropped - dropped_before
                else:
                    assert 0 <= row <= dropped - dropped_before
                self.consecutive[key] = mailbox.consumed, dropped, row

    def teardown(self) -> None:
        if hasattr(self, "core"):
            snapshot = take(self.core, self.now, self.now + 1e9)
            assert Snapshot.from_wire(msgpack.unpackb(msgpack.packb(snapshot.to_wire()))) == snapshot


HISTORIES = int(os.environ.get("HISTORIES") or 0)
"""How many to look at (`make histories`); 0: some, and what fails is shown at full length: shortening takes minutes."""

Histories.TestCase.settings = settings(
    max_examples=HISTORIES or 150, stateful_step_count=60, suppress_health_check=[HealthCheck.too_slow],
    phases=(Phase.generate, Phase.shrink) if HISTORIES else (Phase.generate,),
)  # fmt: skip
TestHistories = Histories.TestCase

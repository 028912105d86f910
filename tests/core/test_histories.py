"""Random histories: publishers that restart and overlap, workers that come, ask, report, take over, vanish; and time.

The supplier and the model (model.py) live through the same history; after every step their counts are compared, and
what must never happen is looked for: a count that goes down, a ledger that does not add up, an older frame after a
newer one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgpack
from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from supplierd.core.histogram import HistogramSnapshot
from supplierd.core.mailbox import Report
from supplierd.core.service import PRIORITY, ServiceClass, Settings, WorkerPolicy
from supplierd.core.snapshot import Snapshot, take
from supplierd.core.stream import RETIRED_EPOCHS, Frame
from supplierd.core.supplier import Delivery, FrameRefusedError, RefusalError, Supplier
from supplierd.core.worker import JoinRequest, State
from tests.core.builders import BOOT, OTHER_BOOT, STARTED, frame
from tests.core.model import Model
from tests.core.records import ModelWorker

STREAMS = ("cam-0", "cam-1", "cam-2", "cam-3")  # one more than fits
GUESTS = ("guest-a", "guest-b", "guest-c")
CONFIGURED = {
    "vip": WorkerPolicy(ServiceClass.CRITICAL, 0.0, idle_after=8.0, target_fps=4.0, configured=True),
    "high": WorkerPolicy(ServiceClass.HIGH, 0.1, idle_after=3.0, streams=("cam-0", "cam-1"), configured=True),
    "push": WorkerPolicy(configured=True, push=True, streams=("*",)),
    "paced-push": WorkerPolicy(configured=True, push=True, streams=("cam-0",), target_fps=2.0),
}
OUTCOMES = ("consumed", "consumed", "consumed", "stale", "expired", "closed", "unreadable", "stale_descriptor", "huh?")

streams = st.sampled_from(STREAMS[:2]) | st.sampled_from(STREAMS)
wishes = st.just(("*",)) | st.lists(streams, min_size=1, max_size=3).map(tuple)
steps = st.sampled_from([0.0, 0.01, 0.03, 0.05, 0.1, 0.3, 1.0, 2.0, 5.0, 11.0, 61.0])
failures = st.just(0) | st.just(0) | st.integers(0, 15)
"""A bit for each delivery of a step: whether it cannot be sent."""


@dataclass
class Camera:
    """One run of a publisher."""

    stream: str
    boot: bytes
    epoch: int
    seq: int = 0
    unsent: int = 0


@dataclass
class Client:
    """One process of a worker: its sessions, and the frames that it was sent."""

    name: str
    instance: bytes
    session: int = 0
    number: int = 0
    attempt: int = 0
    last: Frame | None = None
    before: Frame | None = None


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
        self.cameras = [Camera("cam-0", BOOT, STARTED + 1), Camera("cam-1", BOOT, STARTED - 1)]
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
            self.arrive(self.shoot(camera), 0)

    def pick(self, which: int, *, with_frame: bool = False) -> Client:
        """A client: mostly one whose session is alive, or that has a frame under way; sometimes a ghost."""
        live = {w.session for w in self.model.workers.values() if w.session and (w.under_way() or not with_frame)}
        chosen = [client for client in self.clients if client.session in live]
        chosen = chosen if chosen and which < 8 else self.clients
        return chosen[which % len(chosen)]

    def fresh(self) -> int:
        self.unique += 1
        return self.unique

    # --- publishers -------------------------------------------------------------------------------------------------

    @rule(
        which=st.integers(0, 9),
        lost=st.sampled_from([0, 0, 0, 1, 3]),
        unsent=st.sampled_from([0, 0, 0, 1, 2]),
        step=steps,
        fail=failures,
    )
    def publish(self, which: int, lost: int, unsent: int, step: float, fail: int) -> None:
        self.now += step
        camera = self.cameras[which % len(self.cameras)]
        for _ in range(lost):
            self.underway.append(self.shoot(camera))
        camera.seq += unsent
        camera.unsent += unsent
        self.arrive(self.shoot(camera), fail)

    def shoot(self, camera: Camera) -> Frame:
        camera.seq += 1
        return frame(camera.seq, stream=camera.stream, epoch=camera.epoch, boot=camera.boot, unsent=camera.unsent)

    @precondition(lambda self: self.underway)
    @rule(which=st.integers(0, 99), again=st.booleans(), fail=failures)
    def arrive_late(self, which: int, again: bool, fail: int) -> None:
        which %= len(self.underway)
        self.arrive(self.underway[which] if again else self.underway.pop(which), fail)

    @rule(
        stream=streams,
        how=st.sampled_from(["later", "later", "other boot", "earlier", "long before"]),
        seq=st.integers(0, 9),
    )
    def another_publisher(self, stream: str, how: str, seq: int) -> None:
        known = self.model.streams.get(stream)
        if known is not None and len(known.runs) + len(self.cameras) >= RETIRED_EPOCHS:
            return  # what is forgotten is another test's business
        epoch = STARTED + 10 * self.fresh()
        if how == "earlier":
            epoch = STARTED + self.fresh()
        elif how == "long before":
            epoch = STARTED - self.fresh()
        camera = Camera(stream, OTHER_BOOT if how == "other boot" else BOOT, epoch, seq)
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
    )
    def newcomer(self, name: str, wish: tuple[str, ...], fps: float | None) -> None:
        client = Client(name, self.fresh().to_bytes(16, "big"))
        worker = self.model.workers.get(name)
        if worker is not None and worker.connected:
            event("taken over")
        self.clients = [*self.clients[-7:], client]
        self.join(client, wish, fps, None)

    @rule(which=st.integers(0, 9), wish=wishes, fps=st.sampled_from([None, 3.0]), word=st.data())
    def rejoin(self, which: int, wish: tuple[str, ...], fps: float | None, word: st.DataObject) -> None:
        client = self.pick(which)
        report = self.report(client, word)
        worker = self.model.workers.get(client.name)
        if worker is not None and worker.instance == client.instance and worker.under_way():
            event("rejoined with a frame under way" + ("" if worker.connected else ", after a disconnect"))
        self.join(client, wish, fps, report)

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

    def report(self, client: Client, word: st.DataObject) -> Report | None:
        """What a process says of the frame that it got last: often the truth."""
        about = word.draw(st.sampled_from(["last", "last", "last", "nothing", "the one before", "nonsense"]))
        named = {"last": client.last, "the one before": client.before}.get(about)
        if about == "nonsense":
            return Report("cam-0", 1, 1, "consumed")
        if named is None:
            return None
        outcome = word.draw(st.sampled_from(OUTCOMES))
        return Report(named.stream, named.epoch, named.seq, outcome, age=0.01, processing=0.1)

    @rule(
        which=st.integers(0, 9),
        ahead=st.sampled_from([1, 1, 1, 1, 1, 0, -1, 3]),
        word=st.data(),
        step=steps,
        fail=failures,
    )
    def demand(self, which: int, ahead: int, word: st.DataObject, step: float, fail: int) -> None:
        self.now += step
        client = self.pick(which)
        client.number += ahead
        self.ask(client, self.report(client, word), fail)

    @rule(
        which=st.integers(0, 7),
        rounds=st.integers(1, 6),
        pace=st.sampled_from([0.02, 0.1, 0.4]),
        shots=st.integers(0, 3),
    )
    def work(self, which: int, rounds: int, pace: float, shots: int) -> None:
        """A worker as it should be: asks, consumes, asks again, while cameras go on."""
        client = self.pick(which)
        for turn in range(rounds):
            told = client.last
            report = Report(told.stream, told.epoch, told.seq, "consumed", 0.01, pace) if told else None
            client.number += 1
            self.ask(client, report, 0)
            for shot in range(shots):
                self.now += pace
                self.arrive(self.shoot(self.cameras[(which + turn + shot) % len(self.cameras)]), 0)

    def ask(self, client: Client, report: Report | None, fail: int) -> None:
        answer = self.core.demand(client.session, client.number, report, self.now)
        event(f"demand: {'a frame' if isinstance(answer, Delivery) else answer.name}")
        self.model.demand(self.spoken_for(client.session), client.number, report, answer, self.now)
        if isinstance(answer, Delivery):
            self.transport([answer], fail)

    @rule(which=st.integers(0, 9), wrong=st.sampled_from([0, 0, 0, 1]), fail=failures)
    def recheck(self, which: int, wrong: int, fail: int) -> None:
        client = self.pick(which, with_frame=True)
        answer = self.core.recheck(client.session, client.number + wrong, self.now)
        event(f"recheck: {'a frame' if isinstance(answer, Delivery) else answer.name}")
        self.model.recheck(self.spoken_for(client.session), client.number + wrong, answer, self.now)
        if isinstance(answer, Delivery):
            self.transport([answer], fail)

    @rule(which=st.integers(0, 9), word=st.data())
    def leave(self, which: int, word: st.DataObject) -> None:
        client = self.pick(which)
        report = self.report(client, word)
        worker = self.spoken_for(client.session)
        left = self.core.leave(client.session, report, self.now)
        assert (left.name if left else None) == (worker.name if worker else None)
        if worker is not None:
            event("left")
            self.model.leave(worker, report, self.now)

    def spoken_for(self, session: int) -> ModelWorker | None:
        """The worker that has this session."""
        return next((w for w in self.model.workers.values() if session and w.session == session), None)

    @precondition(lambda self: any(worker.connected for worker in self.model.workers.values()))
    @rule(which=st.integers(0, 9))
    def disconnect(self, which: int) -> None:
        there = sorted(name for name, worker in self.model.workers.items() if worker.connected)
        worker = self.model.workers[there[which % len(there)]]
        event("disconnected" + (" with a frame under way" if worker.under_way() else ""))
        self.core.disconnected(self.core.workers[worker.name], self.now)
        self.model.depart(worker, "disconnected", self.now)

    @rule(name=st.sampled_from(["push", "paced-push"]))
    def open_push(self, name: str) -> None:
        worker = self.model.workers[name]
        if not worker.connected:
            event("a push worker's peer appeared")
            self.core.open_push_worker(self.core.workers[name], self.now)
            self.model.open_push(worker, self.now)

    # --- time -------------------------------------------------------------------------------------------------------

    @rule(step=steps, fail=failures)
    def tick(self, step: float, fail: int) -> None:
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


def counters(snapshot: Snapshot) -> dict[tuple[object, ...], float]:
    """Everything in a snapshot that may only grow, by a name; of workers the second part is theirs."""
    found: dict[tuple[object, ...], float] = {("rejected", "", r): n for r, n in snapshot.rejected.items()}

    def add(kind: str, name: str, values: Any, *names: str) -> None:
        for field in names:
            value = getattr(values, field)
            if isinstance(value, dict):
                found.update({(kind, name, values[0], field, reason): n for reason, n in value.items()})
            elif isinstance(value, HistogramSnapshot):
                found.update({(kind, name, values[0], field, i): n for i, n in enumerate(value.counts)})
                found[kind, name, values[0], field, "total"] = value.total
            else:
                found[kind, name, values[0], field] = value

    for stream in snapshot.streams:
        add("stream", "", stream, "published", "received", "dropped")
    for worker in snapshot.workers:
        add("worker", worker.name, worker, "processing")
        for mailbox in worker.mailboxes:
            names = ("offered", "consumed", "overwritten", "decimated", "discarded", "age")
            add("mailbox", worker.name, mailbox, *names)
    return found


Histories.TestCase.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
TestHistories = Histories.TestCase

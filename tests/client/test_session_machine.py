"""A worker's session against the daemon's real core over a bad network: random faults, restarts, pauses and stops.

Whatever happens, the user never goes back in time, the ledger adds up, and no frame that the user got is counted as
anything but consumed. And when the network is good again, frames flow again, fresh, within a bounded time.
"""

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from supplierd_client.session import LOST_AFTER_MAX, FrameId
from supplierd_client.turn import State

from tests.client.simulation import FPS, Handed, Network, Process

STREAMS = ("cam-1", "cam-2")
SECONDS = st.sampled_from([0.0, 0.01, 0.03, 0.03, 0.1, 0.1, 0.4, 0.4, 1.2, 1.2, 3.0, 3.0, 12.0])
"""How long something lasts, or is left to take its course."""
MAX_LATENCY = 2.5
HEALED_WITHIN = LOST_AFTER_MAX + 4.0
"""Simulated seconds: the longest patience, the repeated demand before it, and a new session."""
STEADY_AGE = 2 / FPS
"""Seconds: an interval, and a margin for the steps of the simulation."""


class Worlds(RuleBasedStateMachine):
    """One worker's name, two cameras, and everything that can go wrong between them."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Network()
        self.checked = 0  # fates of the present daemon that were looked at

    @initialize(max_age=st.sampled_from([None, 0.5]), streams=st.integers(1, 2))
    def begin(self, max_age: float | None, streams: int) -> None:
        self.net.start()
        for stream in STREAMS[:streams]:
            self.net.camera(stream)
        self.process(max_age)

    def process(self, max_age: float | None) -> None:
        self.net.processes.append(Process(self.net, max_age))

    @property
    def worker(self) -> Process:
        return self.net.processes[-1]

    # --- the user -----------------------------------------------------------------------------------------------------

    @rule(reading=st.booleans(), works=st.sampled_from([0.0, 0.0, 0.05, 0.7, 3.0]), then=SECONDS)
    def user_behaves(self, reading: bool, works: float, then: float) -> None:
        self.worker.reading, self.worker.works = reading, works
        self.net.run(then)

    @rule(seconds=SECONDS)
    def worker_is_stopped_for_a_while(self, seconds: float) -> None:
        self.worker.frozen = True
        self.net.run(seconds)
        self.worker.frozen = False

    @rule(how=st.sampled_from(["leave", "crash", "ghost"]), then=SECONDS)
    def worker_is_replaced(self, how: str, then: float) -> None:
        former = self.worker
        if how == "leave":
            former.leave()
            self.net.run(0.1)
        if how == "ghost":
            former.frozen = True  # its process hangs and never comes back, nor does what it said last
            former.control.break_off()
        else:
            former.vanish()
        self.process(former.max_age)
        self.net.run(then)

    # --- cameras ------------------------------------------------------------------------------------------------------

    @rule(stream=st.sampled_from(STREAMS), seconds=SECONDS)
    def camera_pauses(self, stream: str, seconds: float) -> None:
        if stream in self.net.cameras:
            self.net.cameras[stream].on = False
            self.net.run(seconds)
            self.net.cameras[stream].on = True

    @rule(stream=st.sampled_from(STREAMS), then=SECONDS)
    def publisher_starts_anew(self, stream: str, then: float) -> None:
        self.net.camera(stream)
        self.net.run(then)

    # --- the network --------------------------------------------------------------------------------------------------

    @rule(what=st.sampled_from(["up", "down", "frames"]), count=st.integers(1, 3), then=SECONDS)
    def messages_are_lost(self, what: str, count: int, then: float) -> None:
        self.net.lose_next[what] += count
        self.net.run(then)

    @rule(latency=st.sampled_from([0.0, 0.002, 0.04, 0.8, MAX_LATENCY]), then=SECONDS)
    def latency_changes(self, latency: float, then: float) -> None:
        self.net.latency = latency
        self.net.run(then)

    @rule(then=SECONDS)
    def control_connection_breaks(self, then: float) -> None:
        self.worker.control.break_off()
        self.net.run(then)

    @rule(then=SECONDS)
    def frame_connection_breaks(self, then: float) -> None:
        if self.worker.pull is not None:
            self.worker.pull.break_off()
        self.net.run(then)

    # --- the daemon ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.net.daemon is not None)
    @rule(goodbye=st.booleans(), then=SECONDS)
    def daemon_ends(self, goodbye: bool, then: float) -> None:
        self.check_fates()
        self.net.kill(goodbye=goodbye)
        self.checked = 0
        self.net.run(then)

    @precondition(lambda self: self.net.daemon is None)
    @rule(then=SECONDS)
    def daemon_starts(self, then: float) -> None:
        self.net.start()
        self.net.run(then)

    # --- what always holds --------------------------------------------------------------------------------------------

    @invariant()
    def ledgers_add_up(self) -> None:
        if self.net.daemon is not None:
            supplier = self.net.daemon.supplier
            assert all(stream.ledger.balance == 0 for stream in supplier.streams.values())
            for worker in supplier.workers.values():
                for mailbox in worker.mailboxes.values():
                    assert mailbox.ledger.balance == 0
                    assert mailbox.ledger.in_flight in (0, 1)

    @invariant()
    def nobody_goes_back_in_time(self) -> None:
        for process in self.net.processes:
            newest: dict[tuple[str, int], int] = {}
            for handed in process.handed:
                stream, epoch, seq = handed.identity
                assert seq > newest.get((stream, epoch), 0), process.handed
                newest[stream, epoch] = seq
                assert process.max_age is None or handed.age <= process.max_age

    @invariant()
    def check_fates(self) -> None:
        """A frame counts as consumed exactly if the user got it; only a process that never said so is not believed."""
        daemon = self.net.daemon
        if daemon is None:
            return
        handed = {h.identity for process in self.net.processes for h in process.handed}
        for identity, fate in daemon.supplier.fates[self.checked :]:
            assert fate != "consumed" or identity in handed, (identity, fate)
        for identity, fate in daemon.supplier.fates[self.checked :]:
            current = identity in {h.identity for h in self.worker.handed}
            assert not current or fate in ("consumed", "disconnected") or self.twice(identity), (identity, fate)
        self.checked = len(daemon.supplier.fates)

    def twice(self, identity: FrameId) -> bool:
        """Whether the frame was given up, and then sent once more: the user got the second one."""
        assert self.net.daemon is not None
        return [i for i, _ in self.net.daemon.supplier.fates].count(identity) > 1 or any(
            m.in_flight is not None and m.in_flight.message.identity == identity
            for w in self.net.daemon.supplier.workers.values()
            for m in w.mailboxes.values()
        )

    # --- what happens in the end --------------------------------------------------------------------------------------

    def teardown(self) -> None:
        net = self.net
        if not net.processes:
            return
        net.start()
        net.latency = 0.002
        net.lose_next = dict.fromkeys(net.lose_next, 0)
        worker = self.worker
        worker.reading, worker.works = True, 0.0
        before, began = len(worker.handed), net.now
        while len(worker.handed) == before:
            assert net.now < began + HEALED_WITHIN, f"no frame came: {worker.session.state}"
            net.step()
        net.run(MAX_LATENCY + 0.5)  # what was under way when the network healed comes late
        since = len(worker.handed)
        net.run(1.0)
        steady: list[Handed] = worker.handed[since:]
        assert len(steady) >= FPS - 2, "frames do not flow"
        assert all(handed.age <= STEADY_AGE for handed in steady), [h.age for h in steady]
        worker.leave()
        net.run(0.1)
        self.ledgers_add_up()
        self.nobody_goes_back_in_time()
        self.check_fates()
        assert net.daemon is not None
        assert worker.session.state is State.ENDED
        fates = dict(net.daemon.supplier.fates)
        assert {fates[h.identity] for h in steady} == {"consumed"}


Worlds.TestCase.settings = settings(
    max_examples=int(os.environ.get("SUPPLIERD_TEST_EXAMPLES", "50")),
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestWorlds = Worlds.TestCase

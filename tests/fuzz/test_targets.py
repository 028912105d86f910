"""The short form of `make fuzz`: every target, the same inputs at each run, by Hypothesis alone."""

import random
import resource
import time

import pytest
from hypothesis import HealthCheck, event, given, settings

from tests.fuzz.strategies import inputs
from tests.fuzz.targets import MEMORY, SECONDS, TARGETS, examine

quick = settings(
    max_examples=500,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_comes(name: str) -> None:
    target = TARGETS[name]

    @quick
    @given(data=inputs(name, target))
    def run(data: bytes) -> None:
        event(examine(target, data))

    run()


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_their_mutants_meet_both_ends(name: str) -> None:
    """A mutation that is always refused at the door tests nothing behind it."""
    target, chance = TARGETS[name], random.Random(1)
    outcomes = {examine(target, seed) for seed in target.seeds}
    for seed in target.seeds * (1 + 400 // len(target.seeds)):
        outcomes.add(examine(target, target.mutate(seed, chance)))
    assert outcomes >= REACHED[name]


REACHED = {
    "frame": {"accepted", "truncated", "bad_header", "bad_name", "bad_payload", "empty_payload"},
    "control-from-client": {"Join", "Demand", "Recheck", "Leave", "Stats", "bad_message"},
    "control-from-daemon": {"Welcome", "Refused", "Rejoin", "Wait", "Newest", "TakenOver", "Goodbye", "Snapshot"},
    "bell-from-client": {"demand", "report", "Recheck", "Leave", "bad_message"},
    "bell-from-daemon": {
        "head",
        "frame",
        "Wait",
        "Newest",
        "Rejoin",
        "TakenOver",
        "Goodbye",
        "bad_header",
        "bad_magic",
    },
    "snapshot": {"accepted", "refused"},
    "config": {"accepted", "refused"},
}


def test_what_takes_too_long_or_too_much_is_a_defect() -> None:
    def slow(data: bytes) -> str:
        end = time.thread_time() + SECONDS
        while time.thread_time() < end:
            pass
        return "slow"

    def greedy(data: bytes) -> str:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return str(len(bytes(peak) + b"x" * (2 * MEMORY)))

    for run, complaint in ((slow, r"took [0-9.]+ s"), (greedy, "took [0-9]+ MiB")):
        with pytest.raises(AssertionError, match=complaint):
            examine(TARGETS["frame"]._replace(run=run), b"")

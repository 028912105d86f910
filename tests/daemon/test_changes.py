"""The log on workers and streams: a line for each change, none for what stays as it is, no memory of strangers."""

import logging
from collections.abc import Callable

import pytest

from supplierd.core.service import ServiceClass, WorkerPolicy
from supplierd.core.supplier import Supplier
from supplierd.core.worker import SET_UP_WITHIN
from supplierd.daemon.changes import Changes
from tests.core.builders import Camera, Process, supplier

WINDOW = 5.0


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Gives what was logged since the last call."""
    monkeypatch.setattr(logging.getLogger("supplierd"), "propagate", True)
    caplog.set_level(logging.INFO, "supplierd")

    def take() -> list[str]:
        found = [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
        caplog.clear()
        return found

    return take


def let_pass(owner: Supplier, began: float, seconds: int) -> float:
    """A second at a time, as the drop window is sampled."""
    for second in range(1, seconds + 1):
        owner.tick(began + second)
    return began + seconds


def test_a_worker_and_a_stream_come_and_go(lines: Callable[[], list[str]]) -> None:
    owner = supplier(stream_timeout=1.0)
    changes, camera, process = Changes(owner), Camera(), Process(owner)
    changes.log(0.0)
    assert lines() == []
    process.join(0.0)
    process.demand(0.0)
    owner.frame(camera.shoot(), 0.1)
    changes.log(0.2)
    assert lines() == ["INFO worker active", "INFO stream has a new publisher"]
    changes.log(0.3)
    assert lines() == []
    process.crash(1.0)
    changes.log(1.2)
    assert lines() == ["WARNING worker gone", "WARNING stream silent"]
    owner.frame(camera.shoot(), 1.3)
    changes.log(1.4)
    assert lines() == ["INFO stream live"]
    process.join(1.5)
    process.leave(1.6)
    changes.log(1.7)
    assert lines() == []  # a leave is logged by who hears it


def test_a_worker_is_named_when_its_drops_exceed_its_budget_and_when_they_no_longer_do(
    lines: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    policy = WorkerPolicy(service_class=ServiceClass.CRITICAL, drop_budget=0.1, configured=True)
    owner = supplier({"w": policy}, drop_window=WINDOW)
    changes, camera, process = Changes(owner), Camera(), Process(owner)
    process.join(0.0)
    changes.log(0.0)
    lines()
    for at in (0.1, 0.2, 0.3):  # it asks for none: two are replaced
        owner.frame(camera.shoot(), SET_UP_WITHIN + at)
    changes.log(SET_UP_WITHIN + 0.4)
    fields = vars(caplog.records[0])["fields"]
    assert lines() == ["WARNING worker drops more than its budget", "INFO stream has a new publisher"]
    assert (fields["worker"], fields["dropped"], fields["promised"], fields["budget"]) == ("w", 2, 3, "10%")
    changes.log(SET_UP_WITHIN + 0.5)
    assert lines() == []
    changes.log(let_pass(owner, SET_UP_WITHIN + 0.5, int(WINDOW) + 1))
    assert lines() == ["INFO worker keeps to its drop budget again", "WARNING stream silent"]


def test_a_worker_that_stands_just_at_its_budget_is_one_line(lines: Callable[[], list[str]]) -> None:
    owner = supplier({"w": WorkerPolicy(drop_budget=0.5, configured=True)})
    changes, camera, process = Changes(owner), Camera(), Process(owner)
    process.join(0.0)
    for number in range(200):  # it takes every second frame
        owner.frame(camera.shoot(), number / 30)
        if number % 2:
            process.demand(number / 30)
        changes.log(number / 30)
    assert len([line for line in lines() if "budget" in line]) == 1


def test_a_research_model_may_drop_everything_unmentioned(lines: Callable[[], list[str]]) -> None:
    owner = supplier({"w": WorkerPolicy(service_class=ServiceClass.BEST_EFFORT, drop_budget=1.0, configured=True)})
    changes, camera, process = Changes(owner), Camera(), Process(owner)
    process.join(0.0)
    for number in range(20):
        owner.frame(camera.shoot(), number / 30)
    changes.log(1.0)
    assert not [line for line in lines() if "budget" in line]


def test_names_that_are_forgotten_leave_nothing_behind() -> None:
    owner = supplier(max_workers=2)
    changes = Changes(owner)
    for number in range(50):
        process = Process(owner, name=f"w-{number}")
        process.join(float(number))
        changes.log(float(number))
        process.leave(float(number))
    assert len(changes._workers) <= 2

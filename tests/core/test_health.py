"""Which promises a snapshot shows broken."""

import pytest

from supplierd.core.health import violations
from supplierd.core.service import DEFAULT_DROP_BUDGET, ServiceClass, WorkerPolicy
from supplierd.core.supplier import Supplier
from supplierd.core.worker import SET_UP_WITHIN
from tests.core.builders import Camera, Process, picture, report, supplier


def core_with(service_class: ServiceClass, *, configured: bool = True) -> Supplier:
    policy = WorkerPolicy(service_class, DEFAULT_DROP_BUDGET[service_class], idle_after=5.0, configured=configured)
    if configured:
        return supplier({"w": policy})
    return supplier(unknown_worker=policy)


def found(core: Supplier, now: float = 0.0) -> list[tuple[str, str, str]]:
    return [violation[:3] for violation in violations(picture(core, now))]


def drop(core: Supplier, dropped: int, consumed: int) -> Process:
    process, camera = Process(core), Camera()
    process.join(-SET_UP_WITHIN)
    for _ in range(consumed):
        core.frame(camera.shoot(), 0.0)
        process.demand(report=report(process.demand()))
        process.join()
    for _ in range(dropped + 1):
        core.frame(camera.shoot(), 0.0)
    process.demand(report=report(process.demand()))
    return process


@pytest.mark.parametrize("service_class", ServiceClass)
def test_only_a_critical_worker_can_be_missing(service_class: ServiceClass) -> None:
    core = core_with(service_class)
    missing = [("critical", "w", "missing")] if service_class is ServiceClass.CRITICAL else []
    assert found(core) == missing
    process = Process(core)
    process.join()
    assert found(core) == []
    process.leave()
    assert found(core) == missing


def test_a_critical_guest_is_missed_until_it_leaves() -> None:
    core = core_with(ServiceClass.CRITICAL, configured=False)
    process = Process(core)
    process.join()
    process.crash()
    assert found(core) == [("critical", "w", "missing")]
    process.join()
    process.leave()
    assert found(core) == []


@pytest.mark.parametrize("service_class", ServiceClass)
def test_only_a_critical_worker_can_be_too_idle(service_class: ServiceClass) -> None:
    core = core_with(service_class)
    Process(core).join()
    core.frame(Camera().shoot(), 0.0)
    core.tick(4.9)
    assert found(core) == []
    core.tick(5.0)
    idle = service_class is ServiceClass.CRITICAL
    assert found(core) == ([("critical", "w", "idle")] if idle else [])
    if idle:
        text = "critical worker w is idle: frames wait and it took none for 5 s"
        assert violations(picture(core))[0].text == text


@pytest.mark.parametrize(
    ("service_class", "dropped", "consumed", "over"),
    [
        (ServiceClass.CRITICAL, 0, 9, False),
        (ServiceClass.CRITICAL, 1, 999, True),
        (ServiceClass.HIGH, 1, 8, False),
        (ServiceClass.HIGH, 1, 7, True),
        (ServiceClass.NORMAL, 5, 4, False),
        (ServiceClass.NORMAL, 6, 4, True),
        (ServiceClass.BEST_EFFORT, 99, 0, False),
    ],
)
def test_the_budget_may_be_used_up_but_not_exceeded(
    service_class: ServiceClass, dropped: int, consumed: int, over: bool
) -> None:
    core = core_with(service_class)
    drop(core, dropped, consumed)
    assert found(core) == ([(service_class.value, "w", "over_budget")] if over else [])


def test_the_text_says_how_much() -> None:
    core = core_with(ServiceClass.NORMAL)
    drop(core, dropped=3, consumed=0)
    (violation,) = violations(picture(core))
    assert violation.text == "normal worker w dropped 75.0% of 4 frames in the last 30 s, its budget is 50%"


def test_one_worker_may_break_several_promises() -> None:
    core = core_with(ServiceClass.CRITICAL)
    drop(core, dropped=1, consumed=0).crash()
    assert found(core) == [("critical", "w", "missing"), ("critical", "w", "over_budget")]


def test_a_camera_that_is_down_breaks_none() -> None:
    core = core_with(ServiceClass.CRITICAL)
    process = Process(core)
    process.join()
    process.demand()
    core.tick(1000.0)
    assert process.worker.state == "starved"
    assert found(core, 1000.0) == []

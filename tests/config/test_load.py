"""What is accepted, and what the daemon's parts are then given."""

from pathlib import Path

import pytest

from supplierd.config import Address, Config, InboxEndpoint, load, resolve, supplier_settings
from supplierd.config.model import ClassTable, Daemon, StreamTable, WorkerTable
from supplierd.core.service import ServiceClass, Settings, WorkerPolicy


def loaded(tmp_path: Path, document: str, **overrides: object) -> Config:
    path = tmp_path / "supplierd.toml"
    path.write_text(document)
    return load(path, overrides)


def test_nothing_and_an_empty_file_are_the_defaults(tmp_path: Path) -> None:
    assert load(None) == Config() == loaded(tmp_path, "") == loaded(tmp_path, "[daemon]\n[classes.high]\n[workers]")


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    assert loaded(tmp_path, "\ufeff[daemon]\nmax_workers = 3").daemon.max_workers == 3


def test_values_arrive_as_what_the_daemon_uses(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        """
        [daemon]
        runtime_dir = "/run/x"
        drop_window = 10
        [inbox]
        endpoints = [
            "ipc",
            {endpoint = "tcp://127.0.0.1:5601", conflate = true},
            {endpoint = "ipc:///a", conflate = "auto"},
        ]
        [control]
        endpoints = ["tcp://localhost:5602", "tcp://127.9.9.9:5602"]
        worker_ports = "50000-50001"
        [metrics]
        address = "[::1]:0"
        [classes.high]
        idle_after = 5
        [streams.cam-1]
        [workers.pose]
        class = "high"
        target_fps = 7
        """,
    )
    assert config.daemon == Daemon(runtime_dir=Path("/run/x"), drop_window=10.0)
    assert config.inbox.endpoints == (
        InboxEndpoint("ipc"),
        InboxEndpoint("tcp://127.0.0.1:5601", conflate=True),
        InboxEndpoint("ipc:///a", conflate=None),
    )
    assert config.control.endpoints == ("tcp://localhost:5602", "tcp://127.9.9.9:5602")
    assert config.control.worker_ports == range(50000, 50002)
    assert config.metrics.address == Address("::1", 0)
    assert str(config.metrics.address) == "[::1]:0"
    assert config.classes == {**Config().classes, ServiceClass.HIGH: ClassTable(drop_budget=0.1, idle_after=5.0)}
    assert config.streams == {"cam-1": StreamTable()}
    assert config.workers == {"pose": WorkerTable(service_class=ServiceClass.HIGH, target_fps=7.0)}


@pytest.mark.parametrize("host", ["*", "0.0.0.0", "192.168.1.5", "eth0"])
def test_tcp_beyond_loopback_needs_insecure(tmp_path: Path, host: str) -> None:
    config = loaded(tmp_path, f"[daemon]\ninsecure = true\n[inbox]\nendpoints = ['tcp://{host}:5601']")
    assert config.inbox.endpoints == (InboxEndpoint(f"tcp://{host}:5601"),)


def test_metrics_that_are_off_occupy_no_port(tmp_path: Path) -> None:
    loaded(tmp_path, "[metrics]\nenabled = false\n[inbox]\nendpoints = ['tcp://127.0.0.1:9108']")


def test_overrides_go_before_the_file_and_none_is_no_override(tmp_path: Path) -> None:
    document = "[log]\nlevel = 'nonsense'\n[metrics]\naddress = '127.0.0.1:1'"
    overrides = {"log.level": "debug", "daemon.runtime_dir": Path("/run/x"), "metrics.address": None}
    config = loaded(tmp_path, document, **overrides)
    assert (config.log.level, config.daemon.runtime_dir) == ("debug", Path("/run/x"))
    assert config.metrics.address == Address("127.0.0.1", 1)


def test_resolve_makes_ipc_concrete_and_leaves_the_rest(tmp_path: Path) -> None:
    config = loaded(tmp_path, "[control]\nendpoints = ['tcp://127.0.0.1:5602', 'ipc']")
    concrete = resolve(config, Path("/run/x"))
    assert concrete.daemon.runtime_dir == Path("/run/x")
    assert concrete.inbox.endpoints == (InboxEndpoint("ipc:///run/x/inbox.sock"),)
    assert concrete.control.endpoints == ("tcp://127.0.0.1:5602", "ipc:///run/x/control.sock")
    assert resolve(concrete, Path("/run/x")) == concrete


def test_the_defaults_are_the_cores() -> None:
    assert supplier_settings(Config()) == Settings()


def test_policies_have_their_classs_values_unless_they_have_their_own(tmp_path: Path) -> None:
    settings = supplier_settings(
        loaded(
            tmp_path,
            """
            [daemon]
            default_class = "best_effort"
            max_streams = 7
            accept_unknown_streams = false
            [classes.critical]
            drop_budget = 0.01
            idle_after = 4
            [streams.a]
            [workers.first]
            class = "critical"
            streams = ["a"]
            target_fps = 10
            [workers.second]
            class = "critical"
            drop_budget = 0
            idle_after = 3
            [workers.third]
            delivery = "push"
            endpoint = "ipc:///run/third.sock"
            """,
        )
    )
    critical, best_effort = ServiceClass.CRITICAL, ServiceClass.BEST_EFFORT
    assert settings == Settings(
        workers={
            "first": WorkerPolicy(critical, 0.01, 4.0, streams=("a",), target_fps=10.0, configured=True),
            "second": WorkerPolicy(critical, 0.0, 3.0, configured=True),
            "third": WorkerPolicy(best_effort, 1.0, 30.0, configured=True, push=True),
        },
        streams=("a",),
        unknown_worker=WorkerPolicy(best_effort, 1.0, 30.0),
        accept_unknown_streams=False,
        max_streams=7,
    )


def test_unknown_workers_can_be_refused(tmp_path: Path) -> None:
    settings = supplier_settings(loaded(tmp_path, "[daemon]\naccept_unknown_workers = false"))
    assert settings.unknown_worker is None

"""What can be reached at all: modes of files, endpoints, and what a configuration may not open by mistake."""

import socket
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from supplierd.config import ConfigError, load
from supplierd.transport.curve import new_pair
from supplierd.transport.monitor import Monitor
from tests.security.stage import Keys
from tests.support.daemon import Daemon, free_port


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_sockets_are_0660_in_a_0750_directory(daemons: Callable[..., Daemon]) -> None:
    daemon = daemons().start()
    assert mode(daemon.runtime_dir) == 0o750
    for name in ("inbox.sock", "control.sock", "bell.sock"):
        assert mode(daemon.runtime_dir / name) == 0o660


def test_with_tcp_alone_the_statistics_have_a_private_way(daemons: Callable[..., Daemon], home: Path) -> None:
    """The exporter has no key; it and who runs as the daemon's user come by a socket that is theirs alone."""
    keys = Keys(home)
    keys.reset()
    inbox, control = free_port(), free_port()
    daemon = daemons(
        f"""
        [inbox]
        endpoints = ["tcp://*:{inbox}"]
        [control]
        endpoints = ["tcp://*:{control}"]
        {keys.document}
        """
    ).start()
    try:
        assert mode(daemon.runtime_dir / "control.sock") == 0o600
        assert not (daemon.runtime_dir / "inbox.sock").exists()
        assert daemon.scrape().types["supplierd_messages_rejected"] == "counter"
        with closing(Monitor(f"tcp://127.0.0.1:{control}", keys.of("ops"))) as monitor:
            assert monitor.snapshot(10.0)
    finally:
        keys.close()


def test_metrics_are_on_loopback_by_default() -> None:
    assert load(None).metrics.address.host == "127.0.0.1"


def test_insecure_is_said_at_each_start(daemons: Callable[..., Daemon]) -> None:
    daemon = daemons(f'[daemon]\ninsecure = true\n[inbox]\nendpoints = ["tcp://*:{free_port()}"]\n')
    for _ in range(2):
        daemon.start()
        assert len(daemon.logged("daemon.insecure is set")) == 1
        daemon.stop()


KEY = new_pair().public
LOCKED = '[security]\nserver_key = "/etc/k"\n'


@pytest.mark.parametrize(
    ("document", "key", "words"),
    [
        ('[inbox]\nendpoints = ["tcp://*:5601"]', "inbox.endpoints[0]", "security.server_key"),
        ('[control]\nendpoints = ["tcp://192.0.2.1:5601"]', "control.endpoints[0]", "security.server_key"),
        (f'[keys.a]\nrole = "monitor"\npublic = "{KEY}"', "keys.a", "set security.server_key"),
        (f"[daemon]\ninsecure = true\n{LOCKED}", "daemon.insecure", "allowed: false"),
        (f'{LOCKED}[keys.a]\npublic = "{KEY}"', "keys.a.role", "missing"),
        (f'{LOCKED}[keys.a]\nrole = "monitor"', "keys.a.public", "missing"),
        (f'{LOCKED}[keys.a]\nrole = "admin"\npublic = "{KEY}"', "keys.a.role", '"publisher", "worker" or "monitor"'),
        (f'{LOCKED}[keys.a]\nrole = "monitor"\npublic = "secret"', "keys.a.public", "40 characters"),
        (
            f'{LOCKED}[keys.a]\nrole = "monitor"\npublic = "{KEY}"\n[keys.b]\nrole = "worker"\npublic = "{KEY}"',
            "keys.b.public",
            "which keys.a has already",
        ),
        (
            f'{LOCKED}[keys.a]\nrole = "worker"\npublic = "{KEY}"\nstreams = ["*"]',
            "keys.a.streams",
            'only with role = "publisher"',
        ),
        (
            f'{LOCKED}[keys.a]\nrole = "monitor"\npublic = "{KEY}"\nworker = "a"',
            "keys.a.worker",
            'only with role = "worker"',
        ),
        (f'{LOCKED}[keys."a b"]\nrole = "monitor"\npublic = "{KEY}"', 'keys."a b"', "key name 'a b' is not allowed"),
        ('[metrics]\ntls_certificate = "/c"', "metrics.tls_key", "missing"),
        ('[metrics]\ntls_key = "/k"', "metrics.tls_certificate", "missing"),
    ],
)
def test_what_would_open_a_door_by_mistake_is_refused(document: str, key: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "supplierd.toml"
    path.write_text(document)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert [problem.key for problem in caught.value.problems] == [key]
    assert words in caught.value.problems[0].text


def test_with_keys_tcp_may_reach_beyond_loopback(tmp_path: Path) -> None:
    path = tmp_path / "supplierd.toml"
    path.write_text(f'[inbox]\nendpoints = ["tcp://*:5601"]\n{LOCKED}')
    assert load(path).inbox.endpoints[0].endpoint == "tcp://*:5601"


def test_a_directory_that_anybody_can_write_is_not_taken(daemons: Callable[..., Daemon]) -> None:
    """Whoever can write it can put sockets of their own in the place of the daemon's."""
    daemon = daemons()
    daemon.runtime_dir.mkdir()
    daemon.runtime_dir.chmod(0o777)
    daemon.launch()
    assert daemon.wait() == 1
    assert "can be written by everybody" in daemon.log()


def test_nobody_else_listens(daemons: Callable[..., Daemon]) -> None:
    """By default there is one tcp socket, for metrics, and it is on loopback."""
    daemon = daemons().start()
    own = {Path(fd).readlink().name for fd in Path(f"/proc/{daemon.pid}/fd").glob("*") if fd.is_symlink()}
    inodes = {name.removeprefix("socket:[").rstrip("]") for name in own if name.startswith("socket:[")}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [row[1] for row in rows if row[3] == "0A" and row[9] in inodes]
    loopback = socket.inet_aton("127.0.0.1")[::-1].hex().upper()
    assert listening == [f"{loopback}:{daemon.metrics_port:04X}"]

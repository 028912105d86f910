"""Key files: how keygen makes them, who may read them, and which a client takes."""

import os
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from supplierd_client import Publisher, Worker
from zmq.utils import z85

from supplierd.cli import main
from supplierd.config import grants, load
from supplierd.core.access import Grant, Role
from supplierd.transport.curve import new_pair
from supplierd.wire.keys import (
    MAX_FILE_BYTES,
    ClientKeys,
    KeyPair,
    client_keys,
    is_key,
    read_pair,
    read_private,
    read_public,
    write,
)
from tests.support.daemon import Daemon

TCP = "tcp://192.0.2.1:5600"


def command(*arguments: object) -> Result:
    """Run `supplierd` with these arguments, here."""
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture
def pair(tmp_path: Path) -> KeyPair:
    """A key pair in own.secret, and daemon.public."""
    made = new_pair()
    write(tmp_path / "own.secret", f'public = "{made.public}"\nsecret = "{made.secret}"\n', 0o600)
    write(tmp_path / "daemon.public", f'public = "{made.public}"\n', 0o644)
    return made


# --- keygen -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["publisher", "worker", "monitor", "server"])
def test_keygen_makes_a_secret_and_a_public_file(role: str, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    done = command("keygen", role, "cam-1", "--dir", folder)
    assert done.exit_code == 0, done
    secret, public = folder / "cam-1.secret", folder / "cam-1.public"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(public.stat().st_mode) == 0o644
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    made = read_pair(secret)
    assert made.secret not in done.output + public.read_text()
    table = tomllib.loads(done.stdout)
    if role == "server":
        assert table == {"security": {"server_key": str(secret)}}
        assert read_public(public) == made.public
    else:
        assert table == {"keys": {"cam-1": {"role": role, "public": made.public}}}
        assert tomllib.loads(public.read_text()) == table


def test_what_keygen_prints_is_a_configuration(tmp_path: Path) -> None:
    printed = [
        command("keygen", role, name, "--dir", tmp_path).stdout
        for role, name in [("server", "main"), ("publisher", "cam.1"), ("worker", "pose"), ("monitor", "ops")]
    ]
    config = tmp_path / "supplierd.toml"
    config.write_text("".join(printed))
    assert sorted(grants(load(config)).values(), key=lambda grant: grant.name) == [
        Grant("cam.1", Role.PUBLISHER, streams=("cam.1",)),
        Grant("ops", Role.MONITOR),
        Grant("pose", Role.WORKER, worker="pose"),
    ]


def test_keygen_overwrites_nothing_and_takes_no_odd_name(tmp_path: Path) -> None:
    assert command("keygen", "worker", "pose", "--dir", tmp_path).exit_code == 0
    before = (tmp_path / "pose.secret").read_text()
    again = command("keygen", "worker", "pose", "--dir", tmp_path)
    assert again.exit_code == 1
    assert "pose.secret exists, and a key is never overwritten" in again.stderr
    assert (tmp_path / "pose.secret").read_text() == before
    odd = command("keygen", "worker", "../pose", "--dir", tmp_path)
    assert odd.exit_code == 1
    assert "key name '../pose' is not allowed" in odd.stderr


@pytest.mark.parametrize("place", ["/proc", "/proc/keys-of-mine"])
def test_keygen_says_where_it_cannot_write(place: str) -> None:
    done = command("keygen", "worker", "pose", "--dir", place)
    assert done.exit_code == 1
    assert place in done.stderr
    assert "cannot be written: " in done.stderr
    assert "; choose another --dir" in done.stderr


def test_a_key_file_is_0600_whatever_the_umask(tmp_path: Path) -> None:
    former = os.umask(0)
    try:
        write(tmp_path / "k", "secret", 0o600)
    finally:
        os.umask(former)
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o600


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_pair_is_read_and_its_secret_never_shown(pair: KeyPair, tmp_path: Path) -> None:
    assert read_pair(tmp_path / "own.secret") == pair
    assert read_public(tmp_path / "daemon.public") == pair.public
    assert pair.secret not in repr(pair) + repr(ClientKeys(pair, pair.public))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o601])
@pytest.mark.parametrize("read", [read_pair, read_private])
def test_a_secret_that_others_can_read_is_refused(
    pair: KeyPair, tmp_path: Path, mode: int, read: Callable[[Path], object]
) -> None:
    path = tmp_path / "own.secret"
    if os.getuid() == 0:
        os.chown(path, 0, 1)
    path.chmod(mode)
    with pytest.raises(ValueError, match=f"can be read by others .mode {mode:04o}.*chmod 600 {path}"):
        read(path)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a file that is root's")
def test_a_credential_of_systemd_is_taken(pair: KeyPair, tmp_path: Path) -> None:
    """It is root's, with an access list for one user, which shows as a readable group."""
    path = tmp_path / "own.secret"
    path.chmod(0o440)
    assert read_pair(path) == pair
    for mode in (0o460, 0o444):
        path.chmod(mode)
        with pytest.raises(ValueError, match="can be read by others"):
            read_pair(path)


def test_a_secret_of_another_user_is_refused(pair: KeyPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    if os.stat(tmp_path / "own.secret").st_uid:
        with pytest.raises(ValueError, match="belongs to another user"):
            read_pair(tmp_path / "own.secret")
    else:  # root's is anybody's who can read it
        assert read_pair(tmp_path / "own.secret") == pair


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no key pair"),
        (b"not TOML", "holds no key pair"),
        (b'public = "short"\nsecret = "short"\n', "holds no key pair"),
        (b"public = 1\nsecret = 2\n", "holds no key pair"),
        (b"\xff\xfe", "is not a key file"),
        (b"#" * (MAX_FILE_BYTES + 1), "is not a key file"),
    ],
)
def test_what_is_no_key_file_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "k"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ValueError, match=words):
        read_pair(path)


def test_a_missing_file_a_directory_and_a_pipe_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, words in [("missing", "No such file"), (".", "Is a directory|is not a file"), ("pipe", "is not a file")]:
        with pytest.raises(ValueError, match=words):
            read_pair(tmp_path / name)


def test_a_secret_file_is_not_taken_for_the_servers_public_one(pair: KeyPair, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not the file of a daemon's public key"):
        read_public(tmp_path / "own.secret")


@given(st.binary(min_size=32, max_size=32))
def test_every_key_is_one(key: bytes) -> None:
    assert is_key(z85.encode(key).decode())


@given(st.one_of(st.text(max_size=45), st.none(), st.integers(), st.just("#" * 40), st.just("%nSc0" * 8)))
def test_nothing_else_is_one(value: object) -> None:
    assert not is_key(value) or len(z85.decode(str(value))) == 32


# --- which keys a client shows ----------------------------------------------------------------------------------------


def test_arguments_go_before_variables(pair: KeyPair, tmp_path: Path) -> None:
    own, server = tmp_path / "own.secret", tmp_path / "daemon.public"
    keys = ClientKeys(pair, pair.public)
    environ = {"SUPPLIERD_KEY": str(own), "SUPPLIERD_SERVER_KEY": str(server)}
    assert client_keys(TCP, own, server, {}) == keys
    assert client_keys(TCP, None, None, environ) == keys
    assert client_keys(TCP, own, server, dict.fromkeys(environ, "/nowhere")) == keys
    assert client_keys(TCP, None, None, {}) is None


def test_on_ipc_no_key_is_even_read() -> None:
    assert client_keys("ipc:///run/x", "/nowhere", "/nowhere", {"SUPPLIERD_KEY": "/nowhere"}) is None


def test_one_key_of_two_is_an_error(pair: KeyPair, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give server_key or SUPPLIERD_SERVER_KEY, too"):
        client_keys(TCP, tmp_path / "own.secret", None, {})
    with pytest.raises(ValueError, match="give key or SUPPLIERD_KEY, too"):
        client_keys(TCP, None, tmp_path / "daemon.public", {})


@pytest.mark.parametrize("make", [Publisher, Worker])
def test_a_client_with_an_unusable_key_says_so_at_once(
    make: Callable[..., object], pair: KeyPair, tmp_path: Path
) -> None:
    own, where = tmp_path / "own.secret", "inbox" if make is Publisher else "control"
    own.chmod(0o644)
    with pytest.raises(ValueError, match="chmod 600"):
        make("pose", **{where: TCP}, key=own, server_key=tmp_path / "daemon.public")


def test_commands_with_an_unusable_key_say_so(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    for name in ["stats", "top"]:
        done = command(name, "--control", TCP, "--key", missing, "--server-key", missing)
        assert done.exit_code == 2, done
        assert "missing cannot be read: No such file" in done.stderr


def test_a_daemon_with_an_unusable_key_does_not_start(daemons: Callable[..., Daemon], home: Path) -> None:
    path = home / "server.secret"
    made = new_pair()
    write(path, f'public = "{made.public}"\nsecret = "{made.secret}"\n', 0o644)
    daemon = daemons(f'[security]\nserver_key = "{path}"\n')
    daemon.launch()
    assert daemon.wait() == 1
    assert f"chmod 600 {path}" in daemon.log()

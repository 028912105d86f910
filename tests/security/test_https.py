"""Before /metrics: TLS and passwords, and neither lets one client keep the others out."""

import base64
import http.client
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supplierd.daemon.https import OPEN, Protection
from tests.support.daemon import Daemon
from tests.support.scrape import get
from tests.support.waiting import DEADLINE, wait_for

OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="openssl makes the certificate")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for 127.0.0.1, its key, and a file of users."""
    folder = tmp_path_factory.mktemp("tls")
    (folder / "users").write_text("# who may scrape\nprometheus:pass:word\nguest:x\n")
    (folder / "users").chmod(0o600)
    if OPENSSL is not None:
        subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-nodes"]
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        out = ["-keyout", f"{folder}/key", "-out", f"{folder}/certificate"]
        subprocess.run([OPENSSL, "req", "-x509", *curve, *subject, *out], check=True, capture_output=True)
        (folder / "key").chmod(0o600)
    return folder


@pytest.fixture(scope="module")
def daemon(files: Path) -> Iterator[Daemon]:
    started = Daemon(
        files,
        f"""
        [metrics]
        tls_certificate = "{files}/certificate"
        tls_key = "{files}/key"
        basic_auth_file = "{files}/users"
        """,
    ).start()
    yield started
    started.close()


def port(daemon: Daemon) -> int:
    (line,) = daemon.logged("metrics=https://127.0.0.1:")
    return int(line.partition("metrics=https://127.0.0.1:")[2].partition("/")[0])


def status(daemon: Daemon, files: Path, authorization: str | None = None, path: str = "/metrics") -> int:
    trusted = ssl.create_default_context(cafile=str(files / "certificate"))
    connection = http.client.HTTPSConnection("127.0.0.1", port(daemon), timeout=DEADLINE, context=trusted)
    try:
        connection.request("GET", path, headers={"Authorization": authorization} if authorization else {})
        response = connection.getresponse()
        body = response.read().decode()
        assert ("supplierd_build_info" in body) == (response.status == 200 and path == "/metrics")
        assert response.status != 401 or response.getheader("WWW-Authenticate") == 'Basic realm="supplierd"'
        return response.status
    finally:
        connection.close()


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@needs_openssl
@pytest.mark.parametrize("user", ["prometheus:pass:word", "guest:x"])
def test_with_a_password_it_is_served_over_https(daemon: Daemon, files: Path, user: str) -> None:
    assert wait_for(lambda: status(daemon, files, basic(user)), "the exporter") == 200


@needs_openssl
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        basic("prometheus:wrong"),
        basic("prometheus:"),
        basic("nobody:"),
        basic("nobody:x"),
        basic(":"),
        basic("guest"),
        "Basic",
        "Basic !",
        "Basic w6k",
        "Bearer x",
        f"Digest {basic('guest:x')[6:]}",
    ],
)
@pytest.mark.parametrize("path", ["/metrics", "/"])
def test_without_the_right_password_nothing_is_told(
    daemon: Daemon, files: Path, authorization: str | None, path: str
) -> None:
    assert status(daemon, files, authorization, path) == 401


@needs_openssl
def test_silent_and_plain_clients_keep_nobody_out(daemon: Daemon, files: Path) -> None:
    with socket.create_connection(("127.0.0.1", port(daemon)), DEADLINE):
        with pytest.raises((http.client.HTTPException, OSError)):
            get(port(daemon), "/metrics")
        assert status(daemon, files, basic("guest:x")) == 200


def test_without_files_it_is_open() -> None:
    assert OPEN.tls() is None
    assert OPEN.users() is None


@pytest.mark.parametrize("content", ["", "# nobody\n", "nobody\n", "nobody:\n", "one:a\none:b\n", ":x\nno colon\n"])
def test_a_file_of_users_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "users"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ValueError, match="needs one or more lines USER:PASSWORD"):
        Protection(basic_auth_file=path).users()


def test_a_file_of_users_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("guest:x\n")
    path.chmod(0o604)
    with pytest.raises(ValueError, match=f"chmod 600 {path}"):
        Protection(basic_auth_file=path).users()


@needs_openssl
def test_tls_files_that_cannot_be_used_are_refused(files: Path, tmp_path: Path) -> None:
    readable = tmp_path / "key"
    shutil.copy(files / "key", readable)
    readable.chmod(0o644)
    with pytest.raises(ValueError, match="chmod 600"):
        Protection(files / "certificate", readable).tls()
    with pytest.raises(ValueError, match="PEM files that belong together"):
        Protection(files / "users", files / "key").tls()
    with pytest.raises(ValueError, match=f"metrics.tls_certificate {tmp_path}/missing cannot be read: No such file"):
        Protection(tmp_path / "missing", files / "key").tls()
    encrypted = tmp_path / "encrypted"
    command = f"openssl pkey -in {files}/key -out {encrypted} -aes256 -passout pass:secret"
    subprocess.run(command.split(), check=True)
    encrypted.chmod(0o600)
    with pytest.raises(ValueError, match=f"metrics.tls_key {encrypted} is encrypted"):
        Protection(files / "certificate", encrypted).tls()


def test_a_daemon_with_unusable_files_does_not_start(daemons: Callable[..., Daemon]) -> None:
    daemon = daemons('[metrics]\nbasic_auth_file = "/nowhere/users"\n')
    daemon.launch()
    assert daemon.wait() == 1
    assert "/nowhere/users cannot be read" in daemon.log()

"""What can stand before /metrics: TLS, and passwords (basic authentication).

The handshake of TLS happens in the request's own thread and within the request's time limit: a peer that connects and
says nothing must not keep others out.
"""

import base64
import binascii
import hmac
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from supplierd.wire.keys import read_private

if TYPE_CHECKING:
    import ssl

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Protection(NamedTuple):
    """The files that the configuration names; None where it names none."""

    tls_certificate: Path | None = None
    tls_key: Path | None = None
    basic_auth_file: Path | None = None

    def tls(self) -> "ssl.SSLContext | None":
        """What TLS needs; None for plain http.

        Raises:
            ValueError: the files cannot be used.
        """
        if self.tls_certificate is None or self.tls_key is None:
            return None
        import ssl  # two megabytes, which the daemon does without where there is no TLS

        read_private(self.tls_key)
        try:
            self.tls_certificate.open("rb").close()
        except OSError as error:
            text = f"metrics.tls_certificate {self.tls_certificate} cannot be read: {error.strerror}"
            raise ValueError(f"{text}; name a PEM file that this user can read") from None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.tls_certificate, self.tls_key, password=self._no_password)
        except (ssl.SSLError, OSError) as error:
            raise ValueError(
                f"{self.tls_certificate} and {self.tls_key} cannot be used for TLS: {error.strerror or error}; "
                "metrics.tls_certificate and metrics.tls_key need PEM files that belong together"
            ) from None
        return context

    def _no_password(self) -> str:
        text = f"metrics.tls_key {self.tls_key} is encrypted, and nobody is here to give a password: use a key without"
        raise ValueError(text)

    def users(self) -> Mapping[str, str] | None:
        """Passwords by user; None where everybody may scrape.

        Raises:
            ValueError: the file cannot be used.
        """
        if self.basic_auth_file is None:
            return None
        lines = [line for line in read_private(self.basic_auth_file).splitlines() if line and not line.startswith("#")]
        users = dict(line.split(":", 1) for line in lines if ":" in line)
        if not lines or len(users) < len(lines) or not all(users.values()):
            raise ValueError(f"{self.basic_auth_file} needs one or more lines USER:PASSWORD, each user once")
        return users


OPEN: Final = Protection()
"""None: plain http, and everybody may scrape."""
OPTIONS: Final = ("--tls-certificate", "--tls-key", "--basic-auth-file")
"""A Protection on a command line."""


def protected(application: Application, users: Mapping[str, str]) -> Application:
    """`application` for those who know a user's password."""

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if _knows(environ.get("HTTP_AUTHORIZATION", ""), users):
            return application(environ, start_response)
        body = b"a user and a password of metrics.basic_auth_file are needed\n"
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
        start_response("401 Unauthorized", [*headers, ("WWW-Authenticate", 'Basic realm="supplierd"')])
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

    return guarded


def _knows(authorization: str, users: Mapping[str, str]) -> bool:
    scheme, _, credentials = authorization.partition(" ")
    try:
        user, _, password = base64.b64decode(credentials, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return False
    wanted = users.get(user.decode(errors="replace"))
    return hmac.compare_digest(password, (wanted or "").encode()) and wanted is not None and scheme.lower() == "basic"

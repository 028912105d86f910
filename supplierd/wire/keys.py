"""Key files: what they hold, who may read them, and how both sides load them.

A key pair is one file of TOML, NAME.secret, that nobody but its owner can read; what others need of it stands in
NAME.public. Keys are 32 bytes in Z85, the text that ZeroMQ uses: 40 characters, none of which is a quote or a
backslash.
"""

import os
import stat
import tomllib
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Final, NamedTuple

KEY_VARIABLE: Final = "SUPPLIERD_KEY"
SERVER_KEY_VARIABLE: Final = "SUPPLIERD_SERVER_KEY"
"""The client's key file, and the daemon's public key file, where no argument names them."""
SECRET_SUFFIX: Final = ".secret"
PUBLIC_SUFFIX: Final = ".public"
MAX_FILE_BYTES: Final = 16 * 1024
"""A key file has some hundred bytes: whatever is longer is something else."""

ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
KEY_CHARACTERS: Final = 40
_DIGITS: Final = {character: digit for digit, character in enumerate(ALPHABET)}

_Path = str | os.PathLike[str]


class KeyPair(NamedTuple):
    """A key pair, as Z85 text."""

    public: str
    secret: str

    def __repr__(self) -> str:
        return f"KeyPair({self.public})"


class ClientKeys(NamedTuple):
    """What a client needs to be let in: its own key pair, and the daemon's public key."""

    own: KeyPair
    server: str


def is_key(value: object) -> bool:
    """Whether `value` is 32 bytes in Z85."""
    if not isinstance(value, str) or len(value) != KEY_CHARACTERS or not _DIGITS.keys() >= set(value):
        return False
    return all(_number(value[i : i + 5]) < 1 << 32 for i in range(0, KEY_CHARACTERS, 5))


def _number(group: str) -> int:
    return reduce(lambda number, character: 85 * number + _DIGITS[character], group, 0)


def client_keys(
    endpoint: str, key: _Path | None, server_key: _Path | None, environ: Mapping[str, str] | None = None
) -> ClientKeys | None:
    """The keys for a connection to `endpoint`: None on ipc, where files' modes decide, and where none are named.

    Args:
        endpoint: of the daemon.
        key: the client's NAME.secret; None: $SUPPLIERD_KEY.
        server_key: the daemon's NAME.public; None: $SUPPLIERD_SERVER_KEY.
        environ: the environment; default: the process's.

    Raises:
        ValueError: only one of the two is named, or a file cannot be used.
    """
    environ = os.environ if environ is None else environ
    key, server_key = key or environ.get(KEY_VARIABLE), server_key or environ.get(SERVER_KEY_VARIABLE)
    if endpoint.startswith("ipc://") or (not key and not server_key):
        return None
    if not key or not server_key:
        missing = f"server_key or {SERVER_KEY_VARIABLE}" if key else f"key or {KEY_VARIABLE}"
        raise ValueError(f"only one of two keys is named: give {missing}, too, or neither")
    return ClientKeys(read_pair(key), read_public(server_key))


def read_pair(path: _Path) -> KeyPair:
    """The key pair in a NAME.secret file.

    Raises:
        ValueError: it cannot be read, others can read it, or it holds no key pair.
    """
    values = _read(path, secret=True)
    pair = values.get("public"), values.get("secret")
    if not all(map(is_key, pair)):
        raise ValueError(f"{path} holds no key pair: name the NAME{SECRET_SUFFIX} file that `supplierd keygen` made")
    return KeyPair(str(pair[0]), str(pair[1]))


def read_public(path: _Path) -> str:
    """The daemon's public key in its NAME.public file.

    Raises:
        ValueError: it cannot be read, or holds something else.
    """
    values = _read(path, secret=False)
    public = values.get("public")
    if not is_key(public) or "secret" in values:
        raise ValueError(
            f"{path} is not the file of a daemon's public key: name the NAME{PUBLIC_SUFFIX} file that "
            "`supplierd keygen server NAME` made"
        )
    return str(public)


def read_private(path: _Path) -> str:
    """The text of a file that nobody but this user (or root) can read.

    Raises:
        ValueError: it cannot be read, is too long, or others can read it.
    """
    return _text(path, secret=True)


def write(path: Path, text: str, mode: int) -> None:
    """Make a file that does not exist yet.

    Raises:
        ValueError: it cannot be made.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        raise ValueError(f"{path} exists, and a key is never overwritten: choose another NAME or --dir") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}; choose another --dir") from None
    with open(descriptor, "w", encoding="ascii") as file:
        os.fchmod(descriptor, mode)  # whatever the umask is
        file.write(text)


def _read(path: _Path, *, secret: bool) -> Mapping[str, object]:
    try:
        return tomllib.loads(_text(path, secret=secret))
    except tomllib.TOMLDecodeError:
        return {}


def _text(path: _Path, *, secret: bool) -> str:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(f"{path} is not a file: name a key file")
            # systemd's credentials are root's, and their one reader's bit stands where the group's is.
            exposed = 0o037 if status.st_uid == status.st_gid == 0 else 0o077
            if secret and status.st_mode & exposed:
                raise ValueError(
                    f"{path} can be read by others (mode {stat.S_IMODE(status.st_mode):04o}), so it is no secret: "
                    f"chmod 600 {path}, and make a new key if it may have been read"
                )
            if secret and status.st_uid not in (0, os.getuid()):
                raise ValueError(
                    f"{path} belongs to another user (uid {status.st_uid}): it must be this user's, or root's"
                )
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}; name a key file that this user can read") from None
    if len(content) > MAX_FILE_BYTES or not content.isascii():
        raise ValueError(f"{path} is not a key file: it is longer than {MAX_FILE_BYTES} bytes, or not plain text")
    return content.decode("ascii")

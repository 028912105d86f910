"""`supplierd keygen`: a key pair as files, and on standard output what goes into the daemon's configuration."""

from pathlib import Path

import click

from supplierd.core.access import Role
from supplierd.transport.curve import new_pair
from supplierd.wire.keys import PUBLIC_SUFFIX, SECRET_SUFFIX, KeyPair, write
from supplierd.wire.names import check_name

SERVER = "server"


@click.command()
@click.argument("role", type=click.Choice([*(role.value for role in Role), SERVER]))
@click.argument("name")
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where the files are made.  [default: here]",
)
def keygen(role: str, name: str, directory: Path) -> None:
    """Make a key: NAME.secret, which nobody else may read, and NAME.public.

    A publisher's NAME is the stream that it may publish, and a worker's the worker that it may be, unless the table
    that is printed is changed. It goes into the configuration, and SIGHUP puts it in force. Publishers, workers
    and monitors need their own NAME.secret and the server's NAME.public.
    """
    try:
        check_name("key", name)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        secret, public = (directory.resolve() / f"{name}{suffix}" for suffix in (SECRET_SUFFIX, PUBLIC_SUFFIX))
        pair = new_pair()
        write(secret, _secret_file(role, name, pair), 0o600)
        write(public, _public_file(role, name, pair), 0o644)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        text = f"{error.filename or directory} cannot be written: {error.strerror}; choose another --dir"
        raise click.ClickException(text) from None
    click.echo(f"made {secret}, a secret, and {public}; for the daemon's configuration:", err=True)
    click.echo(f'[security]\nserver_key = "{secret}"' if role == SERVER else _table(role, name, pair))


def _secret_file(role: str, name: str, pair: KeyPair) -> str:
    return (
        f"# Key of {role} {name}, SECRET: whoever can read it can pass for {name}. Keep its mode 0600.\n"
        f'public = "{pair.public}"\nsecret = "{pair.secret}"\n'
    )


def _public_file(role: str, name: str, pair: KeyPair) -> str:
    if role == SERVER:
        return f'# Public key of the daemon {name}: its clients need it.\npublic = "{pair.public}"\n'
    return f"# For the daemon's configuration.\n{_table(role, name, pair)}\n"


def _table(role: str, name: str, pair: KeyPair) -> str:
    table = name if "." not in name else f'"{name}"'
    return f'[keys.{table}]\nrole = "{role}"\npublic = "{pair.public}"'

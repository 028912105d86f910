"""The commands. Each parses its options, calls what does the work, and turns errors into a message and a status."""

import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

import supplierd
from supplierd import logs
from supplierd.arena import holding
from supplierd.cli.keygen import keygen
from supplierd.config import Config, ConfigError, entries, json_schema, load
from supplierd.core.health import violations
from supplierd.core.snapshot import Snapshot
from supplierd.daemon.serve import StartError, serve
from supplierd.table import as_document, render
from supplierd.transport.monitor import Monitor, NoAnswerError
from supplierd.transport.sockets import LIBZMQ, TransportError
from supplierd.wire import control
from supplierd.wire.endpoints import check_endpoint, control_endpoint, runtime_dir, unusable
from supplierd.wire.keys import KEY_VARIABLE, SERVER_KEY_VARIABLE, ClientKeys, client_keys

VIOLATION: Final = 1
FAILURE: Final = 2
"""Exit statuses of `stats --check`: a promise is broken; nobody could be asked."""

_F = TypeVar("_F", bound=Callable[..., Any])


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Distribute live video frames to workers: always the freshest, never a queue."""


main.add_command(keygen)


def _config_options(command: _F) -> _F:
    """The options that put something in the configuration's place; each can be set by an environment variable."""
    for option in (
        click.option(
            "--log-format", envvar="SUPPLIERD_LOG_FORMAT", metavar="FORMAT", help="auto, text, journal or json."
        ),
        click.option(
            "--log-level", envvar="SUPPLIERD_LOG_LEVEL", metavar="LEVEL", help="debug, info, warning or error."
        ),
        click.option(
            "--metrics-address",
            envvar="SUPPLIERD_METRICS_ADDRESS",
            metavar="HOST:PORT",
            help="Where /metrics is served.",
        ),
        click.option(
            "--runtime-dir",
            envvar="SUPPLIERD_RUNTIME_DIR",
            metavar="DIR",
            help="Where the sockets and shared memory are.",
        ),
        click.option("--config", envvar="SUPPLIERD_CONFIG", type=click.Path(path_type=Path), help="The TOML file."),
    ):
        command = option(command)
    return command


def _monitor_options(command: _F) -> _F:
    """Where the daemon is, and the keys that it asks for over tcp."""
    for option in (
        click.option(
            "--server-key", envvar=SERVER_KEY_VARIABLE, metavar="FILE", help="The daemon's public key file, for tcp."
        ),
        click.option("--key", envvar=KEY_VARIABLE, metavar="FILE", help="A monitor's secret key file, for tcp."),
        click.option(
            "--control", metavar="ENDPOINT", help="The daemon's control endpoint, if not in the runtime directory."
        ),
        click.option(
            "--runtime-dir", envvar="SUPPLIERD_RUNTIME_DIR", metavar="DIR", help="The daemon's runtime directory."
        ),
    ):
        command = option(command)
    return command


def _load(config: Path | None, **overrides: str | None) -> Config:
    try:
        return _read(config, **overrides)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None


def _read(config: Path | None, **overrides: str | None) -> Config:
    """The configuration. Raises ConfigError."""
    keys = {
        "runtime_dir": "daemon.runtime_dir",
        "metrics_address": "metrics.address",
        "log_level": "log.level",
        "log_format": "log.format",
    }
    return load(config, {keys[name]: value for name, value in overrides.items()})


@main.command()
@_config_options
def run(config: Path | None, **overrides: str | None) -> None:
    """Run the daemon until SIGTERM or SIGINT.

    Without a configuration it takes any stream and any worker, with class normal. Each option can also be set by the
    environment variable SUPPLIERD_ and its name in capitals.
    """
    loaded = _load(config, **overrides)
    logs.setup(loaded.log.level, loaded.log.format)
    try:
        serve(loaded, load=lambda: _read(config, **overrides))
    except StartError as error:
        raise click.ClickException(str(error)) from None


@main.command("check-config")
@_config_options
@click.option("--explain", is_flag=True, help="List every key with its meaning, range and default.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of the configuration.")
def check_config(config: Path | None, explain: bool, schema: bool, **overrides: str | None) -> None:
    """Check a configuration: exit 0 and say so, or list everything that is wrong with it.

    Keys, certificates and passwords are not read: they may be the service's alone, and the daemon reads them at its
    start.
    """
    if explain:
        click.echo("\n".join(map(str, entries())))
    if schema:
        click.echo(json.dumps(json_schema(), indent=2))
    if explain or schema:
        return
    loaded = _load(config, **overrides)
    click.echo(f"{config or 'the default configuration'} is fine: {len(loaded.workers)} workers configured")


def _number(ctx: click.Context, param: click.Parameter, value: float) -> float:
    """Refuse what no range refuses."""
    if math.isnan(value):
        raise click.BadParameter("nan is not a number", ctx, param)
    return value


@main.command()
@_monitor_options
@click.option("--json", "as_json", is_flag=True, help="Print the snapshot as JSON.")
@click.option("--watch", is_flag=True, help="Repeat every second, until Ctrl-C.")
@click.option(
    "--check", is_flag=True, help="Exit 1 where a promise is broken, and say which; 2 where no daemon answers."
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 3600, min_open=True),
    callback=_number,
    default=2.0,
    show_default=True,
    help="Seconds to wait for the daemon.",
)
def stats(*, as_json: bool, watch: bool, check: bool, timeout: float, **where: str | None) -> None:
    """Show what the daemon counts.

    --check fails where a worker of any class dropped more than its budget over the drop window, or a critical one is
    idle or missing.
    """
    if watch and check:
        raise click.UsageError("--watch goes on until Ctrl-C, and --check judges at the end: give one of them")
    endpoint, keys = _daemon(**where)
    try:
        monitor = Monitor(endpoint, keys)
    except TransportError as error:
        raise click.UsageError(unusable(endpoint, error.strerror)) from None
    try:
        _show_stats(monitor, as_json=as_json, watch=watch, check=check, timeout=timeout)
    except KeyboardInterrupt:
        return
    except OSError as error:  # status 1 is for broken promises
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is not written at the end
        if not isinstance(error, BrokenPipeError):  # whose reader has seen enough
            click.echo(f"Error: the statistics cannot be written: {error.strerror}", err=True)
        sys.exit(FAILURE)
    finally:
        monitor.close()


def _show_stats(monitor: Monitor, *, as_json: bool, watch: bool, check: bool, timeout: float) -> None:
    """Write what was asked for; exits with VIOLATION where a promise that was to be checked is broken."""
    before = None
    while True:
        snapshot = _ask(monitor, timeout)
        if watch and not as_json:
            click.clear()
        if as_json:
            click.echo(json.dumps(as_document(snapshot)))
        elif not check:
            click.echo(render(snapshot, before))
        if not watch:
            break
        before = snapshot
        time.sleep(1.0)
    if check:
        broken = violations(snapshot)
        for violation in broken:
            click.echo(violation.text, err=as_json)
        if broken:
            sys.exit(VIOLATION)
        click.echo("every promise is kept", err=as_json)


def _daemon(
    *, control: str | None, key: str | None, server_key: str | None, **directory: str | None
) -> tuple[str, ClientKeys | None]:
    """The control endpoint, and the keys for it."""
    try:
        endpoint = control or control_endpoint(runtime_dir(directory["runtime_dir"]))
        check_endpoint(endpoint)
        return endpoint, client_keys(endpoint, key, server_key)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _ask(monitor: Monitor, timeout: float) -> Snapshot:
    try:
        return Snapshot.from_wire(monitor.snapshot(timeout))
    except (NoAnswerError, ValueError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(FAILURE)


@main.command()
@_monitor_options
def top(**where: str | None) -> None:
    """Streams and workers live in the terminal: q quits, ? explains."""
    try:
        from supplierd.top.app import TopError, show
    except ModuleNotFoundError:
        raise click.ClickException('top needs Rich: pip install "supplierd[top]"') from None
    endpoint, keys = _daemon(**where)
    try:
        show(endpoint, keys)
    except TopError as error:
        raise click.ClickException(str(error)) from None
    except TransportError as error:
        raise click.UsageError(unusable(endpoint, error.strerror)) from None


@main.command()
@click.option("--source", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A video file.")
@click.option(
    "--seconds", type=click.FloatRange(min=0), callback=_number, default=0.0, help="End after so long; 0: at Ctrl-C."
)
def demo(source: Path | None, seconds: float) -> None:
    """Daemon, capture of a real clip and four real workers, with a live table; ends with the final ledger."""
    from supplierd.demo.show import DemoError, show

    try:
        sys.exit(show(source, seconds))
    except DemoError as error:
        raise click.ClickException(str(error)) from None


@main.command()
def version() -> None:
    """Print the versions of supplierd, its wire format and libzmq, and whether its hot modules are compiled."""
    how = "compiled" if holding.__file__.endswith(".so") else "pure Python"  # all of them, or none: see hatch_build.py
    click.echo(f"supplierd {supplierd.__version__}, wire {control.VERSION}, libzmq {LIBZMQ}, {how}")

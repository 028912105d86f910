"""From a TOML file and overrides to a Config, and from a Config to what the daemon's parts are given.

A configuration is refused as a whole, with every problem that it has: first each value by its kind, then what several
keys say together (`_conflicts`).
"""

import codecs
import os
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from supplierd.config import kinds
from supplierd.config.kinds import IPC, Problem
from supplierd.config.model import Config, KeyTable, StreamTable, WorkerTable, tables
from supplierd.config.table import Table, all_items, join, known_items, read
from supplierd.core.access import Grant, Role
from supplierd.core.service import ServiceClass, Settings, WorkerPolicy
from supplierd.wire.endpoints import CONTROL_SOCKET, INBOX_SOCKET, MAX_IPC_PATH_BYTES
from supplierd.wire.names import ANY_STREAM, check_name

_STRANGERS = (
    "loopback, because nothing listens to strangers; beyond it tcp needs CURVE or daemon.insecure = true: "
    "better security.server_key, which `supplierd keygen server` makes"
)
MAX_BYTES: Final = 1 << 20
"""Of a file: 1024 workers and as many keys, each with all it can have, take a third of it."""
MAX_DOTS: Final = 256
"""In one line: the parser's time grows by the square of a dotted key's parts; one of 64 KiB took 17 s."""
_NAMED: Mapping[str, Table] = {"streams": StreamTable(), "workers": WorkerTable(), "keys": KeyTable()}
"""What a table is in the sections whose tables people name."""


class ConfigError(ValueError):
    """A configuration that cannot be used.

    Attributes:
        source: the file, or "configuration" where there is none.
        problems: everything that is wrong with it.
    """

    def __init__(self, source: str, problems: Iterable[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        count = f"{len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}"
        super().__init__("\n  ".join([f"{source}: {count}", *map(str, self.problems)]))


def load(path: Path | None, overrides: Mapping[str, object] = MappingProxyType({})) -> Config:
    """The configuration in the TOML file `path`, or the defaults.

    Args:
        path: the file; None: there is none.
        overrides: values from options and environment by dotted key, such as "metrics.address"; they go before the
            file's. None stands for an option that was not given.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or holds something that is not allowed; or an override does.
    """
    source = "configuration" if path is None else str(path)
    document = {} if path is None else _parse(path, source)
    given = {key: value for key, value in overrides.items() if value is not None}
    for key, value in given.items():
        section, _, name = key.partition(".")
        table = document.setdefault(section, {})
        if isinstance(table, dict):
            table[name] = value
    problems: list[Problem] = []
    config = _read(document, problems)
    problems += _conflicts(config, config.daemon.runtime_dir or Path(), {key for key, _ in problems})
    if problems:
        raise ConfigError(source, (_by_option(problem, given) for problem in problems))
    return config


def resolve(config: Config, runtime_dir: Path) -> Config:
    """`config` with `runtime_dir` filled in, and each "ipc" made the concrete endpoint there.

    Args:
        config: as load() gives it.
        runtime_dir: an absolute path; `supplierd.wire.endpoints.runtime_dir` finds it.

    Raises:
        ConfigError: a socket's path is too long, or two endpoints turn out to be one.
    """
    problems = list(_conflicts(config, runtime_dir, frozenset()))
    if problems:
        raise ConfigError("configuration", problems)
    inbox = [
        replace(item, endpoint=_concrete(item.endpoint, runtime_dir / INBOX_SOCKET)) for item in config.inbox.endpoints
    ]
    control = [_concrete(item, runtime_dir / CONTROL_SOCKET) for item in config.control.endpoints]
    return replace(
        config,
        daemon=replace(config.daemon, runtime_dir=runtime_dir),
        inbox=replace(config.inbox, endpoints=tuple(inbox)),
        control=replace(config.control, endpoints=tuple(control)),
    )


def supplier_settings(config: Config) -> Settings:
    """What the core must know of `config`, each worker's class filled in."""

    def policy(worker: WorkerTable, *, configured: bool) -> WorkerPolicy:
        service_class = worker.service_class or config.daemon.default_class
        promised = config.classes[service_class]
        return WorkerPolicy(
            service_class=service_class,
            drop_budget=promised.drop_budget if worker.drop_budget is None else worker.drop_budget,
            idle_after=promised.idle_after if worker.idle_after is None else worker.idle_after,
            streams=worker.streams,
            target_fps=worker.target_fps,
            configured=configured,
            push=worker.delivery == "push",
        )

    daemon = config.daemon
    return Settings(
        workers={name: policy(worker, configured=True) for name, worker in config.workers.items()},
        streams=tuple(config.streams),
        unknown_worker=policy(WorkerTable(), configured=False) if daemon.accept_unknown_workers else None,
        accept_unknown_streams=daemon.accept_unknown_streams,
        max_workers=daemon.max_workers,
        max_streams=daemon.max_streams,
        drop_window=daemon.drop_window,
        stream_timeout=daemon.stream_timeout,
    )


def grants(config: Config) -> dict[str, Grant]:
    """What each public key may do."""
    found = {}
    for name, key in config.keys.items():
        assert key.role is not None, "load() refuses a key without it"
        assert key.public is not None, "load() refuses a key without it"
        streams = key.streams or (name,) if key.role is Role.PUBLISHER else ()
        worker = key.worker or name if key.role is Role.WORKER else ""
        found[key.public] = Grant(name, key.role, streams, worker)
    return found


def differences(before: Config, after: Config) -> list[str]:
    """The keys whose values differ, but for [keys], as dotted paths; a whole table where one of them lacks it."""
    found = []
    for item in fields(Config):
        old, new = getattr(before, item.name), getattr(after, item.name)
        if isinstance(old, Table):
            found += _differing(item.name, old, new)
        elif item.name != "keys":
            for name in sorted({*old, *new}):
                at = join(item.name, name)
                found += _differing(at, old[name], new[name]) if name in old and name in new else [at]
    return found


def _differing(at: str, old: Table, new: Table) -> list[str]:
    return [join(at, key) for key, attribute, _ in old.declared() if getattr(old, attribute) != getattr(new, attribute)]


def _parse(path: Path, source: str) -> dict[str, Any]:
    """The file's content. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(source, [Problem("file", f"cannot be read ({reason}); name a TOML file")]) from None
    if len(content) > MAX_BYTES:
        text = f"longer than {MAX_BYTES} bytes, allowed: at most that many; name the daemon's TOML file"
        raise ConfigError(source, [Problem("file", text)])
    content = content.removeprefix(codecs.BOM_UTF8)
    for index, found in enumerate(content.split(b"\n")):
        if (dots := found.count(b".")) > MAX_DOTS:
            text = f"line {index + 1} has {dots} dots, allowed: at most {MAX_DOTS} in a line; spread it over several"
            raise ConfigError(source, [Problem("TOML", text)])
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        problem = Problem("TOML", f"not UTF-8 (at line {line}, column {column})")
        raise ConfigError(source, [problem]) from None
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError(source, [Problem("TOML", "values are nested too deeply")]) from None
    except ValueError as error:
        lines = text.split("\n")
        end = f"at line {len(lines)}, column {len(lines[-1]) + 1}: the end of the file"
        problem = Problem("TOML", str(error).replace("at end of document", end))
        raise ConfigError(source, [problem]) from None


def _read(document: Mapping[str, object], problems: list[Problem]) -> Config:
    """The values in `document`, defaults elsewhere; `problems` gets what is refused by itself."""
    defaults = Config()
    values: dict[str, Any] = {}
    elsewhere = {key: f"{name}.{key}" for name, inner, table in tables() if not inner for key, _, _ in table.declared()}
    for section, raw in known_items(document, "", [item.name for item in fields(Config)], problems, elsewhere):
        default = getattr(defaults, section)
        if isinstance(default, Table):
            values[section] = read(default, raw, section, problems)
        elif section == "classes":
            values[section] = dict(default)
            for name, table in known_items(raw, section, list(ServiceClass), problems):
                values[section][ServiceClass(name)] = read(
                    default[ServiceClass(name)], table, join(section, name), problems
                )
        else:
            values[section] = {}
            for name, table in all_items(raw, section, problems):
                values[section][name] = read(_NAMED[section], table, join(section, name), problems)
                try:
                    check_name(section.removesuffix("s"), name)
                except ValueError as error:
                    problems.append(Problem(join(section, name), str(error)))
    return replace(defaults, **values)


def _conflicts(config: Config, runtime_dir: Path, refused: Collection[str]) -> Iterator[Problem]:
    """What several keys say together that cannot be; nothing about the keys in `refused`, which hold defaults."""
    yield from _endpoint_conflicts(config, runtime_dir)
    yield from _key_conflicts(config, refused)
    for section, limit in (("workers", config.daemon.max_workers), ("streams", config.daemon.max_streams)):
        if (count := len(getattr(config, section))) > limit:
            yield Problem(section, f"found {count} {section}, allowed: at most daemon.max_{section} = {limit}")
    for name, worker in config.workers.items():
        at = join("workers", name)
        if {f"{at}.delivery", f"{at}.endpoint"}.isdisjoint(refused):
            if worker.delivery == "push" and worker.endpoint is None:
                text = 'missing; delivery = "push" needs the endpoint to which the worker\'s socket connects'
                yield Problem(f"{at}.endpoint", text)
            if worker.delivery != "push" and worker.endpoint is not None:
                text = 'allowed: only with delivery = "push"; other workers are told their endpoint when they join'
                yield Problem(f"{at}.endpoint", f"{kinds.found(worker.endpoint)}, {text}")
        for index, stream in enumerate(worker.streams):
            if not (config.daemon.accept_unknown_streams or stream == ANY_STREAM or stream in config.streams):
                text = f"a stream with a [streams.{stream}], because daemon.accept_unknown_streams = false"
                yield Problem(f"{at}.streams[{index}]", f"{kinds.found(stream)}, allowed: {text}")


def _key_conflicts(config: Config, refused: Collection[str]) -> Iterator[Problem]:
    secured = config.security.server_key is not None
    if secured and config.daemon.insecure:
        text = "found true (boolean), allowed: false, because security.server_key asks for keys on every tcp endpoint"
        yield Problem("daemon.insecure", text)
    holders: dict[str, str] = {}
    for name, key in config.keys.items():
        at = join("keys", name)
        if not secured and "security.server_key" not in refused:
            yield Problem(at, "a key without a lock: set security.server_key, made by `supplierd keygen server`")
        for item, value in (("role", key.role), ("public", key.public)):
            if value is None and f"{at}.{item}" not in refused:
                yield Problem(f"{at}.{item}", "missing; `supplierd keygen ROLE NAME` prints a key's whole table")
        for item, given, role in (("streams", key.streams, Role.PUBLISHER), ("worker", key.worker, Role.WORKER)):
            if given is not None and key.role not in (role, None):
                yield Problem(f"{at}.{item}", f'{kinds.found(given)}, allowed: only with role = "{role}"')
        holder = holders.setdefault(key.public, at) if key.public else at
        if holder != at:
            yield Problem(
                f"{at}.public", f"{kinds.found(key.public)}, which {holder} has already; allowed: one role a key"
            )
    for one, other in (("tls_certificate", "tls_key"), ("tls_key", "tls_certificate")):
        if getattr(config.metrics, one) and not getattr(config.metrics, other) and f"metrics.{other}" not in refused:
            yield Problem(f"metrics.{other}", f"missing; metrics.{one} needs it")


def _endpoint_conflicts(config: Config, runtime_dir: Path) -> Iterator[Problem]:
    bound = [
        *((f"inbox.endpoints[{i}]", item.endpoint, INBOX_SOCKET) for i, item in enumerate(config.inbox.endpoints)),
        *((f"control.endpoints[{i}]", item, CONTROL_SOCKET) for i, item in enumerate(config.control.endpoints)),
        *((f"{join('workers', name)}.endpoint", item.endpoint or "", "") for name, item in config.workers.items()),
    ]
    keyed_or_insecure = config.daemon.insecure or config.security.server_key is not None
    holders: dict[str, str] = {}
    if config.metrics.enabled and config.metrics.address.port:
        holders[_canonical(f"tcp://{config.metrics.address}")] = "metrics.address"
    for key, configured, socket in bound:
        if not configured:
            continue
        endpoint = _concrete(configured, runtime_dir / socket)
        holder = holders.setdefault(_canonical(endpoint), key)
        if holder != key:
            yield Problem(key, f"{kinds.found(configured)}, which {holder} has already; allowed: one of its own")
        if endpoint.startswith("ipc://"):
            size = len(os.fsencode(endpoint.removeprefix("ipc://")))
            if size > MAX_IPC_PATH_BYTES:
                text = f"a path of at most {MAX_IPC_PATH_BYTES} bytes (a Unix socket's limit)"
                yield Problem(key, f"found {kinds.shortened(endpoint)} with a path of {size} bytes, allowed: {text}")
        elif not (keyed_or_insecure or kinds.is_loopback(kinds.split_host(endpoint.removeprefix("tcp://"))[0])):
            yield Problem(key, f"{kinds.found(configured)}, allowed: {_STRANGERS}")


def _concrete(endpoint: str, socket: Path) -> str:
    return f"ipc://{socket}" if endpoint == IPC else endpoint


def _canonical(endpoint: str) -> str:
    """Equal for spellings of the same place."""
    scheme, _, place = endpoint.partition("://")
    return os.path.normpath(place) if scheme == "ipc" else place.replace("localhost:", "127.0.0.1:")


def _by_option(problem: Problem, overrides: Collection[str]) -> Problem:
    """`problem`, with the option or variable named where the value came from one."""
    for key in overrides:
        if problem.key == key or problem.key.startswith(f"{key}["):
            words = key.removeprefix("daemon.").replace(".", "_")
            option = f"--{words.replace('_', '-')} or SUPPLIERD_{words.upper()}"
            return Problem(f"{option} ({problem.key})", problem.text)
    return problem

"""The configuration's tables. Each key is declared once, here: its kind, its default and one line of help.

Reading, the reference and the JSON Schema are derived from these declarations. A table is a frozen dataclass, each
field of which carries a Key; `Config()` is what the daemon uses without a file.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Literal

from supplierd.config import kinds
from supplierd.config.kinds import IPC, Address, Kind, Problem, RefusedError
from supplierd.config.table import Key, Table, read
from supplierd.core.access import Role
from supplierd.core.service import DEFAULT_DROP_BUDGET, DEFAULT_IDLE_AFTER, ServiceClass
from supplierd.wire.names import ANY_STREAM

KIB = 1024
MIB = 1024 * KIB
ANY_NAME = "NAME"
"""What stands for the name of a stream, worker or key in a path of the reference."""

_METRICS_ADDRESS = Address("127.0.0.1", 9108)
_WORKER_PORTS = range(49152, 65536)
_SWITCH = kinds.choice(True, False)
_CLASS = kinds.choice(*ServiceClass, member=ServiceClass)
_DROP_BUDGET = kinds.number(0, 1, "share of the frames due")
_IDLE_AFTER = kinds.number(0.1, 86400, "seconds")
_IDLE = "A worker that takes no waiting frame for so long is idle."


@dataclass(frozen=True, slots=True)
class InboxEndpoint(Table):
    """One place where publishers reach the daemon."""

    endpoint: Annotated[str, Key(kinds.endpoint(symbolic=True), "Where publishers connect.")] = IPC
    conflate: Annotated[
        bool | None,
        Key(
            kinds.choice("auto", True, False, member=lambda _: None),
            "The socket conflates (true) or is drained to its newest frame (false); auto: true for ipc.",
            absent='"auto"',
        ),
    ] = None

    def __str__(self) -> str:
        return self.endpoint


def _inbox_endpoint() -> Kind:
    text = kinds.endpoint(symbolic=True)

    def convert(value: object) -> object:
        if not isinstance(value, dict):
            return InboxEndpoint(str(text.convert(value)))
        problems: list[Problem] = []
        table = read(InboxEndpoint(), value, "", problems)
        if problems:
            raise RefusedError(*(Problem(f".{place}", what) for place, what in problems))
        return table

    words = f"{text.allowed}, or {{endpoint = …, conflate = …}}"
    return Kind(words, {"anyOf": [text.schema, InboxEndpoint().schema()]}, convert)


@dataclass(frozen=True, slots=True)
class Daemon(Table):
    """[daemon]: the daemon as a whole."""

    runtime_dir: Annotated[
        Path | None,
        Key(
            kinds.path(),
            "Where the sockets and the shared memory are.",
            absent="$SUPPLIERD_RUNTIME_DIR, /run/supplierd or the user's own",
        ),
    ] = None
    max_workers: Annotated[int, Key(kinds.integer(1, 1024, "workers"), "How many workers it knows at a time.")] = 128
    max_streams: Annotated[int, Key(kinds.integer(1, 256, "streams"), "How many streams it knows in all.")] = 32
    accept_unknown_workers: Annotated[bool, Key(_SWITCH, "Whether workers that are not configured may join.")] = True
    accept_unknown_streams: Annotated[bool, Key(_SWITCH, "Whether streams that are not declared are taken.")] = True
    default_class: Annotated[ServiceClass, Key(_CLASS, "Class of the workers that have none.")] = ServiceClass.NORMAL
    drop_window: Annotated[
        float, Key(kinds.number(1, 3600, "seconds"), "The span over which drop ratios are taken.")
    ] = 30.0
    stream_timeout: Annotated[
        float, Key(kinds.number(0.1, 3600, "seconds"), "A stream without frames for so long is silent.")
    ] = 5.0
    insecure: Annotated[
        bool, Key(_SWITCH, "Allow tcp endpoints beyond loopback without CURVE; logged at each start.")
    ] = False


@dataclass(frozen=True, slots=True)
class Inbox(Table):
    """[inbox]: where frames come in."""

    endpoints: Annotated[
        tuple[InboxEndpoint, ...], Key(kinds.array(_inbox_endpoint()), "Where publishers connect.")
    ] = (InboxEndpoint(),)
    max_message_bytes: Annotated[
        int, Key(kinds.integer(KIB, KIB * MIB, "bytes"), "The largest message that is read.")
    ] = 128 * MIB
    doorbell: Annotated[
        bool,
        Key(_SWITCH, "Publishers on this machine name frames by a doorbell; false: over ZeroMQ as all."),
    ] = True


@dataclass(frozen=True, slots=True)
class Control(Table):
    """[control]: where workers and monitors speak to the daemon."""

    endpoints: Annotated[
        tuple[str, ...],
        Key(kinds.array(kinds.endpoint(symbolic=True)), "Where workers and monitors connect."),
    ] = (IPC,)
    worker_ports: Annotated[range, Key(kinds.ports(), "Ports of the endpoints that tcp workers are given.")] = (
        _WORKER_PORTS
    )
    bell: Annotated[
        bool,
        Key(_SWITCH, "Workers on this machine get descriptors by a Unix socket; false: over ZeroMQ as all."),
    ] = True


@dataclass(frozen=True, slots=True)
class Metrics(Table):
    """[metrics]: the Prometheus endpoint."""

    enabled: Annotated[bool, Key(_SWITCH, "Whether statistics are served for Prometheus.")] = True
    address: Annotated[Address, Key(kinds.address(), "Where /metrics is served.")] = _METRICS_ADDRESS
    tls_certificate: Annotated[
        Path | None, Key(kinds.path(), "PEM file of the certificate, and its chain, for https.", absent="none: http")
    ] = None
    tls_key: Annotated[Path | None, Key(kinds.path(), "PEM file of the certificate's key.", absent="none: http")] = None
    basic_auth_file: Annotated[
        Path | None, Key(kinds.path(), "File with lines USER:PASSWORD: who may scrape.", absent="none: everybody")
    ] = None


@dataclass(frozen=True, slots=True)
class Security(Table):
    """[security]: whether keys are asked for."""

    server_key: Annotated[
        Path | None,
        Key(kinds.path(), "The daemon's key file; with it every tcp endpoint asks for keys.", absent="none: no keys"),
    ] = None


@dataclass(frozen=True, slots=True)
class Log(Table):
    """[log]: what is written, and how."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Key(kinds.choice("debug", "info", "warning", "error"), "The least severe events that are written."),
    ] = "info"
    format: Annotated[
        Literal["auto", "text", "journal", "json"],
        Key(kinds.choice("auto", "text", "journal", "json"), "auto: journal under systemd, else text."),
    ] = "auto"


@dataclass(frozen=True, slots=True)
class ClassTable(Table):
    """[classes.CLASS]: what the workers of one class are promised."""

    drop_budget: Annotated[float, Key(_DROP_BUDGET, "Tolerated drops.")] = 0.0
    idle_after: Annotated[float, Key(_IDLE_AFTER, _IDLE)] = DEFAULT_IDLE_AFTER


@dataclass(frozen=True, slots=True)
class StreamTable(Table):
    """[streams.NAME]: declares a stream; it has no keys."""


@dataclass(frozen=True, slots=True)
class WorkerTable(Table):
    """[workers.NAME]: a known worker."""

    service_class: Annotated[
        ServiceClass | None, Key(_CLASS, "How critical it is.", absent="daemon.default_class", name="class")
    ] = None
    streams: Annotated[tuple[str, ...], Key(kinds.stream_names(), "What it may see.")] = (ANY_STREAM,)
    target_fps: Annotated[
        float | None,
        Key(
            kinds.number(0, 1000, "frames per second of each stream", above=True),
            "The rate it is promised; a frame replaced before the next one is due is no drop.",
            absent="as many as it can take",
        ),
    ] = None
    drop_budget: Annotated[float | None, Key(_DROP_BUDGET, "Tolerated drops.", absent="its class's")] = None
    idle_after: Annotated[float | None, Key(_IDLE_AFTER, _IDLE, absent="its class's")] = None
    delivery: Annotated[
        Literal["on_demand", "push"],
        Key(kinds.choice("on_demand", "push"), "push: every frame, to a plain PULL socket without our client."),
    ] = "on_demand"
    endpoint: Annotated[
        str | None, Key(kinds.endpoint(symbolic=False), "Where it connects; only with push.", absent="none")
    ] = None


@dataclass(frozen=True, slots=True)
class KeyTable(Table):
    """[keys.NAME]: who may connect over tcp, and as what."""

    role: Annotated[
        Role | None, Key(kinds.choice(*Role, member=Role), "What it is for.", absent="none, it is needed")
    ] = None
    public: Annotated[str | None, Key(kinds.public_key(), "The public key.", absent="none, it is needed")] = None
    streams: Annotated[
        tuple[str, ...] | None,
        Key(kinds.stream_names(), "The streams that a publisher may publish.", absent="the stream of the key's name"),
    ] = None
    worker: Annotated[
        str | None, Key(kinds.name("worker"), "The worker that it may be.", absent="the worker of the key's name")
    ] = None


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration. `Config()` is the defaults."""

    daemon: Daemon = Daemon()
    inbox: Inbox = Inbox()
    control: Control = Control()
    metrics: Metrics = Metrics()
    security: Security = Security()
    log: Log = Log()
    classes: Mapping[ServiceClass, ClassTable] = field(
        default_factory=lambda: {name: ClassTable(DEFAULT_DROP_BUDGET[name]) for name in ServiceClass}
    )
    streams: Mapping[str, StreamTable] = field(default_factory=dict)
    workers: Mapping[str, WorkerTable] = field(default_factory=dict)
    keys: Mapping[str, KeyTable] = field(default_factory=dict)


def tables() -> Iterator[tuple[str, str, Table]]:
    """Every table that there can be, with its defaults: the section, the name in it or "", the table."""
    defaults = Config()
    for item in fields(Config):
        section = getattr(defaults, item.name)
        if isinstance(section, Table):
            yield item.name, "", section
    yield from (("classes", name, table) for name, table in defaults.classes.items())
    yield "streams", ANY_NAME, StreamTable()
    yield "workers", ANY_NAME, WorkerTable()
    yield "keys", ANY_NAME, KeyTable()

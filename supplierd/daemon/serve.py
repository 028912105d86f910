"""A daemon's life: start, loop, stop.

Start takes the locks before it binds, so that a second daemon fails at once and says who holds the sockets. Stop closes
the inbox, tells the workers, writes the final ledger into the log, and is over well within two seconds.
"""

import logging
import os
import signal
import socket
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final, TypeVar

import supplierd
from supplierd.config import Config, ConfigError, grants, resolve, supplier_settings
from supplierd.core.access import CONTROL, INBOX, LINK, Access
from supplierd.core.snapshot import Snapshot
from supplierd.core.supplier import Supplier
from supplierd.daemon.distribution import Distribution
from supplierd.daemon.exporter import Exporter
from supplierd.daemon.guard import Guard
from supplierd.daemon.https import Protection
from supplierd.daemon.notify import Reporter
from supplierd.daemon.parcels import Parcels
from supplierd.daemon.precedence import Precedence
from supplierd.daemon.presence import Presence
from supplierd.daemon.reload import Reload
from supplierd.logs import event
from supplierd.transport import sockets
from supplierd.transport.bells import Bells
from supplierd.transport.control import FAREWELL_MS, ControlChannel
from supplierd.transport.curve import Gatekeeper, Lock
from supplierd.transport.descriptors import Descriptors
from supplierd.transport.doorbells import DESCRIPTORS, MOST, Doorbells
from supplierd.transport.inbox import Inbox
from supplierd.transport.link import LinkFactory, remove_dead_links
from supplierd.transport.lock import IPC, HeldError, SocketLock
from supplierd.wire.doorbell import doorbell_path
from supplierd.wire.endpoints import BELL_SOCKET, control_endpoint, machine_boot_id, runtime_dir
from supplierd.wire.keys import read_pair

SOCKET_UMASK: Final = 0o117
"""Sockets are 0660: the group of the runtime directory may connect."""
PRIVATE_UMASK: Final = 0o177
"""Only this user may connect."""
RUNTIME_DIR_MODE: Final = 0o750
SPARE_BELLS: Final = 64
"""Connections beyond one for each worker: of workers that are just returning, and of strangers."""
_T = TypeVar("_T")

log = logging.getLogger("supplierd.daemon")


class StartError(Exception):
    """The daemon cannot start; the text says why and what to do."""


def serve(config: Config, ready: Callable[[], None] = lambda: None, load: Callable[[], Config] | None = None) -> None:
    """Run a daemon until SIGTERM or SIGINT. To be called in the main thread.

    Args:
        config: as supplierd.config.load gives it.
        ready: called once when all sockets are bound.
        load: gives the configuration anew on SIGHUP, or raises ConfigError; None: it does not change.

    Raises:
        StartError: a socket, an address or the runtime directory cannot be had.
    """
    with ExitStack() as stack:
        daemon = _start(config, load or (lambda: config), _Signals(stack), stack)
        daemon.reporter.ready()
        ready()
        reason = daemon.loop()
        daemon.reporter.stopping()
        daemon.distribution.stop(reason)
        log_ledger(daemon.distribution.snapshot())
        event(log, logging.INFO, "stopped", reason=reason)


class _Signals:
    """SIGTERM and SIGINT, from now to the end of the process: the first says stop, more of them change nothing.
    And SIGHUP, which says reload.

    Attributes:
        stopped_by: its number; 0 before it.
        descriptor: becomes readable with either.
    """

    def __init__(self, stack: ExitStack) -> None:
        self.stopped_by = 0
        self._reload = False
        wake_read, wake_write = socket.socketpair()
        for end in (wake_read, wake_write):
            end.setblocking(False)
            stack.callback(end.close)
        self._wake, self.descriptor = wake_read, wake_read.fileno()
        signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
        stack.callback(signal.set_wakeup_fd, -1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
            # The interpreter puts handlers of Python's back to the deadly default before it is gone.
            stack.callback(signal.signal, number, signal.SIG_IGN)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._reload = True
        else:
            self.stopped_by = self.stopped_by or number

    def take_reload(self) -> bool:
        """Whether a reload was asked for since the last call."""
        if not self._reload:
            return False
        self._reload = False  # before its bytes are read: a signal that comes in between is taken the next time
        with suppress(BlockingIOError):
            while self._wake.recv(64):
                pass
        return True


class _Daemon:
    """What runs between start and stop."""

    def __init__(
        self,
        distribution: Distribution,
        exporter: Exporter | None,
        signals: _Signals,
        reload: Reload,
        presence: Presence,
    ) -> None:
        self.distribution = distribution
        self._presence = presence
        self._reload = reload
        self.reporter = Reporter(distribution.supplier)
        self._exporter = exporter
        self._signals = signals
        distribution.wake_on(signals.descriptor)

    def loop(self) -> str:
        """Distribute until a signal says to stop; returns its name."""
        while not self._signals.stopped_by:
            self.distribution.turn()
            if self._signals.take_reload():
                self._reload()
            now = time.monotonic()
            self.reporter.turned(now)
            self._presence.look(now)
            if self._exporter is not None and not self._signals.stopped_by:
                ended = self._exporter.keep_running(now)
                if ended is not None:
                    event(log, logging.ERROR, "the metrics exporter ended and was started again", status=ended)
        return signal.Signals(self._signals.stopped_by).name


def _start(given: Config, load: Callable[[], Config], signals: _Signals, stack: ExitStack) -> _Daemon:
    try:
        directory = runtime_dir(given.daemon.runtime_dir)
        config = resolve(given, directory)
        pair = read_pair(config.security.server_key) if config.security.server_key else None
        _make_runtime_dir(directory)
        os.umask(SOCKET_UMASK)
        locks = _take_locks(config, directory, stack)
    except (HeldError, ConfigError, ValueError) as error:
        raise StartError(str(error)) from None
    remove_dead_links(directory)
    _raise_descriptor_limit(config.daemon.max_workers)
    if config.daemon.insecure:
        event(log, logging.WARNING, "daemon.insecure is set: anybody who can reach the tcp endpoints can use them")
    precedence = Precedence()
    precedence.go_first()
    stack.callback(precedence.close)
    threads = sockets.io_threads(config.daemon.max_workers)
    context = sockets.make_context(config.daemon.max_workers)
    stack.callback(context.destroy, linger=FAREWELL_MS)
    supplier = Supplier(supplier_settings(config), machine_boot_id(), time.monotonic_ns())
    guard = Guard(Access(grants(config)), supplier.rejected)
    gatekeeper = Gatekeeper(context, guard.admit) if pair else None

    def lock(domain: str) -> Lock | None:
        return Lock(pair, domain) if pair else None

    links = LinkFactory(context, threads, directory, config.control.worker_ports, lambda name: lock(LINK + name))
    limit = config.inbox.max_message_bytes
    parcels = Parcels(directory)  # before any peer can come: it finds the arena directory, or makes do without
    if parcels.warning:
        event(log, logging.WARNING, parcels.warning)
    inboxes = [
        _bound(item.endpoint, partial(Inbox, context, item.endpoint, item.conflate, limit, lock(INBOX)))
        for item in config.inbox.endpoints
    ]
    controls = [
        _bound(endpoint, partial(ControlChannel, context, endpoint, lock(CONTROL)))
        for endpoint in config.control.endpoints
    ]
    if not any(channel.local for channel in controls):
        controls.append(_private_channel(context, directory))
    exporter = _open_exporter(config, next(channel.endpoint for channel in controls if channel.local), stack)
    distribution = Distribution(
        supplier,
        inboxes,
        controls,
        links,
        parcels,
        guard=guard,
        gatekeeper=gatekeeper,
        max_message=limit,
        descriptors=Descriptors(),
        precedence=precedence,
        bells=_open_bells(directory, config.daemon.max_workers) if _has_bells(config) else None,
        doorbells=_open_doorbells(inboxes) if config.inbox.doorbell else None,
    )
    for name, worker in config.workers.items():
        if worker.endpoint is not None:
            distribution.add_push_link(name, _bound(worker.endpoint, partial(links.open_at, worker.endpoint, name)))
    event(
        log,
        logging.INFO,
        "serving",
        version=supplierd.__version__,
        pid=os.getpid(),
        inbox=",".join(inbox.endpoint for inbox in inboxes),
        control=",".join(config.control.endpoints),
        keys=len(config.keys) if pair else "off",
        metrics=f"{exporter.scheme}://{replace(config.metrics.address, port=exporter.port)}/metrics"
        if exporter
        else "off",
        libzmq=sockets.LIBZMQ,
        io_threads=threads,
    )
    return _Daemon(distribution, exporter, signals, Reload(given, load, distribution), Presence(locks))


def _has_bells(config: Config) -> bool:
    """Whether workers are told of bells: those that come by a file, as bells do."""
    return config.control.bell and any(endpoint.startswith(IPC) for endpoint in config.control.endpoints)


def _open_bells(directory: Path, max_workers: int) -> Bells:
    path = directory / BELL_SOCKET
    try:
        return Bells(path, max_workers + SPARE_BELLS)
    except OSError as error:
        raise StartError(
            f"{path} cannot be bound: {error.strerror or error}; set control.bell = false to do without"
        ) from None


def _open_doorbells(inboxes: Sequence[Inbox]) -> Doorbells:
    try:
        return Doorbells(inboxes)
    except OSError as error:
        text = f"{error.filename} cannot be bound: {error.strerror}; set inbox.doorbell = false to do without"
        raise StartError(text) from None


def _private_channel(context: sockets.Context, directory: Path) -> ControlChannel:
    """The way for the exporter, and for `supplierd stats`, where only tcp endpoints are configured."""
    endpoint = control_endpoint(directory)
    former = os.umask(PRIVATE_UMASK)
    try:
        return _bound(endpoint, partial(ControlChannel, context, endpoint))
    finally:
        os.umask(former)


def _make_runtime_dir(directory: Path) -> None:
    try:
        directory.mkdir(mode=RUNTIME_DIR_MODE, parents=True)
    except FileExistsError:
        pass
    except OSError as error:
        raise StartError(
            f"the runtime directory {directory} cannot be made: {error.strerror}; use --runtime-dir"
        ) from None
    status = directory.stat()
    if directory.is_symlink() or not directory.is_dir() or status.st_uid not in (0, os.getuid()):
        raise StartError(f"the runtime directory {directory} must be a directory of this user's own: use --runtime-dir")
    if status.st_mode & stat.S_IWOTH:
        raise StartError(f"the runtime directory {directory} can be written by everybody: chmod o-w {directory}")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise StartError(f"the runtime directory {directory} cannot be written by this user: use --runtime-dir")


def _take_locks(config: Config, directory: Path, stack: ExitStack) -> list[SocketLock]:
    """Become the one daemon on each ipc endpoint, and in the runtime directory, where a dead one's files lie."""
    endpoints = [item.endpoint for item in config.inbox.endpoints] + list(config.control.endpoints)
    endpoints += [worker.endpoint for worker in config.workers.values() if worker.endpoint is not None]
    endpoints.append(control_endpoint(directory))
    paths = [os.path.normpath(endpoint.removeprefix(IPC)) for endpoint in endpoints if endpoint.startswith(IPC)]
    if _has_bells(config):
        paths.append(str(directory / BELL_SOCKET))
    if config.inbox.doorbell:
        for own in filter(None, (doorbell_path(item.endpoint) for item in config.inbox.endpoints)):
            if os.path.normpath(own) in paths:
                text = f"{own} is to be a socket's and a doorbell's: choose another path, or inbox.doorbell = false"
                raise StartError(text)
            paths.append(own)
    locks = []
    for path in map(Path, dict.fromkeys(paths)):
        try:
            locks.append(SocketLock(path))
        except OSError as error:
            raise StartError(f"{path} cannot be used: {error.strerror}; is its directory writable?") from None
        stack.callback(locks[-1].release)
    return locks


def _raise_descriptor_limit(max_workers: int) -> None:
    limit = sockets.raise_descriptor_limit()
    wanted = 128 + sockets.DESCRIPTORS_PER_WORKER * max_workers + DESCRIPTORS * MOST
    if limit < wanted:
        event(
            log,
            logging.WARNING,
            f"the limit of open files is {limit}, {max_workers} workers may need {wanted}: "
            "raise LimitNOFILE or lower daemon.max_workers",
        )


def _open_exporter(config: Config, control_endpoint: str, stack: ExitStack) -> Exporter | None:
    metrics = config.metrics
    if not metrics.enabled:
        return None
    address = metrics.address
    protection = Protection(metrics.tls_certificate, metrics.tls_key, metrics.basic_auth_file)
    try:
        exporter = Exporter((address.host, address.port), control_endpoint, protection)
    except ValueError as error:
        raise StartError(str(error)) from None
    except OSError as error:
        raise StartError(
            f"metrics cannot be served on {address}: {error.strerror}; "
            "use --metrics-address, or metrics.enabled = false"
        ) from None
    stack.callback(exporter.stop)
    return exporter


def _bound(endpoint: str, bind: Callable[[], _T]) -> _T:
    try:
        return bind()
    except sockets.TransportError as error:
        raise StartError(f"{endpoint} cannot be bound: {error.strerror}") from None


def log_ledger(snapshot: Snapshot) -> None:
    """Write every ledger line into the log."""
    for stream in snapshot.streams:
        event(
            log,
            logging.INFO,
            "ledger of stream",
            stream=stream.name,
            published=stream.published,
            received=stream.received,
            **{f"dropped_{reason}": count for reason, count in stream.dropped.items()},
        )
    for worker in snapshot.workers:
        for mailbox in worker.mailboxes:
            event(
                log,
                logging.INFO,
                "ledger of worker",
                worker=worker.name,
                stream=mailbox.stream,
                offered=mailbox.offered,
                consumed=mailbox.consumed,
                overwritten=mailbox.overwritten,
                decimated=mailbox.decimated,
                **{f"discarded_{reason}": count for reason, count in mailbox.discarded.items()},
                pending=mailbox.pending,
                in_flight=mailbox.in_flight,
            )

"""A daemon's life: start, loop, stop.

Start takes the locks before it binds, so that a second daemon fails at once and says who holds the sockets. Stop closes
the inbox, tells the workers, writes the final ledger into the log, and is over well within two seconds.
"""

import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final, TypeVar

import zmq

import supplierd
from supplierd.config import Config, ConfigError, resolve, supplier_settings
from supplierd.core.snapshot import Snapshot
from supplierd.core.supplier import Supplier
from supplierd.daemon.distribution import Distribution
from supplierd.daemon.exporter import Exporter
from supplierd.logs import event
from supplierd.transport import sockets
from supplierd.transport.control import FAREWELL_MS, ControlChannel
from supplierd.transport.inbox import Inbox
from supplierd.transport.link import LinkFactory, remove_dead_links
from supplierd.transport.lock import IPC, HeldError, SocketLock
from supplierd.wire.endpoints import machine_boot_id, runtime_dir

SOCKET_UMASK: Final = 0o117
"""Sockets are 0660: the group of the runtime directory may connect."""
RUNTIME_DIR_MODE: Final = 0o750
_T = TypeVar("_T")

log = logging.getLogger("supplierd.daemon")


class StartError(Exception):
    """The daemon cannot start; the text says why and what to do."""


def serve(config: Config, ready: Callable[[], None] = lambda: None) -> None:
    """Run a daemon until SIGTERM or SIGINT. To be called in the main thread.

    Args:
        config: as supplierd.config.load gives it.
        ready: called once when all sockets are bound.

    Raises:
        StartError: a socket, an address or the runtime directory cannot be had.
    """
    with ExitStack() as stack:
        daemon = _start(config, stack)
        ready()
        reason = daemon.loop()
        daemon.distribution.stop(reason)
        log_ledger(daemon.distribution.snapshot())
        event(log, logging.INFO, "stopped", reason=reason)


class _Daemon:
    """What runs between start and stop."""

    def __init__(self, distribution: Distribution, exporter: Exporter | None, stack: ExitStack) -> None:
        self.distribution = distribution
        self._exporter = exporter
        self._stopped_by = 0
        wake_read, wake_write = socket.socketpair()
        wake_read.setblocking(False)
        wake_write.setblocking(False)
        stack.callback(wake_read.close)
        stack.callback(wake_write.close)
        stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False))
        for number in (signal.SIGTERM, signal.SIGINT):
            stack.callback(signal.signal, number, signal.signal(number, self._on_signal))
        distribution.wake_on(wake_read.fileno())

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._stopped_by = number

    def loop(self) -> str:
        """Distribute until a signal says to stop; returns its name."""
        while not self._stopped_by:
            self.distribution.turn()
            if self._exporter is not None:
                ended = self._exporter.keep_running(time.monotonic())
                if ended is not None:
                    event(log, logging.ERROR, "the metrics exporter ended and was started again", status=ended)
        return signal.Signals(self._stopped_by).name


def _start(config: Config, stack: ExitStack) -> _Daemon:
    try:
        directory = runtime_dir(config.daemon.runtime_dir)
        config = resolve(config, directory)
        _make_runtime_dir(directory)
        os.umask(SOCKET_UMASK)
        _take_locks(config, stack)
    except (HeldError, ConfigError, ValueError) as error:
        raise StartError(str(error)) from None
    remove_dead_links(directory)
    _check_descriptor_limit(config.daemon.max_workers)
    if config.daemon.insecure:
        event(log, logging.WARNING, "daemon.insecure is set: anybody who can reach the tcp endpoints can use them")
    threads = sockets.io_threads(config.daemon.max_workers)
    context = sockets.make_context(config.daemon.max_workers)
    stack.callback(context.destroy, linger=FAREWELL_MS)
    supplier = Supplier(supplier_settings(config), machine_boot_id(), time.monotonic_ns())
    exporter = _open_exporter(config, stack)
    links = LinkFactory(context, threads, directory, config.control.worker_ports)
    limit = config.inbox.max_message_bytes
    inboxes = [
        _bound(item.endpoint, partial(Inbox, context, item.endpoint, item.conflate, limit))
        for item in config.inbox.endpoints
    ]
    controls = [_bound(endpoint, partial(ControlChannel, context, endpoint)) for endpoint in config.control.endpoints]
    distribution = Distribution(supplier, inboxes, controls, links, limit)
    for name, worker in config.workers.items():
        if worker.endpoint is not None:
            distribution.add_push_link(name, _bound(worker.endpoint, partial(links.open_at, worker.endpoint)))
    event(
        log,
        logging.INFO,
        "serving",
        version=supplierd.__version__,
        pid=os.getpid(),
        inbox=",".join(inbox.endpoint for inbox in inboxes),
        control=",".join(config.control.endpoints),
        metrics=f"http://{config.metrics.address}/metrics" if exporter else "off",
        libzmq=zmq.zmq_version(),
        io_threads=threads,
    )
    return _Daemon(distribution, exporter, stack)


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
    if not os.access(directory, os.W_OK | os.X_OK):
        raise StartError(f"the runtime directory {directory} cannot be written by this user: use --runtime-dir")


def _take_locks(config: Config, stack: ExitStack) -> None:
    """Become the one daemon on each ipc endpoint."""
    endpoints = [item.endpoint for item in config.inbox.endpoints] + list(config.control.endpoints)
    endpoints += [worker.endpoint for worker in config.workers.values() if worker.endpoint is not None]
    for endpoint in endpoints:
        if endpoint.startswith(IPC):
            path = Path(endpoint.removeprefix(IPC))
            try:
                stack.callback(SocketLock(path).release)
            except OSError as error:
                raise StartError(f"{path} cannot be used: {error.strerror}; is its directory writable?") from None


def _check_descriptor_limit(max_workers: int) -> None:
    limit = sockets.raise_descriptor_limit()
    wanted = 128 + sockets.DESCRIPTORS_PER_WORKER * max_workers
    if limit < wanted:
        event(
            log,
            logging.WARNING,
            f"the limit of open files is {limit}, {max_workers} workers may need {wanted}: "
            "raise LimitNOFILE or lower daemon.max_workers",
        )


def _open_exporter(config: Config, stack: ExitStack) -> Exporter | None:
    if not config.metrics.enabled:
        return None
    address = config.metrics.address
    try:
        exporter = Exporter((address.host, address.port), config.control.endpoints[0])
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
    except zmq.ZMQError as error:
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

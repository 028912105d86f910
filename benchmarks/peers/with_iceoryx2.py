"""iceoryx2: shared memory with safe overflow and a buffer of one; an event service wakes the workers.

Python's `as_memory_view` is a view on the memory itself, so that a frame is lent by the publisher and read in place.
"""

import ctypes
import importlib.metadata
from contextlib import suppress
from typing import Any

import numpy as np

from peers.system import CopyingSender, Picture, Place, Receiver, Sender, System, lacks_module

WAIT_MS = 250
LOANED = 2
BORROWED = 2


def services(place: Place) -> tuple[Any, Any, Any]:
    """A node, and its services for frames and for waking; in a folder of this run."""
    import iceoryx2 as iox2

    iox2.set_log_level(iox2.LogLevel.Error)
    config = iox2.config.default()
    config.global_cfg.root_path = iox2.Path.new(str(place.folder / "iox2"))
    config.global_cfg.prefix = iox2.FileName.new(f"{place.folder.name}_")
    node = iox2.NodeBuilder.new().config(config).create(iox2.ServiceType.Ipc)
    frames = (
        node.service_builder(iox2.ServiceName.new("cam/1"))
        .publish_subscribe(iox2.Slice[ctypes.c_uint8])
        .enable_safe_overflow(True)
        .subscriber_max_buffer_size(1)
        .subscriber_max_borrowed_samples(BORROWED)
        .history_size(0)
        .max_subscribers(place.workers)
        .max_nodes(place.workers + 1)
        .open_or_create()
    )
    wakes = (
        node.service_builder(iox2.ServiceName.new("cam/1/wake"))
        .event()
        .max_listeners(place.workers)
        .max_nodes(place.workers + 1)
        .open_or_create()
    )
    return node, frames, wakes


def view(payload: Any, place: Place) -> Picture:
    """The memory of a sample."""
    return np.frombuffer(payload.as_memory_view(), np.uint8).reshape(place.shape)


class IceoryxSender(CopyingSender):
    """Copies into a sample."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._node, frames, wakes = services(place)
        self._publisher = (
            frames.publisher_builder().initial_max_slice_len(place.size).max_loaned_samples(LOANED).create()
        )
        self._notifier = wakes.notifier_builder().create()

    def publish(self, picture: Picture) -> None:
        """Copy, send, wake."""
        sample = self._publisher.loan_slice_uninit(self._place.size)
        np.copyto(view(sample.payload(), self._place), picture)
        sample.assume_init().send()
        self._notifier.notify()


class IceoryxLoanSender(IceoryxSender):
    """Lends a sample."""

    _sample: Any = None

    def picture(self, place: Place) -> Picture:
        """The memory of a sample."""
        self._sample = self._publisher.loan_slice_uninit(place.size)
        return view(self._sample.payload(), place)

    def publish(self, picture: Picture) -> None:
        """Send, wake."""
        del picture
        sample, self._sample = self._sample, None
        sample.assume_init().send()
        self._notifier.notify()


class IceoryxReceiver(Receiver):
    """A subscriber and a listener."""

    def __init__(self, place: Place) -> None:
        import iceoryx2 as iox2

        self._place = place
        self._node, frames, wakes = services(place)
        self._subscriber = frames.subscriber_builder().buffer_size(1).create()
        self._listener = wakes.listener_builder().create()
        self._wait = iox2.Duration.from_millis(WAIT_MS)
        self._interrupted = iox2.ListenerWaitError  # as a worker that was stopped and goes on
        self._sample: Any = None

    def receive(self) -> Picture | None:
        """The newest sample, held until the next call."""
        self._sample = self._subscriber.receive()
        if self._sample is None:
            with suppress(self._interrupted):
                self._listener.timed_wait(self._wait)
            self._sample = self._subscriber.receive()
        return None if self._sample is None else view(self._sample.payload(), self._place)


class Iceoryx(System):
    """iceoryx2."""

    leftovers = ("{folder}_*",)

    def __init__(self, name: str, settings: str, sender: type[IceoryxSender]) -> None:
        self.name, self.settings, self._sender = name, settings, sender

    def missing(self) -> str | None:
        """Its module."""
        return lacks_module("iceoryx2")

    def version(self) -> str:
        """Of the package."""
        return f"iceoryx2 {importlib.metadata.version('iceoryx2')}"

    def warm(self) -> None:
        """Import it."""
        import iceoryx2  # noqa: F401

    def sender(self, place: Place) -> Sender:
        """A publisher."""
        return self._sender(place)

    def receiver(self, place: Place, index: int) -> Receiver:
        """A subscriber."""
        del index
        return IceoryxReceiver(place)


_COMMON = "safe overflow, buffer of 1, woken by an event service"
ICEORYX2 = (
    Iceoryx("iceoryx2-loan", f"{_COMMON}; the picture is written into a loan", IceoryxLoanSender),
    Iceoryx("iceoryx2", f"{_COMMON}; copied into a loan", IceoryxSender),
)

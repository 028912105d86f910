"""eCAL: publish/subscribe over its shared memory layer, worked on in its callback, as its manual recommends.

Registration goes through shared memory too, so nothing leaves the machine. `zero_copy_mode` lets the callback read the
memory file in place instead of a copy; the publisher waits for no acknowledgement.
"""

import importlib.metadata
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from peers.system import CopyingSender, Picture, Place, Receiver, Sender, System, lacks_module

TOPIC = "cam-1"
REFRESH_MS = 250


def start(place: Place, *, zero_copy: bool) -> Any:
    """Initialise eCAL in this process; its module."""
    import ecal.nanobind_core as ecal

    config = ecal.Configuration()
    config.registration.local.transport_type = ecal.LocalTransportType.SHM
    config.registration.local.shm.domain = f"ecal_{place.folder.name}"
    config.registration.registration_refresh = REFRESH_MS
    config.publisher.layer.shm.enable = True
    config.publisher.layer.udp.enable = False
    config.publisher.layer.tcp.enable = False
    config.publisher.layer.shm.zero_copy_mode = zero_copy
    ecal.initialize(config, TOPIC)
    return ecal


class EcalSender(CopyingSender):
    """A publisher of bytes."""

    def __init__(self, place: Place, zero_copy: bool) -> None:
        self._ecal = start(place, zero_copy=zero_copy)
        self._publisher = self._ecal.Publisher(f"{TOPIC}-{place.folder.name}", config=_of(self._ecal, zero_copy))

    def publish(self, picture: Picture) -> None:
        """It takes bytes: one copy for these, one into shared memory."""
        self._publisher.send(picture.tobytes())

    def close(self) -> None:
        """End it."""
        self._ecal.finalize()


class EcalReceiver(Receiver):
    """A subscriber with a callback."""

    def __init__(self, place: Place, zero_copy: bool) -> None:
        self._shape = place.shape
        self._ecal = start(place, zero_copy=zero_copy)
        self._subscriber = self._ecal.Subscriber(f"{TOPIC}-{place.folder.name}")

    def receive(self) -> Picture | None:
        """Not used: `serve` has the callback."""
        raise NotImplementedError

    def serve(self, take: Callable[[Picture], None], ended: Callable[[], bool]) -> None:
        """The callback does the work."""
        shape = self._shape

        def called(publisher: Any, info: Any, data: Any) -> None:
            del publisher, info
            take(np.frombuffer(data.buffer, np.uint8).reshape(shape))

        self._subscriber.set_receive_callback(called)
        while not ended():
            time.sleep(0.1)

    def close(self) -> None:
        """End it."""
        self._ecal.finalize()


class Ecal(System):
    """eCAL."""

    leftovers = ("ecal_*",)

    def __init__(self, name: str, settings: str, *, zero_copy: bool) -> None:
        self.name, self.settings, self._zero_copy = name, settings, zero_copy
        self.by_default = not zero_copy

    def missing(self) -> str | None:
        """Its module."""
        return lacks_module("ecal")

    def version(self) -> str:
        """Of the package."""
        return f"eclipse-ecal {importlib.metadata.version('eclipse-ecal')}"

    def warm(self) -> None:
        """Import it."""
        import ecal.nanobind_core  # noqa: F401

    def sender(self, place: Place) -> Sender:
        """A publisher."""
        return EcalSender(place, self._zero_copy)

    def receiver(self, place: Place, index: int) -> Receiver:
        """A subscriber."""
        del index
        return EcalReceiver(place, self._zero_copy)


def _of(ecal: Any, zero_copy: bool) -> Any:
    config = ecal.get_publisher_configuration()
    config.layer.shm.zero_copy_mode = zero_copy
    return config


_COMMON = "shared memory layer, worked on in the callback, registration by shared memory"
ECAL = (
    Ecal("ecal", _COMMON, zero_copy=False),
    Ecal("ecal-zero-copy", f"{_COMMON}; zero_copy_mode, in which readers hold up the publisher", zero_copy=True),
)

"""Eclipse zenoh, peer to peer over a Unix socket: RingChannel(1) keeps the newest; inline, and with shared memory.

Its Python API takes and gives `bytes`: with shared memory that is a copy on either side, as in its own examples
(z_pub_shm.py, z_sub_shm.py). Priority real time, congestion control drop, express: what its manual names for latency.
"""

import importlib.metadata
import json
from typing import Any

import numpy as np

from peers.system import CopyingSender, Picture, Place, Receiver, Sender, System, lacks_module

KEY = "cam/1"
SLOTS = 32
"""Frames that the shared memory holds."""


def session(place: Place, *, listen: bool, shared_memory: bool) -> Any:
    """A zenoh session without scouting: the publisher listens, workers connect."""
    import zenoh

    config = zenoh.Config()
    endpoint = f"unixsock-stream/{place.folder}/zenoh.sock"
    for key, value in (
        ("mode", "peer"),
        ("listen/endpoints", [endpoint] if listen else []),
        ("connect/endpoints", [] if listen else [endpoint]),
        ("scouting/multicast/enabled", False),
        ("scouting/gossip/enabled", False),
        ("transport/shared_memory/enabled", shared_memory),
    ):
        config.insert_json5(key, json.dumps(value))
    return zenoh.open(config)


class ZenohSender(CopyingSender):
    """A declared publisher."""

    def __init__(self, place: Place, shared_memory: bool) -> None:
        import zenoh

        self._session = session(place, listen=True, shared_memory=shared_memory)
        self._publisher = self._session.declare_publisher(
            KEY,
            congestion_control=zenoh.CongestionControl.DROP,
            priority=zenoh.Priority.REAL_TIME,
            express=True,
        )
        self._bytes = bytearray(place.size)
        self._own = np.frombuffer(self._bytes, np.uint8).reshape(place.shape)
        self._provider = None
        self._refused = 0
        if shared_memory:
            self._provider = zenoh.shm.ShmProvider.default_backend(SLOTS * place.size + (1 << 20))

    def publish(self, picture: Picture) -> None:
        """Copied into the message, or into shared memory."""
        del picture
        if self._provider is None:
            self._publisher.put(self._bytes)
            return
        import zenoh

        try:
            buffer = self._provider.alloc(len(self._bytes), zenoh.shm.GarbageCollect())
        except zenoh.ZError:  # somebody holds all of it; to wait would block the camera
            self._refused += 1
            return
        buffer[:] = self._bytes
        self._publisher.put(buffer)

    def drops(self) -> int | None:
        """Frames that found no memory; it does not know for whom."""
        return self._refused if self._provider is not None else None

    def close(self) -> None:
        """End it."""
        self._session.close()


class ZenohReceiver(Receiver):
    """A subscriber with a ring of one."""

    def __init__(self, place: Place, shared_memory: bool) -> None:
        import zenoh

        self._shape = place.shape
        self._session = session(place, listen=False, shared_memory=shared_memory)
        self._subscriber = self._session.declare_subscriber(KEY, zenoh.handlers.RingChannel(1))

    def receive(self) -> Picture | None:
        """The newest sample."""
        sample = self._subscriber.recv()
        return np.frombuffer(sample.payload.to_bytes(), np.uint8).reshape(self._shape)

    def close(self) -> None:
        """End it."""
        self._session.close()


class Zenoh(System):
    """zenoh."""

    leftovers = ("*.zenoh",)

    def __init__(self, name: str, settings: str, *, shared_memory: bool) -> None:
        self.name, self.settings, self._shared_memory = name, settings, shared_memory
        self.by_default = shared_memory

    def missing(self) -> str | None:
        """Its module."""
        return lacks_module("zenoh")

    def version(self) -> str:
        """Of the package."""
        return f"eclipse-zenoh {importlib.metadata.version('eclipse-zenoh')}"

    def warm(self) -> None:
        """Import it."""
        import zenoh  # noqa: F401

    def sender(self, place: Place) -> Sender:
        """A publisher."""
        return ZenohSender(place, self._shared_memory)

    def receiver(self, place: Place, index: int) -> Receiver:
        """A subscriber."""
        del index
        return ZenohReceiver(place, self._shared_memory)


_COMMON = "peer to peer over a Unix socket, RingChannel(1), congestion control drop, priority real time, express"
ZENOH = (
    Zenoh("zenoh", f"{_COMMON}; inline", shared_memory=False),
    Zenoh("zenoh-shm", f"{_COMMON}; shared memory", shared_memory=True),
)

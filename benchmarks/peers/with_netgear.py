"""vidgear's NetGear: PUB/SUB (pattern 2) in multi-client mode, over tcp on loopback, as NetGear has no other way."""

import importlib.metadata
from typing import Any

from peers.system import Picture, Place, Receiver, Sender, System, lacks_module

OPTIONS: dict[str, Any] = {"jpeg_compression": False, "multiclient_mode": True}


class NetgearSender(Sender):
    """Connects to a port for each worker."""

    def __init__(self, place: Place) -> None:
        from vidgear.gears import NetGear

        ports = [str(port) for port in place.ports[: place.workers]]
        self._server = NetGear(address="127.0.0.1", port=ports, protocol="tcp", pattern=2, logging=False, **OPTIONS)

    def publish(self, picture: Picture) -> None:
        """By reference, NetGear's default."""
        self._server.send(picture)

    def close(self) -> None:
        """End it."""
        self._server.close(kill=True)


class NetgearReceiver(Receiver):
    """Binds a port of its own."""

    def __init__(self, place: Place, index: int) -> None:
        from vidgear.gears import NetGear

        port = str(place.ports[index])
        self._client = NetGear(
            address="127.0.0.1", port=port, protocol="tcp", pattern=2, receive_mode=True, logging=False, **OPTIONS
        )

    def receive(self) -> Picture | None:
        """The next frame of its queue; it waits by polling."""
        frame = self._client.recv()
        return frame[1] if isinstance(frame, tuple) else frame

    def close(self) -> None:
        """End it."""
        self._client.close(kill=True)


class Netgear(System):
    """NetGear."""

    name = "netgear"
    settings = "PUB/SUB (pattern 2), multiclient_mode, tcp on loopback, jpeg_compression off"

    def missing(self) -> str | None:
        """Its modules."""
        return lacks_module("vidgear", "cv2")

    def version(self) -> str:
        """Of the package."""
        return f"vidgear {importlib.metadata.version('vidgear')}"

    def warm(self) -> None:
        """Import it."""
        from vidgear.gears import NetGear  # noqa: F401

    def sender(self, place: Place) -> Sender:
        """The server."""
        return NetgearSender(place)

    def receiver(self, place: Place, index: int) -> Receiver:
        """A client."""
        return NetgearReceiver(place, index)


NETGEAR = (Netgear(),)

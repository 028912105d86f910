"""Raw pyzmq: what one writes in ten lines. PUB/SUB with CONFLATE, which keeps the newest frame on either side."""

import numpy as np
import zmq

from peers.system import Picture, Place, Receiver, Sender, System

WAIT_MS = 250


class ZmqSender(Sender):
    """A bound PUB socket."""

    def __init__(self, place: Place) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.CONFLATE, 1)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(_endpoint(place))

    def publish(self, picture: Picture) -> None:
        """By reference: pyzmq copies below 64 KB by itself."""
        self._socket.send(picture, copy=False)

    def close(self) -> None:
        """End it."""
        self._context.destroy(linger=0)


class ZmqReceiver(Receiver):
    """A connected SUB socket."""

    def __init__(self, place: Place) -> None:
        self._shape = place.shape
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.CONFLATE, 1)
        self._socket.setsockopt(zmq.RCVTIMEO, WAIT_MS)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._socket.connect(_endpoint(place))

    def receive(self) -> Picture | None:
        """Without a copy."""
        try:
            message = self._socket.recv(copy=False)
        except zmq.Again:
            return None
        return np.frombuffer(message, np.uint8).reshape(self._shape)

    def close(self) -> None:
        """End it."""
        self._context.destroy(linger=0)


class Zmq(System):
    """PUB/SUB over ipc."""

    name = "zmq"
    settings = "PUB/SUB over ipc, CONFLATE on both sides, copy=False"

    def version(self) -> str:
        """Of pyzmq and libzmq."""
        return f"pyzmq {zmq.__version__}, libzmq {zmq.zmq_version()}"

    def sender(self, place: Place) -> Sender:
        """A PUB socket."""
        return ZmqSender(place)

    def receiver(self, place: Place, index: int) -> Receiver:
        """A SUB socket."""
        del index
        return ZmqReceiver(place)


def _endpoint(place: Place) -> str:
    return f"ipc://{place.folder}/frames.sock"


ZMQ = (Zmq(),)

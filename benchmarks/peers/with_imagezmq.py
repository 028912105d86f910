"""imagezmq: PUB/SUB, with the threaded reader of its own example for slow subscribers, which keeps the newest image.

The example (`VideoStreamSubscriber`) is in imagezmq's documentation, "Advanced example using the fast PUB/SUB pattern
with multi-threading": its thread receives all the time, and overwrites one slot.
"""

import importlib.metadata
import threading

from peers.system import Picture, Place, Receiver, Sender, System, lacks_module

WAIT = 0.25


class ImagezmqSender(Sender):
    """An ImageSender, bound."""

    def __init__(self, place: Place) -> None:
        import imagezmq

        self._sender = imagezmq.ImageSender(_endpoint(place), REQ_REP=False)

    def publish(self, picture: Picture) -> None:
        """By reference, as imagezmq does it."""
        self._sender.send_image("cam-1", picture)

    def close(self) -> None:
        """End it."""
        self._sender.zmq_context.destroy(linger=0)


class ImagezmqReceiver(Receiver):
    """An ImageHub, read by a thread."""

    def __init__(self, place: Place) -> None:
        import imagezmq

        self._hub = imagezmq.ImageHub(_endpoint(place), REQ_REP=False)
        self._there = threading.Event()
        self._newest: Picture | None = None
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            self._newest = self._hub.recv_image()[1]
            self._there.set()

    def receive(self) -> Picture | None:
        """The newest image."""
        if not self._there.wait(WAIT):
            return None
        self._there.clear()
        return self._newest


class Imagezmq(System):
    """PUB/SUB over ipc."""

    name = "imagezmq"
    settings = "PUB/SUB over ipc; workers read with the documented threaded subscriber, which keeps the newest image"

    def missing(self) -> str | None:
        """Its module."""
        return lacks_module("imagezmq")

    def version(self) -> str:
        """Of the package."""
        return f"imagezmq {importlib.metadata.version('imagezmq')}"

    def warm(self) -> None:
        """Import it."""
        import imagezmq  # noqa: F401

    def sender(self, place: Place) -> Sender:
        """An ImageSender."""
        return ImagezmqSender(place)

    def receiver(self, place: Place, index: int) -> Receiver:
        """An ImageHub."""
        del index
        return ImagezmqReceiver(place)


def _endpoint(place: Place) -> str:
    return f"ipc://{place.folder}/frames.sock"


IMAGEZMQ = (Imagezmq(),)

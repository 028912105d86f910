"""GStreamer: appsrc to shmsink, shmsrc to appsink, from Python by GObject introspection (Debian's python3-gi).

appsink keeps one buffer and drops older ones; shmsink waits for nobody. The memory holds as many frames as supplierd's
arena does by default.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from peers.system import CopyingSender, Picture, Place, Receiver, Sender, System, lacks_module

DEBIAN: Path = Path("/usr/lib/python3/dist-packages")
SLOTS = 32
WAIT_NS = 250_000_000


def load() -> Any:
    """The Gst module, initialised in this process."""
    if str(DEBIAN) not in sys.path:
        sys.path.append(str(DEBIAN))
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstApp", "1.0")
    from gi.repository import Gst, GstApp  # noqa: F401

    if not Gst.is_initialized():
        Gst.init(None)
    return Gst


class GstSender(CopyingSender):
    """appsrc ! shmsink."""

    def __init__(self, place: Place) -> None:
        self._gst = gst = load()
        size = SLOTS * (place.size + 4096)
        self._pipeline = gst.parse_launch(
            f"appsrc name=in is-live=true format=time block=false max-buffers=1 leaky-type=downstream "
            f"caps=application/octet-stream ! "
            f"shmsink socket-path={_socket(place)} shm-size={size} sync=false wait-for-connection=false async=false"
        )
        self._in = self._pipeline.get_by_name("in")
        self._pipeline.set_state(gst.State.PLAYING)

    def publish(self, picture: Picture) -> None:
        """Copied into a buffer, then by shmsink into its memory."""
        self._in.push_buffer(self._gst.Buffer.new_wrapped(picture.tobytes()))

    def close(self) -> None:
        """End it."""
        self._pipeline.set_state(self._gst.State.NULL)


class GstReceiver(Receiver):
    """shmsrc ! appsink."""

    def __init__(self, place: Place) -> None:
        self._gst = gst = load()
        self._shape = place.shape
        self._pipeline = gst.parse_launch(
            f"shmsrc socket-path={_socket(place)} is-live=true do-timestamp=false ! application/octet-stream ! "
            f"appsink name=out max-buffers=1 drop=true sync=false"
        )
        self._out = self._pipeline.get_by_name("out")
        self._held: Any = None
        self._playing = False

    def receive(self) -> Picture | None:
        """The newest buffer, mapped in place until the next call."""
        if not self._playing:
            self._playing = self._connect()
            return None
        if self._held is not None:
            buffer, mapped, _ = self._held
            buffer.unmap(mapped)
            self._held = None
        sample = self._out.try_pull_sample(WAIT_NS)
        if sample is None:
            return None
        buffer = sample.get_buffer()
        found, mapped = buffer.map(self._gst.MapFlags.READ)
        if not found:
            return None
        self._held = buffer, mapped, sample
        return np.frombuffer(mapped.data, np.uint8).reshape(self._shape)

    def _connect(self) -> bool:
        """Play, once the publisher's socket is there."""
        gst = self._gst
        if self._pipeline.set_state(gst.State.PLAYING) == gst.StateChangeReturn.FAILURE:
            self._pipeline.set_state(gst.State.NULL)
            return False
        return True

    def close(self) -> None:
        """End it."""
        self._pipeline.set_state(self._gst.State.NULL)


class GStreamer(System):
    """GStreamer."""

    name = "gstreamer"
    settings = "appsrc ! shmsink wait-for-connection=false; shmsrc ! appsink max-buffers=1 drop=true sync=false"

    def missing(self) -> str | None:
        """Debian's bindings for this Python, and the elements."""
        tag = f"cpython-{sys.version_info.major}{sys.version_info.minor}"
        if lacks_module("gi") and not list((DEBIAN / "gi").glob(f"_gi.{tag}*.so")):
            return f"not installed: Debian's python3-gi for this Python, {tag}"
        try:
            gst = load()
        except (ImportError, ValueError) as error:
            return f"not installed: {error}"
        lacking = [name for name in ("shmsink", "shmsrc", "appsrc") if gst.ElementFactory.find(name) is None]
        return f"not installed: GStreamer's elements {', '.join(lacking)}" if lacking else None

    def version(self) -> str:
        """Of the libraries."""
        return str(load().version_string())

    def sender(self, place: Place) -> Sender:
        """A pipeline."""
        return GstSender(place)

    def receiver(self, place: Place, index: int) -> Receiver:
        """A pipeline."""
        del index
        return GstReceiver(place)


def _socket(place: Place) -> str:
    return str(place.folder / "gst.sock")


GSTREAMER = (GStreamer(),)

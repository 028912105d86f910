"""A frame in a worker's hands: views on memory that nobody copies and nobody can write."""

import time
from collections.abc import Mapping
from typing import Any, Final

import msgpack
import numpy as np
import numpy.typing as npt

from supplierd.wire import frame as wire
from supplierd.wire.endpoints import machine_boot_id

ELEMENT_ALIGNMENT: Final = 8
"""Bytes. ZeroMQ puts messages over 8 KiB at a multiple of it, smaller ones anywhere in its receive buffer."""

Moment = tuple[int, int, int]
"""A frame's seq, and its capture time as wire.Header has it: captured_wall and captured_mono."""
_BOOT = machine_boot_id()


def is_ours(boot: bytes) -> bool:
    """Whether a time of this boot's CLOCK_MONOTONIC can be held against ours."""
    return boot == _BOOT


def age_of(boot: bytes, captured_wall: int, captured_mono: int) -> float:
    """Seconds since a frame's capture: by CLOCK_MONOTONIC where it was captured on this machine since its last boot,
    else by the wall clocks, whose difference between the machines is then part of the result."""
    if is_ours(boot):
        return (time.monotonic_ns() - captured_mono) / 1e9
    return (time.time_ns() - captured_wall) / 1e9


class Frame:
    """One frame.

    Attributes:
        array: the frame as a read-only NumPy array, of the shape and dtype that were published; for an encoding
            other than "raw" a one-dimensional uint8 array of the encoded bytes, as cv2.imdecode wants it.
        data: the same bytes as a read-only memoryview.
        stream: name of its stream.
        seq: its number; gaps are frames that this worker did not see.
        epoch: its publisher's run: seq begins again at 1 in a new one.
        encoding: "raw", or the name that the publisher gave, like "jpeg".
        captured_at: capture time, Unix seconds.
        age: seconds from capture until the worker was given it.
        same_clock: whether `age` is exact (one machine's monotonic clock) or as good as two wall clocks agree.
        metadata: what the publisher added.

    A frame in shared memory is held, and cannot change, as long as this object or any array, slice or memoryview of it
    lives. A worker that keeps many frames keeps their slots: `supplierd stats` shows how many each one holds.
    """

    __slots__ = ("_captured_mono", "_captured_wall", "_header", "_metadata", "age", "array", "seq")

    def __init__(
        self,
        header: wire.Header,
        moment: Moment,
        array: npt.NDArray[Any],
        age: float,
    ) -> None:
        self._header = header  # of this frame, or of another of its run, but for what is given here
        self.seq, self._captured_wall, self._captured_mono = moment
        self._metadata: Mapping[str, Any] | None = None
        self.age = age
        self.array = array

    @property
    def data(self) -> memoryview:
        """The bytes."""
        return self.array.reshape(-1).view(np.uint8).data

    @property
    def stream(self) -> str:
        """Name of its stream."""
        return self._header.stream

    @property
    def epoch(self) -> int:
        """Its publisher's run."""
        return self._header.epoch

    @property
    def encoding(self) -> str:
        """How the payload is encoded."""
        return self._header.encoding

    @property
    def captured_at(self) -> float:
        """Capture time, Unix seconds."""
        return self._captured_wall / 1e9

    @property
    def same_clock(self) -> bool:
        """Whether `age` was taken with one clock."""
        return is_ours(self._header.boot)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the publisher added."""
        if self._metadata is None:
            self._metadata = _copy(self._header.metadata)
        return self._metadata

    def release(self) -> None:
        """Let go of the frame now; `array` and `data` become empty. What other arrays still view stays as it is."""
        self.array = np.empty(0, np.uint8)
        self.array.flags.writeable = False

    def __reduce__(self) -> tuple[Any, tuple[wire.Header, Moment, npt.NDArray[Any], float]]:
        """A pickled frame has its bytes, and can be read by whoever has supplierd_client, compiled or not."""
        moment = (self.seq, self._captured_wall, self._captured_mono)
        return unpickled, (self._header._replace(metadata=self.metadata), moment, self.array, self.age)

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.array.shape))
        return (
            f"<Frame {self.stream} {self.seq}: {self.encoding} {shape} {self.array.dtype}, {self.age * 1e3:.1f} ms old>"
        )


def _copy(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """A frame's own metadata: that of its header may be all frames' of a run."""
    packed = wire.pack_metadata(metadata)
    return dict(metadata) if packed is None else msgpack.unpackb(packed) if packed else {}


def unpickled(header: wire.Header, moment: Moment, array: npt.NDArray[Any], age: float) -> Frame:
    """A frame that was pickled, as read-only as it was."""
    array.flags.writeable = False
    return Frame(header, moment, array, age)


def age_now(frame: Frame) -> float:
    """How old a frame is that was held back."""
    return age_of(frame._header.boot, frame._captured_wall, frame._captured_mono)


def inline_payload(message: memoryview, header: wire.Header) -> npt.NDArray[Any]:
    """The payload that follows the header in a message, as a read-only array; a small one may be a copy."""
    array = np.frombuffer(message.toreadonly(), np.uint8, header.payload_size, header.payload_offset)
    if header.encoding == wire.RAW and array.ctypes.data % ELEMENT_ALIGNMENT:
        array = np.frombuffer(array.tobytes(), np.uint8)
    return array.view(header.dtype).reshape(header.shape) if header.shape else array

"""The publisher: puts a stream's newest frame into the daemon's inbox, and never waits for anybody.

On one machine the pixels go into a slot of shared memory (lane.py) and the message names it, which the inbox's doorbell
takes (doorbell.py); else they are part of it, and it goes over ZeroMQ.
"""

import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Literal, NoReturn, Self

import numpy as np
import numpy.typing as npt
import zmq
from numpy import ndarray

from supplierd.arena.writer import DEFAULT_SLOTS
from supplierd.wire import frame as wire
from supplierd.wire.encoder import Encoder
from supplierd.wire.endpoints import machine_boot_id
from supplierd.wire.frame import pack_metadata
from supplierd.wire.keys import client_keys
from supplierd.wire.names import check_name
from supplierd_client.doorbell import Doorbell
from supplierd_client.lane import Lane, Loan
from supplierd_client.sockets import Alone, ProcessGuard, Reach, connect, default_inbox

CONNECT_WAIT: Final = 0.25
"""Seconds that the constructor waits for a daemon, so that a script's first frame finds it; a handshake takes 3 ms."""
CLOSE_WAIT: Final = 0.05
"""Seconds after its publication that the last frame is given to get through when the publisher closes: closing a socket
destroys what it has not yet written."""
_BEYOND: Final = 1 << 63  # nanoseconds
_NOBLOCK: Final = int(zmq.NOBLOCK)  # a plain number: an enumeration's takes longer
ZERO_COPY_FROM: Final = 256 * 1024
"""Bytes of a message from which handing it to libzmq by reference is cheaper than a copy."""

Payload = npt.NDArray[Any] | bytes | bytearray | memoryview
"""What can be published, besides a Loan."""


class Publisher(Alone):
    """Publishes the frames of one stream.

    May be used by several threads. After a restart of the daemon it reconnects by itself. Each Publisher is an epoch of
    its stream: its frames supersede those of an earlier one.

    Args:
        stream: 1 to 64 characters of A-Z a-z 0-9 . _ -, beginning with a letter or digit.
        inbox: the daemon's endpoint; None: the one in the runtime directory.
        shared_memory: "auto" uses shared memory on ipc for payloads of 4 KiB and more; "on" for every payload;
            "off" for none. Where it cannot be had, frames go inline, with a warning, and are counted.
        arena_slots: slots of shared memory, 4 to 1024: for the frames that workers and the daemon hold, the newest
            three, and the one being written. Memory is taken as they are used.
        runtime_dir: an absolute path; None: as the daemon chooses it.
        key: a file NAME.secret, for a daemon that asks for keys, which it does on tcp only; None: $SUPPLIERD_KEY.
        server_key: the daemon's file NAME.public, with it; None: $SUPPLIERD_SERVER_KEY.

    Attributes:
        published: frames published so far, the last one's seq.
        unsent: how many of them found no daemon.

    Raises:
        ValueError: a name, an endpoint, a path, a key file or another argument is not allowed.
    """

    def __init__(
        self,
        stream: str,
        inbox: str | None = None,
        *,
        shared_memory: Literal["auto", "on", "off"] = "auto",
        arena_slots: int = DEFAULT_SLOTS,
        runtime_dir: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        server_key: str | os.PathLike[str] | None = None,
    ) -> None:
        self.stream = check_name("stream", stream)
        self.endpoint = inbox or default_inbox(runtime_dir)
        keys = client_keys(self.endpoint, key, server_key)
        self._reach = Reach(self.endpoint, keys)
        self.epoch = time.monotonic_ns()
        self.published = 0
        self.unsent = 0
        self._lock = threading.RLock()  # a signal handler may close in the midst of `publish`
        self._busy = self._closing = False
        self._guard = ProcessGuard("Publisher")
        self._lane = Lane(stream, self.endpoint, shared_memory, arena_slots)
        self._failing = False
        self._encoder = Encoder(wire.Header(stream, self.epoch, machine_boot_id(), 1, 0, 0, encoding="bytes"))
        # What array, published how, the encoder is known to be right for, so that another one needs no second look.
        self._dtype: np.dtype[Any] | None = None
        self._shape: tuple[int, ...] = ()
        self._encoding: str | None = None
        self._metadata: bytes | None = b""  # packed
        self._published_at = float("-inf")
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._socket = connect(self._context, zmq.PUSH, self.endpoint, conflate=True, keys=keys)
        except ValueError:
            self._context.term()
            raise
        # The method of pyzmq's core, without the Python around it for other kinds of sockets: 10 to 18 µs less.
        self._send: Callable[..., Any] = super(zmq.Socket, self._socket).send
        self._doorbell = Doorbell(self.endpoint if shared_memory != "off" else "")
        self._closed = False
        patience = time.monotonic() + CONNECT_WAIT
        if self._socket.poll(round(CONNECT_WAIT * 1e3), zmq.POLLOUT):
            now = time.monotonic()
            self._doorbell.open(max(0.0, patience - now), now)

    def publish(
        self,
        payload: Payload | Loan,
        captured_at: float | None = None,
        encoding: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> int:
        """Publish a frame. Never blocks: without a daemon the frame is dropped, and counted; a frame that the daemon
        has not fetched is replaced.

        Args:
            payload: a NumPy array of numbers (sent with its dtype and shape), or bytes. It is copied before the call
                returns, so the caller may go on writing to it. Or a Loan, which is published without a copy and must
                not be written to any more.
            captured_at: capture time, Unix seconds; None: now.
            encoding: None: "raw" for an array, "bytes" for bytes; else a name like "jpeg" for bytes (or a uint8 array)
                that are encoded so.
            metadata: a small map of what msgpack can pack; workers find it at frame.metadata.

        Returns:
            The frame's seq: 1, 2, 3 …

        Raises:
            ValueError: an empty payload, an array that is not of plain numbers, metadata that cannot be packed, no time
                or name where one belongs; the publisher is closed.
            LoanError: the loan is another publisher's, or was used already.
            RuntimeError: called by a signal handler that interrupts `publish`.
            ForkedError: called in a forked child.
        """
        self._guard.check()
        mono, wall = time.monotonic_ns(), time.time_ns()
        if captured_at is not None:
            mono, wall = _captured(captured_at, mono, wall)
        with self._lock:
            if self._closed or self._busy:
                self._refuse()
            self._busy = True
            try:
                array = payload.array if type(payload) is Loan else payload
                packed = pack_metadata(metadata) if metadata else b""
                if (
                    type(array) is not ndarray or array.dtype is not self._dtype or array.shape != self._shape
                    or encoding != self._encoding or packed != self._metadata
                ):  # fmt: skip
                    array = self._prepare(array, encoding, metadata or {}, packed)
                encoder = self._encoder
                slot, inline = self._lane.redeem(payload) if type(payload) is Loan else self._lane.store(array)
                seq = self.published + 1
                if slot is not None:
                    message = encoder.encode(seq, wall, mono, slot)
                else:
                    header = encoder.header._replace(seq=seq, captured_wall=wall, captured_mono=mono, inline=inline)
                    message = b"".join((wire.encode_head(header), _bytes_of(array)))
                self.published = seq
                self._published_at = now = time.monotonic()
                if slot is None:
                    self._doorbell.yield_to(now)
                if (slot is not None and self._doorbell.put(message, now)) or self._push(message):
                    if self._failing:
                        self._failing = False
                        self._reach.reached()
                else:
                    self.unsent += 1
                    self._dtype = None  # the next header has to say so
                    self._failing = True
                    self._reach.failed(now)
                return seq
            finally:
                self._busy = False
                if self._closing:
                    self._shut()

    def loan(self, shape: Sequence[int], dtype: npt.DTypeLike = np.uint8) -> Loan:
        """A writable array, in shared memory where that is used, to be filled and published without a copy.

        Args:
            shape, dtype: of the array.

        Raises:
            ValueError: no array of plain numbers with at least one byte has this shape and dtype; the publisher is
                closed.
            RuntimeError: called by a signal handler that interrupts `publish`.
            ForkedError: called in a forked child.
        """
        self._guard.check()
        with self._lock:
            if self._closed or self._busy:
                self._refuse()
            self._busy = True
            try:
                return self._lane.loan(tuple(shape), dtype)
            finally:
                self._busy = False
                if self._closing:
                    self._shut()

    @property
    def connected(self) -> bool:
        """Whether a daemon is there now."""
        self._guard.check()
        with self._lock:
            if self._closed:
                return False
            busy, self._busy = self._busy, True
            try:
                return bool(self._socket.poll(0, zmq.POLLOUT))
            finally:
                self._busy = busy
                if self._closing and not busy:
                    self._shut()

    def close(self) -> None:
        """Stop publishing; the last frame is given a moment to get through.

        May be called repeatedly, from any thread, and from a signal handler that interrupts another method,
        which then finishes before.
        """
        if self._guard.forked:
            return
        self._closing = True
        with self._lock:
            if not self._busy:  # else it is this thread's `publish` that closes, on its way out
                self._shut()

    def _shut(self) -> None:
        """Close what is open. The lock is held."""
        if self._closed:
            return
        self._closed = True
        try:
            time.sleep(max(0.0, self._published_at + CLOSE_WAIT - time.monotonic()))
        finally:  # whoever interrupts the wait
            self._socket.close(linger=0)
            self._doorbell.close()
            self._lane.close()
            self._context.term()

    def _refuse(self) -> NoReturn:
        """Nothing can be published now."""
        if self._closed:
            raise ValueError(f"the publisher of {self.stream} is closed")
        raise RuntimeError(
            f"the publisher of {self.stream} is in the midst of a frame, and was called again by the same thread: "
            "a signal handler may close it, and must leave publishing to the program"
        )

    def _push(self, message: bytes) -> bool:
        """Send a message over ZeroMQ; False without a connection."""
        try:
            self._send(message, _NOBLOCK, len(message) < ZERO_COPY_FROM)
        except zmq.Again:
            return False
        return True

    def _prepare(
        self, payload: Payload, encoding: str | None, metadata: Mapping[str, Any], packed: bytes | None
    ) -> npt.NDArray[Any]:
        """The payload as an array; `_encoder` suits it then. Raises ValueError for what cannot be published."""
        array, name = _describe(payload, encoding)
        if not isinstance(metadata, Mapping):
            raise ValueError(f"metadata is {metadata!r:.80}: give a map with names as keys, or None")
        dtype, shape = (array.dtype.str, array.shape) if name == wire.RAW else ("", ())
        same = self._encoder.header
        said = (same.unsent, same.encoding, same.dtype, same.shape, self._metadata)
        if (self.unsent, name, dtype, shape, packed) != said:
            # What was packed, and no map of the user's, who may go on writing to what is in it.
            own = wire.unpack_metadata(packed) if packed is not None else metadata
            self._encoder = Encoder(
                same._replace(unsent=self.unsent, encoding=name, dtype=dtype, shape=shape, metadata=own)
            )
            self._metadata = packed
        self._dtype = array.dtype if isinstance(payload, np.ndarray) else None
        self._shape, self._encoding = array.shape, encoding
        return array

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(Exception):
            self.close()


def _captured(captured_at: Any, mono: int, wall: int) -> tuple[int, int]:
    """A capture time by the monotonic clock and by the wall's, which read `mono` and `wall` now: nanoseconds.

    Raises:
        ValueError: 64 bits cannot hold it, by one of them, as a frame's header has to.
    """
    try:
        nanoseconds = math.inf if isinstance(captured_at, (str, bytes)) else float(captured_at) * 1e9
    except (OverflowError, TypeError):
        nanoseconds = math.inf
    captured = round(nanoseconds) if math.isfinite(nanoseconds) else _BEYOND
    by_mono = mono - (wall - captured)
    if not (-_BEYOND <= captured < _BEYOND and -_BEYOND <= by_mono < _BEYOND):
        raise ValueError(f"captured_at is {captured_at!r}: give Unix seconds, or None for now")
    return by_mono, captured


def _describe(payload: Payload, encoding: Any) -> tuple[npt.NDArray[Any], str]:
    """A payload as an array, and its encoding.

    Raises:
        ValueError: it is empty or cannot be described.
    """
    if isinstance(payload, np.ndarray):
        if payload.dtype.kind not in "biufc":
            raise ValueError(f"an array of dtype {payload.dtype} cannot be published: use one of plain numbers")
        if hasattr(payload, "mask"):
            raise ValueError("a masked array cannot be published, for its mask would be lost: give its filled()")
        if not payload.shape:
            raise ValueError("an array of 0 dimensions cannot be published: give it a shape, like (1,)")
        array, encoding = np.asarray(payload), wire.RAW if encoding is None else encoding
    else:
        content = memoryview(payload).cast("B")
        array, encoding = np.asarray(content), "bytes" if encoding is None else encoding
    if not array.nbytes:
        raise ValueError("an empty payload cannot be published: a frame has at least one byte")
    if array.ndim > wire.MAX_DIMENSIONS:
        raise ValueError(f"an array of {array.ndim} dimensions cannot be published, at most {wire.MAX_DIMENSIONS} can")
    if not (isinstance(encoding, str) and 0 < len(encoding) <= wire.MAX_ENCODING_LENGTH and encoding.isprintable()):
        raise ValueError(f"encoding {encoding!r:.80} is not 1 to {wire.MAX_ENCODING_LENGTH} printable characters")
    return array, encoding


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data

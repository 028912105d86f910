"""A session and its sockets: what the blocking and the asyncio worker share. It never waits; whoever uses it does."""

import logging
import math
import os
import secrets
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
import zmq

import supplierd
from supplierd.arena import (
    ArenaReader,
    ArenaUnavailableError,
    Descriptor,
    Reason,
    StaleDescriptorError,
    arena_directory,
)
from supplierd.wire import control as wire_control
from supplierd.wire import frame as wire
from supplierd.wire.endpoints import machine_boot_id
from supplierd.wire.errors import WireError
from supplierd.wire.names import ANY_STREAM, check_name
from supplierd_client.frame import Frame, age_of, inline_payload
from supplierd_client.lane import readable_arenas
from supplierd_client.session import FrameId, Session, Verdict
from supplierd_client.sockets import connect, default_control, local_directory, readable

LEAVE_WAIT_MS: Final = 100
"""How long closing waits for the last message to be written."""

log = logging.getLogger("supplierd_client")


class Channel:
    """One worker's control socket, frame socket and session. For one thread at a time.

    Args: as those of Worker.
    """

    def __init__(
        self,
        name: str,
        streams: Sequence[str],
        control: str | None,
        *,
        target_fps: float | None,
        max_age: float | None,
        runtime_dir: str | os.PathLike[str] | None,
    ) -> None:
        check_name("worker", name)
        if isinstance(streams, str) or not streams:
            raise ValueError(f'streams is {streams!r}: give a list of names like ["cam-1"], or ["*"] for all streams')
        for stream in streams:
            if stream != ANY_STREAM:
                check_name("stream", stream)
        for what, value in (("target_fps", target_fps), ("max_age", max_age)):
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{what} is {value!r}: give a positive number, or None")
        self.endpoint = control or default_control(runtime_dir)
        join = wire_control.Join(
            worker=name,
            instance=secrets.token_bytes(16),
            attempt=0,
            versions=[wire_control.VERSION],
            client=f"python {supplierd.__version__}",
            streams=list(streams),
            target_fps=None if target_fps is None else float(target_fps),
            boot=machine_boot_id(),
            pid=os.getpid(),
        )
        base = local_directory(self.endpoint)
        self._arenas = ArenaReader(arena_directory(base)) if base is not None else None
        self._session = Session(join, max_age, partial(readable_arenas, self.endpoint))
        self._held: tuple[Frame, wire.Header] | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._frames: zmq.Socket[bytes] | None = None
        self._frames_endpoint = ""
        try:
            self._control = connect(self._context, zmq.DEALER, self.endpoint)
        except ValueError:
            self._context.term()
            raise
        self.poller = zmq.Poller()
        self.poller.register(self._control, zmq.POLLIN)

    @property
    def next_at(self) -> float:
        """When `step` must be called again, if nothing arrives before: seconds, monotonic."""
        return self._session.next_at

    def ask(self) -> None:
        """The user wants a frame."""
        self._session.ask(time.monotonic())

    def step(self) -> Frame | None:
        """Do all that can be done without waiting; the frame to hand out, if there is one.

        Raises:
            ClientError: the session has ended.
        """
        self._listen()
        frame = self._take()
        if frame is not None:
            return frame
        now = time.monotonic()
        if self._arenas is not None:
            self._session.leases = self._arenas.leases_held
        message = self._session.to_send(now)
        if message is not None and not self._send(message):
            self._session.unsent(now)
        self._follow()
        return None

    def pending(self) -> bool:
        """Whether something has arrived that `step` has not seen."""
        sockets = [self._control] if self._frames is None else [self._control, self._frames]
        return any(map(readable, sockets))

    def descriptors(self) -> list[int]:
        """The file descriptors that become readable when something may have arrived; then ask `pending`."""
        sockets = [self._control] if self._frames is None else [self._control, self._frames]
        return [int(socket.get(zmq.FD)) for socket in sockets]

    def close(self) -> None:
        """Take leave and disconnect."""
        message = self._session.leave(time.monotonic())
        if message is not None:
            self._send(message)
        self._held = None
        if self._arenas is not None:
            self._arenas.close()
        if self._frames is not None:
            self._frames.close(linger=0)
        self._control.close(linger=LEAVE_WAIT_MS)
        self._context.term()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _send(self, message: bytes) -> bool:
        try:
            self._control.send(message, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _listen(self) -> None:
        """Hear what the daemon says, and go where it says."""
        while readable(self._control):
            try:
                self._session.hear(self._control.recv(zmq.NOBLOCK), time.monotonic())
            except WireError:
                continue  # a newer daemon may say what this client does not know
        if self._session.error is not None:
            raise self._session.error
        self._follow()

    def _follow(self) -> None:
        """Have the frame socket where the session wants it: an old one is closed first, so that nothing of an old
        session can arrive any more."""
        endpoint = self._session.endpoint
        if endpoint == self._frames_endpoint:
            return
        if self._frames is not None:
            self.poller.unregister(self._frames)
            self._frames.close(linger=0)
            self._frames = None
        if endpoint:
            target = endpoint.replace("tcp://*", self.endpoint.rpartition(":")[0], 1)
            try:
                self._frames = connect(self._context, zmq.PULL, target)
            except ValueError as error:
                log.warning("no frames can come: %s", error)
            else:
                self.poller.register(self._frames, zmq.POLLIN)
        self._frames_endpoint = endpoint

    def _take(self) -> Frame | None:
        """The frame to hand out: the one that was held back, or one that has arrived."""
        session, held = self._session, self._held
        if held is not None and session.released is not None:
            self._held = None
            frame, header = held
            frame.age = age_of(header)
            if session.released and session.take_held(header.captured_mono, frame.age, time.monotonic()):
                return frame
        while self._frames is not None and readable(self._frames):
            arrived = self._arrived(self._frames.recv(zmq.NOBLOCK, copy=False))
            if arrived is not None:
                return arrived
        return None

    def _arrived(self, message: zmq.Frame) -> Frame | None:
        now = time.monotonic()
        try:
            header = wire.decode(message.buffer)
        except WireError:
            return None  # not of this daemon's making; the open demand is repeated
        identity, age = FrameId(header.stream, header.epoch, header.seq), age_of(header)
        self._held = None
        if not self._session.expects_frame:
            return None
        try:
            frame = Frame(header, self._payload(header, message.buffer), age)
        except StaleDescriptorError:
            self._session.discard(identity, "stale_descriptor", age, now)
            return None
        except ArenaUnavailableError as error:
            self._session.go_inline(identity, error.reason.value, age)
            return None
        except TypeError:  # a number type that this machine's NumPy has not
            self._session.discard(identity, "unreadable", age, now)
            return None
        verdict = self._session.arrived(identity, header.captured_mono, age, now)
        if verdict is Verdict.HOLD:
            self._held = frame, header
        return frame if verdict is Verdict.TAKE else None

    def _payload(self, header: wire.Header, message: memoryview) -> npt.NDArray[np.uint8]:
        """The frame's bytes, in the message or in a slot that is held from now on.

        Raises:
            StaleDescriptorError, ArenaUnavailableError: they cannot be had.
        """
        if header.arena is None:
            return inline_payload(message, header)
        if self._arenas is None:
            raise ArenaUnavailableError(Reason.NOT_FOUND, "the daemon sent a descriptor over a network")
        return self._arenas.lease(Descriptor(*header.arena)).bytes()

"""A session and its sockets: what the blocking and the asyncio worker share. It never waits; whoever uses it does."""

import logging
import math
import os
import secrets
import time
from collections.abc import Sequence
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
from supplierd.wire.keys import client_keys
from supplierd.wire.names import ANY_STREAM, check_name
from supplierd_client.frame import Frame, age_of, inline_payload
from supplierd_client.lane import ArenaAccess
from supplierd_client.session import FrameId, Session, Verdict
from supplierd_client.sockets import Reach, Source, connect, default_control, local_directory, reachable

LEAVE_WAIT_MS: Final = 100
"""How long closing waits for the last message to be written."""
WARN_EVERY: Final = 1.0
"""Seconds between two warnings that no frames can come."""
PRUNE_EVERY: Final = 5.0
"""Seconds between two looks for arenas that were unlinked, whose memory lasts as long as they are open here."""

log = logging.getLogger("supplierd_client")


class Channel:
    """One worker's control socket, frame socket and session. For one thread at a time.

    Args: as those of Worker, and
        by_descriptor: whether its sources are waited for by their descriptors.

    Attributes:
        ask: the user wants a frame. Takes the time: seconds, monotonic.
        sources: what to wait for: when a source is readable, set its `more` and call `step`. There is nothing to wait
            for while a source has `more`. The list is another one when the sources are.
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
        key: str | os.PathLike[str] | None,
        server_key: str | os.PathLike[str] | None,
        by_descriptor: bool = False,
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
        self._keys = client_keys(self.endpoint, key, server_key)
        self._reach = Reach(self.endpoint, self._keys)
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
        self._access = ArenaAccess(name, self.endpoint)
        self._session = Session(join, max_age, self._access.why_not)
        self.ask = self._session.ask
        self._pruned_at = time.monotonic()
        self._held: tuple[Frame, wire.Header] | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._frames: Source | None = None
        self._frames_endpoint = ""
        self._warn_at = float("-inf")
        self._decode = wire.Decoder().decode
        self._by_descriptor = by_descriptor
        try:
            socket = connect(self._context, zmq.DEALER, self.endpoint, keys=self._keys)
        except ValueError:
            self._context.term()
            raise
        self._control = Source(socket, by_descriptor)
        self.sources = [self._control]

    @property
    def next_at(self) -> float:
        """When `step` must be called again, if nothing arrives before: seconds, monotonic."""
        return self._session.next_at

    def step(self, now: float) -> Frame | None:
        """Do all that can be done without waiting; the frame to hand out, if there is one.

        Raises:
            ClientError: the session has ended.
        """
        session, frame = self._session, None
        if now >= session.next_at:
            self._speak(now)
        if self._control.more:
            self._listen()
        if session.error is not None:
            raise session.error
        if self._held is not None or (self._frames is not None and self._frames.more):
            frame = self._take(now)
        if session.endpoint != self._frames_endpoint:
            self._follow(session.endpoint)
        return frame

    def close(self) -> None:
        """Take leave and disconnect."""
        message = self._session.leave(time.monotonic())
        if message is not None:
            self._control.send(message)
        self._held = None
        if self._arenas is not None:
            self._arenas.close()
        if self._frames is not None:
            self._frames.socket.close(linger=0)
        self._control.socket.close(linger=LEAVE_WAIT_MS)
        self._context.term()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _speak(self, now: float) -> None:
        """Send what is due."""
        if self._arenas is not None:
            self._session.leases = self._arenas.leases_held
            if now - self._pruned_at >= PRUNE_EVERY:
                self._pruned_at = now
                self._arenas.prune()
        message = self._session.to_send(now)
        if message is None:
            return
        if self._control.send(message):
            self._reach.reached()
        else:
            self._session.unsent(now)
            self._reach.failed(now)

    def _listen(self) -> None:
        """Hear what the daemon says."""
        while (message := self._control.receive()) is not None:
            try:
                self._session.hear(message.bytes, time.monotonic())
            except WireError:
                continue  # a newer daemon may say what this client does not know

    def _follow(self, endpoint: str) -> None:
        """Move the frame socket: an old one is closed first, so that nothing of an old session can arrive any more."""
        if self._frames is not None:
            self._frames.socket.close(linger=0)
            self._frames = None
        if endpoint:
            target = reachable(endpoint, self.endpoint)
            try:
                self._frames = Source(connect(self._context, zmq.PULL, target, keys=self._keys), self._by_descriptor)
            except ValueError as error:
                log.warning("no frames can come: %s", error)
            except zmq.ZMQError as error:  # out of descriptors: tried again at the next step, as a demand is repeated
                now = time.monotonic()
                if now >= self._warn_at:
                    self._warn_at = now + WARN_EVERY
                    log.warning("no frames can come yet: %s", error.strerror)
                endpoint = ""
        self._frames_endpoint = endpoint
        self.sources = [self._control] if self._frames is None else [self._control, self._frames]

    def _take(self, now: float) -> Frame | None:
        """The frame to hand out: the one that was held back, or one that has arrived."""
        session, held = self._session, self._held
        if held is not None and session.released is not None:
            self._held = None
            frame, header = held
            frame.age = age_of(header)
            if session.released and session.take_held(header.captured_mono, frame.age, now):
                return frame
        while self._frames is not None and self._frames.more and (message := self._frames.receive()) is not None:
            arrived = self._arrived(message.buffer, now)
            if arrived is not None:
                return arrived
        return None

    def _arrived(self, message: memoryview, now: float) -> Frame | None:
        try:
            header = self._decode(message)
        except WireError:
            return None  # not of this daemon's making; the open demand is repeated
        identity, age = FrameId(header.stream, header.epoch, header.seq), age_of(header)
        self._held = None
        if not self._session.expects_frame:
            return None
        try:
            frame = Frame(header, self._payload(header, message), age)
        except StaleDescriptorError:
            self._session.discard(identity, "stale_descriptor", age, now)
            return None
        except ArenaUnavailableError as error:
            self._access.warn(error)
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
        return self._arenas.frame(Descriptor(*header.arena))

"""A session and its sockets: what the blocking and the asyncio worker share. It never waits; whoever uses it does."""

import logging
import math
import os
import secrets
import time
from collections.abc import Sequence
from numbers import Real
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import zmq

import supplierd
from supplierd.arena import (
    ArenaReader,
    ArenaUnavailableError,
    Reason,
    StaleDescriptorError,
    arena_directory,
)
from supplierd.wire import bell as wire_bell
from supplierd.wire import control as wire_control
from supplierd.wire import frame as wire
from supplierd.wire.endpoints import machine_boot_id
from supplierd.wire.errors import WireError
from supplierd.wire.keys import client_keys
from supplierd.wire.names import ANY_STREAM, check_name
from supplierd_client.bell import Bell, HungUpError
from supplierd_client.express import Express
from supplierd_client.frame import Frame, Moment, age_now, age_of, inline_payload
from supplierd_client.lane import ArenaAccess
from supplierd_client.session import EXPECTING, Session, Verdict
from supplierd_client.sockets import Reach, Source, connect, default_control, local_directory, reachable, reachable_bell
from supplierd_client.turn import State

LEAVE_WAIT_MS: Final = 100
"""How long closing waits for the last message to be written."""
WARN_EVERY: Final = 1.0
"""Seconds between two warnings that no frames can come."""
GENERAL_EVERY: Final = 2.0
"""Seconds between two reads that look at everything, though nothing called for it: arenas that were unlinked, the
service manager, ZeroMQ's sockets."""
PRUNE_EVERY: Final = 5.0
"""Seconds between two looks for arenas that were unlinked, whose memory lasts as long as they are open here."""

BELL_TRIED: Final = 1.0
"""Seconds that a bell must have lasted for the next session to have one again."""

_JOINING: Final = State.JOINING
_TAKE: Final = Verdict.TAKE

log = logging.getLogger("supplierd_client")


class Channel:
    """One worker's control socket, frame socket, bell and session. For one thread at a time.

    Args: as those of Worker, and
        by_descriptor: whether its sources are waited for by their descriptors.

    Attributes:
        ask: the user wants a frame. Takes the time: seconds, monotonic.
        sources: what to wait for: when a source is readable, set its `more` and call `step`. There is nothing to wait
            for while a source has `more`. The list is another one when the sources are.
        by_descriptor: whether they must be waited for by their descriptors.
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
            if value is not None and not (isinstance(value, Real) and value > 0 and math.isfinite(value)):
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
        self._dtypes: dict[str, np.dtype[Any]] = {}
        self._pruned_at = time.monotonic()
        self._held: Frame | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._frames: Source | None = None
        self._frames_endpoint = ""
        self._warn_at = float("-inf")
        self._decode = wire.Decoder().decode
        self._bell: Bell | None = None
        self._bell_opened_at = 0.0
        self._bell_failed = False  # whether the last one was soon hung up
        self._bell_warned = False
        self._always_by_descriptor = self.by_descriptor = by_descriptor
        try:
            socket = connect(self._context, zmq.DEALER, self.endpoint, keys=self._keys)
        except ValueError:
            self._context.term()
            raise
        self._control = Source(socket, by_descriptor)
        self.sources: list[Source | Bell] = [self._control]

    @property
    def next_at(self) -> float:
        """When `step` must be called again, if nothing arrives before: seconds, monotonic."""
        return self._session.next_at

    def express(self, descriptors: Sequence[int]) -> Express | None:
        """The short way to the next frame, as long as `sources` stay what they are; None where there is none.

        Args:
            descriptors: of all that the worker is woken by, where Express is to wait for them.
        """
        if self._bell is None or self._arenas is None:
            return None
        others = [source for source in self.sources if isinstance(source, Source)]
        return Express(self._session, self._bell, self._arenas, others, descriptors)

    def look_everywhere(self) -> None:
        """Let the next `step` look at each source: a descriptor may have nothing to tell though something is there."""
        for source in self.sources:
            source.more = True

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
        if self._bell is not None and self._bell.more:
            frame = self._heed(self._bell, now)
        if session.error is not None:
            raise session.error
        if frame is None and (self._held is not None or (self._frames is not None and self._frames.more)):
            frame = self._take(now)
        if session.endpoint != self._frames_endpoint:
            self._follow(session.endpoint)
            if self._bell is not None:
                self._speak(time.monotonic())  # names the session: a bell that names none is soon closed
        return frame

    def close(self) -> None:
        """Take leave and disconnect."""
        message = self._session.leave(time.monotonic())
        if message is not None:
            (self._bell or self._control).send(message)
        self._held = None
        if self._bell is not None:
            self._bell.close()
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
        bell = self._bell
        message = self._session.to_send(now, short=bell is not None)
        if message is None:
            return
        if bell is not None and self._session.state is not _JOINING:
            if not bell.send(message):
                self._session.unsent(now)  # if the daemon is gone, the bell says so next
        elif self._control.send(message):
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

    def _heed(self, bell: Bell, now: float) -> Frame | None:
        """Take one packet from the bell; the frame to hand out, if it names one."""
        try:
            packet = bell.receive()
            if packet is None:
                return None
            if packet[0] == wire_bell.FRAME_KIND or packet[0] == wire_bell.HEAD_KIND:
                return self._arrived(*bell.frame(len(packet)), None, now)
            self._session.hear(bytes(packet), now)
        except HungUpError:
            self._session.hung_up()
        except WireError:
            pass  # as in `_listen`
        return None

    def _open_bell(self, now: float) -> None:
        """Have demands and descriptors go by the daemon's bell, where it has one for us."""
        welcome = self._session.welcome
        tried, self._bell_failed = self._bell_failed, False
        if welcome is None or not welcome.bell or tried:
            return
        path = reachable_bell(welcome.bell, self.endpoint)
        try:
            self._bell = Bell(path)
            self._bell_opened_at = now
        except OSError as error:
            if not self._bell_warned:
                self._bell_warned = True
                log.warning("frames come over ZeroMQ, which takes more CPU: %s: %s", path, error.strerror or error)

    def _follow(self, endpoint: str) -> None:
        """Move the frame socket and the bell: old ones are closed first, so that nothing of an old session can arrive
        any more."""
        if self._frames is not None:
            self._frames.socket.close(linger=0)
            self._frames = None
        if self._bell is not None:
            self._bell.close()
            self._bell = None
            self._bell_failed = time.monotonic() - self._bell_opened_at < BELL_TRIED
        if endpoint:
            target = reachable(endpoint, self.endpoint)
            try:
                self._frames = Source(connect(self._context, zmq.PULL, target, keys=self._keys), self.by_descriptor)
                self._open_bell(time.monotonic())
            except ValueError as error:
                log.warning("no frames can come: %s", error)
            except zmq.ZMQError as error:  # out of descriptors: tried again at the next step, as a demand is repeated
                now = time.monotonic()
                if now >= self._warn_at:
                    self._warn_at = now + WARN_EVERY
                    log.warning("no frames can come yet: %s", error.strerror)
                endpoint = ""
        self._frames_endpoint = endpoint
        self.by_descriptor = self._always_by_descriptor or self._bell is not None
        self.sources = [self._control]
        if self._frames is not None:
            self.sources.append(self._frames)
            self._frames.by_descriptor = self.by_descriptor
        if self._bell is not None:
            self.sources.append(self._bell)
        self._control.by_descriptor, self._control.more = self.by_descriptor, True

    def _take(self, now: float) -> Frame | None:
        """The frame to hand out: the one that was held back, or one that has arrived."""
        session, held = self._session, self._held
        if held is not None and session.released is not None:
            self._held = None
            held.age = age_now(held)
            if session.released and session.take_held(held.age, now):
                return held
        while self._frames is not None and self._frames.more and (message := self._frames.receive()) is not None:
            try:
                header = self._decode(message.buffer)
            except WireError:
                continue  # not of this daemon's making; the open demand is repeated
            moment = (header.seq, header.captured_wall, header.captured_mono)
            frame = self._arrived(header, moment, header.arena, message.buffer, now)
            if frame is not None:
                return frame
        return None

    def _arrived(
        self,
        header: wire.Header,
        moment: Moment,
        slot: wire_bell.Place | None,
        message: memoryview | None,
        now: float,
    ) -> Frame | None:
        """A frame has come: in this slot, or in this message. The header may be that of another one of its run, but for
        what is given here."""
        seq, wall, mono = moment
        identity, age = (header.stream, header.epoch, seq), age_of(header.boot, wall, mono)
        self._held = None
        if self._session.state not in EXPECTING:
            return None
        try:
            array = inline_payload(message, header) if slot is None and message else self._shared(header, slot)
        except StaleDescriptorError:
            self._session.discard(identity, "stale_descriptor", age, now)
            return None
        except ArenaUnavailableError as error:
            self._access.warn(error)
            self._session.go_inline(identity, error.reason.value, age)
            return None
        except (TypeError, ValueError):  # a number type that this machine's NumPy has not, a size that is not its own
            self._session.discard(identity, "unreadable", age, now)
            return None
        verdict = self._session.arrived(identity, mono, age, now)
        if verdict is _TAKE:
            return Frame(header, moment, array, age)
        if verdict is Verdict.HOLD:
            self._held = Frame(header, moment, array, age)
        return None

    def _shared(self, header: wire.Header, slot: wire_bell.Place | None) -> npt.NDArray[Any]:
        """The frame in a slot that is held from now on.

        Raises:
            StaleDescriptorError, ArenaUnavailableError, ValueError, TypeError: it cannot be had.
        """
        if self._arenas is None or slot is None:
            raise ArenaUnavailableError(Reason.NOT_FOUND, "the daemon sent a descriptor over a network")
        dtype = self._dtypes.get(header.dtype)
        if dtype is None:
            dtype = self._dtypes[header.dtype] = np.dtype(header.dtype or np.uint8)
        return self._arenas.array(slot, dtype, header.shape or slot[4:])

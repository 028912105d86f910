"""The loop's work: demands and frames come in, frames go out, time passes.

The hot path is `_accept`: let the supplier decide, send in its order. It adds to plain integers; it writes no log line,
calls no metrics library and copies no payload. Compiled, express.pyx goes it for nearly every frame.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgpack

from supplierd.core import snapshot
from supplierd.core.access import Grant, Role, workers_of
from supplierd.core.refusals import FrameRefusedError
from supplierd.core.stream import Frame
from supplierd.core.supplier import Delivery, Reply, Supplier
from supplierd.daemon.attendance import Attendance
from supplierd.daemon.dialogue import Dialogue
from supplierd.daemon.doors import Doors
from supplierd.daemon.express import Express
from supplierd.daemon.guard import Guard
from supplierd.daemon.parcels import Parcel, Parcels, known_reason
from supplierd.daemon.precedence import Precedence
from supplierd.daemon.sessions import Sessions
from supplierd.logs import Repeating, event
from supplierd.transport.bells import Bell, Bells
from supplierd.transport.control import ControlChannel, Peer
from supplierd.transport.curve import Gatekeeper
from supplierd.transport.descriptors import Descriptors
from supplierd.transport.doorbells import Doorbells
from supplierd.transport.inbox import Inbox, MultipartError
from supplierd.transport.link import Link, LinkFactory
from supplierd.transport.sockets import BURST, HEAR_AT_MOST, Message, Waiter
from supplierd.wire import frame
from supplierd.wire.bell import Demand
from supplierd.wire.errors import WireError

GUARD: Final = 0.1
"""Seconds between two looks at the doors while descriptors are short or a door is shut, beside those that each new
connection calls for."""
CALM_GUARD: Final = 1.0
"""Seconds between two of them else: each tick counts the open files."""
SWEEP: Final = 0.25
"""Seconds between two looks at who is still connected."""
CALM_SWEEP: Final = 1.0
"""Seconds between two of them while each worker has a bell, whose end is told of, and nothing unusual happens."""

log = logging.getLogger("supplierd.distribution")


class Distribution:
    """Supplier and sockets, joined.

    Args:
        supplier: decides and counts.
        inboxes, controls: bound sockets.
        links: opens workers' sockets.
        parcels: leases frames in shared memory.
        guard: judges peers.
        gatekeeper: asks it, where sockets have keys.
        max_message: largest accepted frame message, bytes.
        descriptors: watched, so that they don't run out.
        precedence: of the thread that turns.
        bells: of the workers on this machine; None: all goes over ZeroMQ.
        doorbells: of the inboxes; None: they have none.
    """

    def __init__(
        self,
        supplier: Supplier,
        inboxes: Sequence[Inbox],
        controls: Sequence[ControlChannel],
        links: LinkFactory,
        parcels: Parcels,
        *,
        guard: Guard,
        gatekeeper: Gatekeeper | None,
        max_message: int,
        descriptors: Descriptors,
        precedence: Precedence,
        bells: Bells | None,
        doorbells: Doorbells | None,
    ) -> None:
        self.supplier = supplier
        self._inboxes = inboxes
        self._controls = controls
        self._guard = guard
        self._gatekeeper = gatekeeper
        self._bells = bells
        self._doorbells = doorbells
        self._sessions = Sessions(bells)
        self._push_links: dict[str, Link] = {}
        self._repeating = Repeating(log)
        self._parcels = parcels
        self._max_message = max_message
        self._decoder = frame.Decoder()
        self._guarded_at = self._swept_at = time.monotonic()
        self._waiter = Waiter()
        self._doors = Doors(
            self._waiter, (*inboxes, *controls), self._links, supplier.settings.max_workers, descriptors
        )
        self._dialogue = Dialogue(
            supplier,
            self._sessions,
            links,
            deliver=self.deliver,
            may_join=self._doors.may_join,
            guard=guard,
            repeating=self._repeating,
            bell_path=str(bells.path) if bells is not None else "",
        )
        if bells is not None:
            self._waiter.add(bells.descriptor, patient=True)
        if doorbells is not None:
            self._waiter.add(doorbells.descriptor)
        if gatekeeper is not None:
            self._waiter.add(gatekeeper.socket)
        self._attendance = Attendance(
            supplier,
            self._sessions,
            self._push_links,
            doors=self._doors,
            bells=bells,
            doorbells=doorbells,
            repeating=self._repeating,
        )
        self._express = Express(
            supplier,
            self._sessions,
            self._waiter,
            bells,
            inboxes,
            doorbells=doorbells,
            parcels=parcels,
            decoder=self._decoder,
            max_message=max_message,
            descriptors=descriptors,
            precedence=precedence,
            otherwise=self,
        )

    def add_push_link(self, worker_name: str, link: Link) -> None:
        """Feed a configured push worker through `link`, whenever a peer is there."""
        self._push_links[worker_name] = link

    def wake_on(self, descriptor: int) -> None:
        """End a turn's wait when this file descriptor can be read."""
        self._waiter.add(descriptor)

    def turn(self) -> None:
        """One turn of the loop: wait for something to happen, at most until the next tick, and do it.

        Demands are heard before frames are taken: a worker that is ready gets the frame that is just arriving.
        """
        calm = self._attendance.calm and self._doors.calm
        ready = self._express.wait(self._swept_at + (CALM_SWEEP if calm else SWEEP))
        now = time.monotonic()
        if ready:
            self._attendance.calm = False  # to be looked at soon
        if self._gatekeeper is not None and self._gatekeeper.socket in ready and self._gatekeeper.answer():
            self._waiter.again(self._gatekeeper.socket)
        self._doors.come_and_gone(ready, now)
        if self._bells is not None and self._bells.descriptor in ready:
            for bell, packet in self._bells.take(now):
                self.rung(bell, packet, now)
        for channel in self._controls:
            if channel.socket in ready:
                self._hear(channel, now)
        for inbox in self._inboxes:
            if inbox.socket in ready:
                self._take_newest(inbox)
        if self._doorbells is not None and self._doorbells.descriptor in ready:
            for inbox, packet in self._doorbells.take():
                self.take(inbox, Message(packet), time.monotonic())
        self._look(now)
        askers = self._dialogue.take_askers()
        if askers:
            answer = msgpack.packb({"type": "snapshot", "snapshot": self.snapshot().to_wire()})
            message = Message(answer, copy=True)  # else pyzmq has a thread that lets go of what is long
            for channel, peer in askers:
                channel.send(peer, message)
                self._waiter.again(channel.socket)

    def _look(self, now: float) -> None:
        """Look at what nothing tells of, as often as each thing needs it."""
        if now - self._guarded_at >= (CALM_GUARD if self._doors.calm else GUARD):
            self._guarded_at = now
            self._doors.look(now)
        if now - self._swept_at >= SWEEP:
            self._swept_at = now
            self._attendance.look(now)
        for name in self._parcels.look(now):
            event(log, logging.INFO, "arena of a dead publisher removed", arena=name)

    def snapshot(self) -> snapshot.Snapshot:
        """The supplier's counts, now."""
        return snapshot.take(self.supplier, time.monotonic(), time.time(), self._parcels.state())

    def admit(self, grants: Mapping[str, Grant]) -> list[Grant]:
        """Put other grants in force, and cut off whoever has lost what it came in by; the grants that were lost."""
        revoked = self._guard.access.replace(grants)
        roles = {grant.role for grant in revoked}
        for listener in (*self._inboxes, *self._controls):
            judged = {Role.PUBLISHER} if isinstance(listener, Inbox) else {Role.WORKER, Role.MONITOR}
            if listener.secured and roles & judged:
                self._doors.reopen(listener)
        for name in workers_of(revoked):
            session = self._sessions.get(name)
            if session is not None and session.link.secured:
                self._attendance.lose(session, time.monotonic())
            if name in self._push_links and self._push_links[name].secured:
                self._doors.reopen(self._push_links[name])
        return revoked

    def stop(self, reason: str) -> None:
        """Take no more frames, and tell the workers."""
        if self._doorbells is not None:
            self._doorbells.close()
        for inbox in self._inboxes:
            inbox.close()
        self._dialogue.say_goodbye(reason)
        for session in self._sessions:
            self._sessions.close(session.worker.name)
        if self._bells is not None:
            self._bells.shut()
        for link in self._push_links.values():
            link.close()
        for channel in self._controls:
            channel.close()
        if self._gatekeeper is not None:
            self._gatekeeper.close()
        self._parcels.close()

    # --- frames -----------------------------------------------------------------------------------------------------

    def _take_newest(self, inbox: Inbox) -> None:
        """Take what lies in an inbox: of a conflated one each message, of a plain one the newest of each publisher."""
        newest: dict[tuple[str, int], tuple[frame.Header, Message]] = {}
        began = time.monotonic()
        for _ in range(BURST):
            now = time.monotonic()
            if now - began >= HEAR_AT_MOST:
                self._waiter.again(inbox.socket)
                break
            try:
                message = inbox.receive()
            except MultipartError as error:
                self._cut_off(inbox, error, now)
                break
            if message is None:
                break
            header = self._open(inbox, message, now)
            if header is None:
                continue
            if inbox.conflate:
                self._accept(header, message, now)
            else:
                newest[header.stream, header.epoch] = header, message
        else:
            self._waiter.again(inbox.socket)
        for header, message in newest.values():
            self._accept(header, message, time.monotonic())

    def take(self, inbox: Inbox, message: Message, now: float) -> None:
        """Distribute a message that a conflated inbox had, or its doorbell."""
        header = self._open(inbox, message, now)
        if header is not None:
            self._accept(header, message, now)

    def refuse_parts(self, inbox: Inbox, now: float) -> None:
        """A message of several parts was received."""
        try:
            inbox.refuse_parts("an unknown peer")
        except MultipartError as error:
            self._cut_off(inbox, error, now)

    def _cut_off(self, inbox: Inbox, error: MultipartError, now: float) -> None:
        """For a message of several parts an inbox was bound anew."""
        self._dialogue.reject(WireError("multipart", str(error)), now, "inbox")
        self._doors.watch(inbox)

    def _open(self, inbox: Inbox, message: Message, now: float) -> frame.Header | None:
        """Read a message's header; None where it is refused, which has been counted."""
        try:
            if len(message) > self._max_message:
                raise WireError(
                    "oversized",
                    f"a frame message has {len(message)} bytes, inbox.max_message_bytes is {self._max_message}",
                )
            header = self._decoder.decode(message.buffer)
            if header.arena is not None and not inbox.local:
                raise WireError("no_arena", "a frame from another machine names shared memory of this one")
        except WireError as error:
            self._dialogue.reject(error, now, "inbox")
            return None
        user = inbox.user(message) if inbox.secured else None
        if user is not None and not self._guard.access.may_publish(user, header.stream):
            self._guard.deny(user, now, "frame refused", stream=header.stream)
            return None
        return header

    def _accept(self, header: frame.Header, message: Message, now: float) -> None:
        """Distribute one frame that arrived at `now`."""
        try:
            if header.stream not in self.supplier.streams:
                self.supplier.check_stream(header.stream)  # before its arena is opened
            parcel = self._parcels.make(header, message)
            inline = known_reason(header.inline) if header.inline else ""
            carried = (header.stream, header.boot, header.epoch, header.seq, header.unsent, inline, parcel)
            deliveries = self.supplier.frame(tuple.__new__(Frame, carried), now)
        except WireError as error:
            self._dialogue.reject(error, now, "inbox")
            return
        except FrameRefusedError as refused:
            self.refuse_frame(header.stream, refused, now)
            return
        for delivery in deliveries:
            self.deliver(delivery, now)
        self._express.served(len(deliveries), now)

    def refuse_frame(self, stream: str, refused: FrameRefusedError, now: float) -> None:
        """The supplier refused a frame."""
        text = f"frame refused: {refused}"
        self._repeating.event(f"frame:{refused.reason}", now, text, stream=stream, reason=refused.reason)

    def deliver(self, delivery: Delivery, now: float) -> None:
        """Send the frame that the supplier has moved under way."""
        worker, mailbox = delivery
        session = None
        if worker.policy.push:
            link: Link | None = self._push_links[worker.name]
        else:
            session = self._sessions.get(worker.name)
            link = session.link if session else None
        assert mailbox.in_flight is not None
        parcel: Parcel = mailbox.in_flight.message
        if session is not None and session.bell is not None and parcel.ring(session.bell):
            return
        inline = worker.policy.push or worker.inline_reason
        message = parcel.inline(self._max_message) if inline and link is not None else parcel.message
        if message is None:
            following = self.supplier.unreadable(delivery, now)
            text = "frame discarded: its shared memory is damaged, or has more than inbox.max_message_bytes to be sent"
            self._repeating.event("unreadable", now, text, worker=worker.name, stream=mailbox.stream.name)
            if following is not None:
                self.deliver(following, now)
        elif link is None or not link.send(message):
            self.supplier.undelivered(delivery)
            self._express.hurry()
        elif worker.policy.push:
            self.supplier.pushed(delivery, now)

    # --- everything else --------------------------------------------------------------------------------------------

    def _hear(self, channel: ControlChannel, now: float) -> None:
        for _ in range(BURST):
            heard = channel.receive()
            if heard is None:
                return
            self._dialogue.hear(*heard, now)
            if time.monotonic() - now >= HEAR_AT_MOST:
                break
        self._waiter.again(channel.socket)

    def rung(self, bell: Bell, packet: bytes, now: float) -> None:
        """A bell had a packet; b"" where it has ended."""
        if packet:
            self._dialogue.rung(bell, packet, now)
        else:
            self._attendance.calm = False  # its worker may be gone, too: that is looked at soon
            self._sessions.hung_up(bell)

    def answer(self, bell: Bell, demand: Demand, reply: Reply, now: float) -> None:
        """Tell a worker that asked by a bell what it is told in place of a frame."""
        self._dialogue.answer(Peer(bell, b""), demand, reply, now)

    def _links(self) -> Iterator[Link]:
        yield from self._push_links.values()
        yield from (session.link for session in self._sessions)

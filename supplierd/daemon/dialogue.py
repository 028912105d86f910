"""What workers and monitors say, and what they are told.

A message is decoded, handed to the supplier, and answered; a frame that is due goes out through `deliver`. What cannot
be read is counted by its reason and answered with an error, so that the peer's people learn what was wrong.
"""

import logging
from collections.abc import Callable
from typing import Final

import supplierd
from supplierd.core.mailbox import Report
from supplierd.core.refusals import RefusalError
from supplierd.core.supplier import Delivery, Reply, Supplier
from supplierd.core.worker import JoinRequest
from supplierd.daemon.guard import Guard
from supplierd.daemon.parcels import known_reason
from supplierd.daemon.sessions import Session, Sessions, new_session_number
from supplierd.logs import Repeating, event
from supplierd.transport.bells import Bell
from supplierd.transport.control import ControlChannel, Peer
from supplierd.transport.link import LinkFactory
from supplierd.transport.sockets import TransportError
from supplierd.wire import bell as wire_bell
from supplierd.wire import control
from supplierd.wire.errors import WireError
from supplierd.wire.frame import MAX_ITEMS
from supplierd.wire.names import ANY_STREAM, check_name

REPEAT_AFTER: Final = 1.0
"""Seconds after which a worker repeats an unanswered demand."""
MAX_TARGET_FPS: Final = 1000.0
MAX_STREAMS_PER_JOIN: Final = 256
MAX_CLIENT_TEXT: Final = 80
"""Characters of a client's word on itself that are kept."""

log = logging.getLogger("supplierd.workers")


class Dialogue:
    """The daemon's side of the control channel and of the bells.

    Args:
        supplier: decides.
        sessions: links, bells and peers of the workers.
        links: opens a link for a worker that joins.
        deliver: sends what the supplier moved under way.
        may_join: says whether one more JOIN is heard now.
        guard: says who may say what.
        repeating: logs.
        bell_path: of the bells' socket; "": there is none.
    """

    def __init__(
        self,
        supplier: Supplier,
        sessions: Sessions,
        links: LinkFactory,
        *,
        deliver: Callable[[Delivery, float], None],
        may_join: Callable[[float], bool],
        guard: Guard,
        repeating: Repeating,
        bell_path: str,
    ) -> None:
        self._supplier = supplier
        self._sessions = sessions
        self._links = links
        self._deliver = deliver
        self._guard = guard
        self._repeating = repeating
        self._may_join = may_join
        self._bell_path = bell_path
        self._asking: list[tuple[ControlChannel, Peer]] = []

    def hear(self, peer: Peer, data: bytes | None, now: float, items: int = MAX_ITEMS) -> None:
        """Answer one message, in which no list or map may have more items."""
        try:
            if data is None:
                raise WireError("multipart", "a control message has one part")
            message = control.decode_from_client(data, items)
            if not self._may_say(peer, message):
                self._deny(peer, message, now)
                return
            match message:
                case control.Demand() if isinstance(peer.channel, ControlChannel):
                    self._demand(peer, message, now)
                case control.Recheck():
                    self.answer(peer, message, self._supplier.recheck(message.session, message.number, now), now)
                case control.Leave():
                    self._leave(message, now)
                case control.Join() if isinstance(peer.channel, ControlChannel):
                    self._join(peer, peer.channel, message, now)
                case control.Stats() if isinstance(peer.channel, ControlChannel):
                    self._asking.append((peer.channel, peer))
                case _:
                    raise WireError("bad_message", "over a bell come short demands, RECHECK and LEAVE")
        except WireError as error:
            self.reject(error, now, "control")
            _tell(peer, control.Error(error.reason, str(error)))

    def rung(self, bell: Bell, packet: bytes, now: float) -> None:
        """Answer one packet of a bell."""
        if packet[0] != wire_bell.DEMAND_KIND:
            self.hear(Peer(bell, b""), packet, now, wire_bell.MAX_ITEMS)
            return
        try:
            demand = wire_bell.decode_demand(packet)
        except WireError as error:
            self.reject(error, now, "bell")
            return
        worker = self._supplier.session(demand.session)
        session = None if worker is None else self._sessions.get(worker.name)
        if worker is None or session is None or worker.inline_reason or not session.link.local:
            self.answer(Peer(bell, b""), demand, Reply.REJOIN, now)
            return
        if session.bell is not bell:
            self._sessions.attach(session, bell)
            session.peer = Peer(bell, b"")
        worker.leases = demand.leases
        report = None
        if demand.outcome:
            mailbox = worker.in_flight()  # what it reports on, if anything
            report = Report(
                mailbox.stream.name if mailbox else "", demand.epoch, demand.seq, demand.outcome, demand.age / 1e9,
                demand.processing / 1e9,
            )  # fmt: skip
        reply = self._supplier.demand(demand.session, demand.number, report, now)
        if reply is not Reply.NOTHING:
            self.answer(Peer(bell, b""), demand, reply, now)

    def reject(self, error: WireError, now: float, where: str) -> None:
        """Count a message that breaks the format."""
        self._supplier.rejected[error.reason] += 1
        self._repeating.event(
            f"{where}:{error.reason}", now, f"message refused: {error}", where=where, reason=error.reason
        )

    def _may_say(self, peer: Peer, message: control.FromClient) -> bool:
        access = self._guard.access
        if isinstance(message, control.Stats):
            return access.may_monitor(peer.user)
        if isinstance(message, control.Join):
            return access.may_be(peer.user, message.worker)
        worker = self._supplier.session(message.session)
        return worker is None or access.may_be(peer.user, worker.name)

    def _deny(self, peer: Peer, message: control.FromClient, now: float) -> None:
        if isinstance(message, control.Join):
            self._guard.deny(peer.user, now, "worker refused", worker=message.worker)
            text = f"this key may not be worker {message.worker!r:.80}: see [keys] in the daemon's configuration"
            _tell(peer, control.Refused("not_allowed", text, message.attempt))
        else:
            what = type(message).__name__.upper()
            self._guard.deny(peer.user, now, "message refused", message=what)
            _tell(peer, control.Error("not_allowed", f"this key may not say {what}: see [keys] in the configuration"))

    def take_askers(self) -> list[tuple[ControlChannel, Peer]]:
        """Who asked for the statistics since the last call."""
        askers, self._asking = self._asking, []
        return askers

    def say_goodbye(self, reason: str) -> None:
        """Tell every worker that the daemon stops."""
        for session in self._sessions:
            if session.peer is not None:
                _tell(session.peer, control.Goodbye(reason))

    # --- one method per message -------------------------------------------------------------------------------------

    def _demand(self, peer: Peer, message: control.Demand, now: float) -> None:
        worker = self._supplier.session(message.session)
        if worker is not None:
            worker.leases = message.leases
            session = self._sessions.get(worker.name)
            if session is not None:
                session.peer = peer  # a reconnected client speaks from a new identity
                self._sessions.attach(session, None)
        reply = self._supplier.demand(message.session, message.number, _report(message.settled), now)
        self.answer(peer, message, reply, now)

    def answer(
        self,
        peer: Peer,
        message: control.Demand | control.Recheck | wire_bell.Demand,
        reply: Delivery | Reply,
        now: float,
    ) -> None:
        """Send a worker that asked the frame that is due, or tell it what it is told in place of one."""
        if isinstance(reply, Delivery):
            self._deliver(reply, now)
        elif reply is Reply.REJOIN:
            _tell(peer, control.Rejoin(message.session, "this daemon does not know the session"))
        elif reply is Reply.NEWEST:
            _tell(peer, control.Newest(message.number))
        elif reply is not Reply.NOTHING:
            _tell(peer, control.Wait(message.number, sent=reply is Reply.UNDER_WAY))

    def _join(self, peer: Peer, channel: ControlChannel, message: control.Join, now: float) -> None:
        name = message.worker
        known = self._supplier.workers.get(name)
        session = self._sessions.get(name)
        if known and session and (known.instance, known.attempt) == (message.instance, message.attempt):
            session.peer = peer
            channel.send(peer, session.welcome)  # the JOIN was repeated: so is the answer
            return
        try:
            request = _request(message)
            if not self._may_join(now):
                self._supplier.rejected["too_many_joins"] += 1
                self._repeating.event("joins", now, "too many workers join at once: some must wait", worker=name)
                return
            replaced = known is not None and known.connected and known.instance != message.instance
            worker = self._supplier.join(request, new_session_number(), _report(message.settled), now)
        except RefusalError as refusal:
            self._supplier.rejected[refusal.reason] += 1
            self._repeating.event(f"join:{refusal.reason}", now, f"worker refused: {refusal}", reason=refusal.reason)
            _tell(peer, control.Refused(refusal.reason, str(refusal), message.attempt))
            return
        if session and session.peer and replaced:
            _tell(session.peer, control.TakenOver(_session_number(session), request.client))
        self._sessions.close(name)
        try:
            link = self._links.open(channel.endpoint, name)
        except TransportError as error:
            self._supplier.disconnected(worker, now)  # no answer: it may be over when the JOIN is repeated
            text = f"no endpoint for a worker: {error}; see control.worker_ports and the limit of open files"
            self._repeating.event("link", now, text, worker=name)
            return
        welcome = control.Welcome(
            session=worker.session,
            endpoint=link.endpoint if channel.local else "tcp://*:" + link.endpoint.rpartition(":")[2],
            attempt=message.attempt,
            worker_class=worker.policy.service_class.value,
            repeat_after=REPEAT_AFTER,
            target_fps=worker.target_fps,
            daemon=f"supplierd {supplierd.__version__}",
            bell=self._bell_path if channel.local and not request.inline_reason else "",
        )
        self._sessions.add(Session(worker, link, peer, control.encode(welcome), now))
        _tell(peer, welcome)
        event(
            log,
            logging.INFO,
            "worker took over" if replaced else "worker joined",
            worker=name,
            service_class=worker.policy.service_class.value,
            streams=",".join(worker.mailboxes),
            target_fps=worker.target_fps,
            pid=worker.pid,
            client=worker.client,
            inline=worker.inline_reason,
        )

    def _leave(self, message: control.Leave, now: float) -> None:
        worker = self._supplier.leave(message.session, _report(message.settled), now)
        if worker is not None:
            self._sessions.close(worker.name)
            event(log, logging.INFO, "worker left", worker=worker.name)


def _request(message: control.Join) -> JoinRequest:
    """A JOIN's content, checked.

    Raises:
        RefusalError: it asks for what cannot be.
    """
    try:
        check_name("worker", message.worker)
        streams = message.streams or [ANY_STREAM]
        for stream in streams:
            if stream != ANY_STREAM:
                check_name("stream", stream)
    except ValueError as error:
        raise RefusalError("bad_name", str(error)) from None
    if control.VERSION not in message.versions:
        raise RefusalError(
            "wire_version", f"this daemon speaks wire version {control.VERSION}, the client {message.versions[:8]}"
        )
    if message.delivery != "on_demand":
        raise RefusalError(
            "bad_delivery",
            f"delivery {message.delivery!r:.40} cannot be joined: a client uses on_demand; "
            "push is for workers without one, and set in the configuration",
        )
    fps = message.target_fps
    if fps is not None and not 0.0 < fps <= MAX_TARGET_FPS:
        raise RefusalError("bad_target_fps", f"target_fps {fps:g} is outside 0 to {MAX_TARGET_FPS:g} frames a second")
    if len(message.instance) != 16 or len(streams) > MAX_STREAMS_PER_JOIN:
        raise RefusalError("bad_join", f"a JOIN has an instance of 16 bytes and at most {MAX_STREAMS_PER_JOIN} streams")
    return JoinRequest(
        worker=message.worker,
        instance=message.instance,
        attempt=message.attempt,
        streams=tuple(streams),
        target_fps=fps,
        client=_plain(message.client),
        pid=message.pid,
        inline_reason=known_reason(message.arena) if message.arena else "",
    )


def _plain(text: str) -> str:
    """A client's text, made harmless for logs, labels and terminals."""
    return "".join(c if c.isprintable() else "?" for c in text[:MAX_CLIENT_TEXT])


def _report(settled: control.Settled | None) -> Report | None:
    if settled is None:
        return None
    return Report(
        settled.stream, settled.epoch, settled.seq, settled.outcome, settled.age / 1e9, settled.processing / 1e9
    )


def _session_number(session: Session) -> int:
    welcome = control.decode_from_daemon(session.welcome)
    return welcome.session if isinstance(welcome, control.Welcome) else 0


def _tell(peer: Peer, message: control.FromDaemon) -> None:
    peer.channel.send(peer, control.encode(message))

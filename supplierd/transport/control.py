"""The control channel: a ROUTER that workers and monitors talk to. It moves bytes; what they say is not its matter."""

from typing import Final, NamedTuple, Protocol

import zmq

from supplierd.transport.curve import Lock, user_of
from supplierd.transport.listener import Listener
from supplierd.transport.sockets import Context, Message, Socket, open_socket, readable
from supplierd.wire.control import MAX_CONTROL_BYTES

MAX_MESSAGE_BYTES: Final = 2 * MAX_CONTROL_BYTES
"""Beyond this libzmq drops the peer; what is shorter, and too long for a control message, is refused and counted."""
QUEUE_DEPTH: Final = 4
"""Unheard questions of one peer, and unread answers to it: it has one question open at a time."""
FAREWELL_MS: Final = 200
"""How long closing waits for the last words to be written."""


class Channel(Protocol):
    """What answers can be sent by."""

    def send(self, peer: "Peer", message: bytes, /) -> None:
        """Answer a peer; one that is gone, or does not read, is passed over."""


class Peer(NamedTuple):
    """Where an answer goes: a connection of one control channel, or a bell.

    Attributes:
        user: the public key with which it came; None where no key is asked for.
    """

    channel: Channel
    identity: bytes
    user: str | None = None


class ControlChannel(Listener):
    """One bound control endpoint.

    Args:
        context: of the daemon.
        endpoint: where to bind.
        lock: keys that workers and monitors need on tcp.

    Raises:
        zmq.ZMQError: the endpoint cannot be bound.
    """

    def __init__(self, context: Context, endpoint: str, lock: Lock | None = None) -> None:
        self._context = context
        super().__init__(endpoint, lock)

    def _make(self) -> Socket:
        socket = open_socket(self._context, zmq.ROUTER, MAX_MESSAGE_BYTES)
        socket.set(zmq.SNDHWM, QUEUE_DEPTH)
        socket.set(zmq.RCVHWM, QUEUE_DEPTH)
        return socket

    def receive(self) -> tuple[Peer, bytes | None] | None:
        """The next message and its sender, or None where there is none. A message of several parts is given as None."""
        if not readable(self.socket):
            return None
        try:
            identity = self.socket.recv(zmq.NOBLOCK)  # ROUTER puts it before every message
            message = last = self.socket.recv(zmq.NOBLOCK, copy=False)
            while last.more:
                last = self.socket.recv(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return None
        user = user_of(last) if self.secured else None
        return Peer(self, identity, user), message.bytes if message is last else None

    def send(self, peer: Peer, message: bytes | Message) -> None:
        """Answer a peer; one that is gone, or does not read, is passed over. A Message for many is not copied."""
        try:
            self.socket.send_multipart((peer.identity, message), zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise

    def close(self) -> None:
        """Stop listening, after a moment for answers under way."""
        self._shut(linger=FAREWELL_MS)

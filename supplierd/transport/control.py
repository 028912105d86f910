"""The control channel: a ROUTER that workers and monitors talk to. It moves bytes; what they say is not its matter."""

from typing import Final, NamedTuple

import zmq

from supplierd.transport.lock import IPC
from supplierd.transport.sockets import Context, Socket, StrangerCount, open_socket, readable

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
"""Beyond this libzmq drops the peer; what is shorter, and too long for a control message, is refused and counted."""
QUEUE_DEPTH: Final = 16
"""Unread answers to one peer: it has one question open at a time."""
FAREWELL_MS: Final = 200
"""How long closing waits for the last words to be written."""


class Peer(NamedTuple):
    """Where an answer goes: a connection of one control channel."""

    channel: "ControlChannel"
    identity: bytes


class ControlChannel:
    """One bound control endpoint.

    Raises:
        zmq.ZMQError: the endpoint cannot be bound.
    """

    def __init__(self, context: Context, endpoint: str) -> None:
        self.endpoint = endpoint
        self.local = endpoint.startswith(IPC)
        self.socket: Socket = open_socket(context, zmq.ROUTER, MAX_MESSAGE_BYTES)
        self.socket.set(zmq.SNDHWM, QUEUE_DEPTH)
        self.socket.bind(endpoint)
        self._strangers = StrangerCount(self.socket)

    def receive(self) -> tuple[Peer, bytes | None] | None:
        """The next message and its sender, or None where there is none. A message of several parts is given as None."""
        if not readable(self.socket):
            return None
        identity, *parts = self.socket.recv_multipart(zmq.NOBLOCK)
        return Peer(self, identity), parts[0] if len(parts) == 1 else None

    def send(self, peer: Peer, message: bytes) -> None:
        """Answer a peer; one that is gone, or does not read, is passed over."""
        try:
            self.socket.send_multipart((peer.identity, message), zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise

    def strangers(self) -> int:
        """Connections that failed to shake hands since the last call."""
        return self._strangers.take()

    def close(self) -> None:
        """Stop listening, after a moment for answers under way."""
        self._strangers.close()
        self.socket.close(linger=FAREWELL_MS)

"""Where publishers' frames arrive: a PULL socket that keeps nothing but the newest.

On ipc it is conflated: one message deep for each publisher. On tcp it is plain and drained to the newest of each
publisher by whoever reads it, which means the same: libzmq's conflated receiver wakes for each chunk of a large
message, and now and then loses one and leaks it. `conflate` can be chosen for each endpoint.

A message of several parts can abort the process if a conflated socket is read again after it, so that is closed and
bound anew; publishers reconnect by themselves. A plain socket is read to the end of the message.
"""

from contextlib import suppress
from typing import Final, NoReturn

import zmq

from supplierd.transport.curve import Lock, user_of
from supplierd.transport.listener import Listener
from supplierd.transport.lock import IPC
from supplierd.transport.sockets import TCP_BUFFER_BYTES, Context, Socket, open_socket, readable

QUEUE_DEPTH: Final = 4
"""Messages that a plain inbox lets libzmq hold: enough for a burst, too few for a backlog."""
OVERSIZE_MARGIN: Final = 64 * 1024 * 1024
"""Messages that exceed the limit by less are received, refused and counted; a larger one costs its sender the
connection, unread."""


class MultipartError(Exception):
    """A peer sent a message of several parts, and none of them is given. `peer` names it where libzmq does."""

    def __init__(self, peer: str) -> None:
        super().__init__(f"a message of several parts from {peer}: frames are one part")
        self.peer = peer


class Inbox(Listener):
    """One bound inbox endpoint.

    Args:
        context: of the daemon.
        endpoint: where to bind.
        conflate: whether libzmq keeps the newest only, or the reader does; None: as suits the endpoint.
        max_message: largest frame message that is accepted, in bytes.
        lock: keys that publishers need on tcp.

    Raises:
        zmq.ZMQError: the endpoint cannot be bound.
    """

    def __init__(
        self, context: Context, endpoint: str, conflate: bool | None, max_message: int, lock: Lock | None = None
    ) -> None:
        self.conflate = endpoint.startswith(IPC) if conflate is None else conflate
        self._context = context
        self._max_message = max_message
        super().__init__(endpoint, lock)

    def _make(self) -> Socket:
        socket = open_socket(self._context, zmq.PULL, self._max_message + OVERSIZE_MARGIN)
        if self.conflate:
            socket.set(zmq.CONFLATE, 1)
        socket.set(zmq.RCVHWM, QUEUE_DEPTH)
        socket.set(zmq.RCVBUF, TCP_BUFFER_BYTES)
        return socket

    def receive(self) -> zmq.Frame | None:
        """The next message, or None where there is none.

        Raises:
            MultipartError: the message had several parts; the socket may be a new one now, not yet bound, or spent.
        """
        if not readable(self.socket) or self.spent:
            return None
        try:
            message = self.socket.recv(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return None
        if message.more:
            peer = _peer(message)
            if not self.conflate:
                while message.more:
                    message = self.socket.recv(zmq.NOBLOCK, copy=False)
            self.refuse_parts(peer)
        return message

    def refuse_parts(self, peer: str) -> NoReturn:
        """A message of several parts was received, and of a plain socket all of them. Raises as `receive` does."""
        if self.conflate:
            with suppress(zmq.ZMQError):  # then it is not `listening`
                self.reopen()
        raise MultipartError(peer)

    def user(self, message: zmq.Frame) -> str | None:
        """The public key of the publisher that sent a message; None where no key is asked for."""
        return user_of(message) if self.secured else None


def _peer(message: zmq.Frame) -> str:
    try:
        return str(message.get("Peer-Address"))
    except zmq.ZMQError:
        return "an unknown peer"

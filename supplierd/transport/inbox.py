"""Where publishers' frames arrive: a PULL socket that keeps nothing but the newest.

On ipc it is conflated: one message deep for each publisher. On tcp it is plain and drained to the newest of each stream
by whoever reads it, which means the same: libzmq's conflated receiver wakes for each chunk of a large message, and
now and then loses one and leaks it. `conflate` can be chosen for each endpoint.

A message of several parts can abort the process if a conflated socket is read again after it, so that is closed and
bound anew; publishers reconnect by themselves. A plain socket is read to the end of the message.
"""

import time
from typing import Final

import zmq

from supplierd.transport.lock import IPC
from supplierd.transport.sockets import TCP_BUFFER_BYTES, Context, Socket, StrangerCount, open_socket, readable

QUEUE_DEPTH: Final = 4
"""Messages that a plain inbox lets libzmq hold: enough for a burst, too few for a backlog."""
OVERSIZE_MARGIN: Final = 64 * 1024 * 1024
"""Messages that exceed the limit by less are received, refused and counted; a larger one costs its sender the
connection, unread."""
REBIND_WITHIN: Final = 2.0
"""Seconds for a closed socket's tcp address to become free: libzmq closes it in its I/O thread, within a millisecond."""
REBIND_STEP: Final = 0.001


class MultipartError(Exception):
    """A peer sent a message of several parts, and none of them is given. `peer` names it where libzmq does."""

    def __init__(self, peer: str) -> None:
        super().__init__(f"a message of several parts from {peer}: frames are one part")
        self.peer = peer


class Inbox:
    """One bound inbox endpoint.

    Args:
        context: of the daemon.
        endpoint: where to bind.
        conflate: whether libzmq keeps the newest only, or the reader does; None: as suits the endpoint.
        max_message: largest frame message that is accepted, in bytes.

    Raises:
        zmq.ZMQError: the endpoint cannot be bound.
    """

    def __init__(self, context: Context, endpoint: str, conflate: bool | None, max_message: int) -> None:
        self.endpoint = endpoint
        self.conflate = endpoint.startswith(IPC) if conflate is None else conflate
        self._context = context
        self._max_message = max_message
        self._open()

    def _open(self, within: float = 0.0) -> None:
        """Bind, trying for so many seconds while the address is in use."""
        self.socket: Socket = open_socket(self._context, zmq.PULL, self._max_message + OVERSIZE_MARGIN)
        if self.conflate:
            self.socket.set(zmq.CONFLATE, 1)
        self.socket.set(zmq.RCVHWM, QUEUE_DEPTH)
        self.socket.set(zmq.RCVBUF, TCP_BUFFER_BYTES)
        deadline = time.monotonic() + within
        while True:
            try:
                self.socket.bind(self.endpoint)
                break
            except zmq.ZMQError as error:
                if error.errno != zmq.EADDRINUSE or time.monotonic() >= deadline:
                    self.socket.close(linger=0)
                    raise
                time.sleep(REBIND_STEP)
        self._strangers = StrangerCount(self.socket)

    def receive(self) -> zmq.Frame | None:
        """The next message, or None where there is none.

        Raises:
            MultipartError: the message had several parts; the socket may be a new one now.
        """
        if not readable(self.socket):
            return None
        message = self.socket.recv(zmq.NOBLOCK, copy=False)
        if message.more:
            peer = _peer(message)
            if self.conflate:
                self.close()
                self._open(REBIND_WITHIN)
            else:
                while message.more:
                    message = self.socket.recv(zmq.NOBLOCK, copy=False)
            raise MultipartError(peer)
        return message

    def strangers(self) -> int:
        """Connections that failed to shake hands since the last call."""
        return self._strangers.take()

    def close(self) -> None:
        """Stop listening."""
        self._strangers.close()
        self.socket.close(linger=0)


def _peer(message: zmq.Frame) -> str:
    try:
        return str(message.get("Peer-Address"))
    except zmq.ZMQError:
        return "an unknown peer"

"""What the daemon's listening sockets have in common: the endpoint, the count of strangers, and its key.

A listener can be bound anew, and be shut for a while. Both cut off everybody: libzmq ends an endpoint's connections
with it. That is how a revoked key's connections end, and a flood of them.
"""

import time
from abc import ABC, abstractmethod
from typing import Final

import zmq

from supplierd.transport.curve import Lock, protect
from supplierd.transport.lock import IPC
from supplierd.transport.sockets import Socket, StrangerCount

REBIND_WITHIN: Final = 0.1
"""Seconds for a closed socket's tcp address to become free: libzmq's I/O thread closes it, within a millisecond where
it has a core. Frames wait meanwhile, so whoever needs longer is told, and may try again later."""
REBIND_STEP: Final = 0.001


class Listener(ABC):
    """A bound socket.

    Args:
        endpoint: where to bind.
        lock: keys that peers need; on ipc files' modes decide, and it is not used.

    Attributes:
        local: whether only this machine's processes can reach it, by a file.
        secured: whether peers need keys.
        socket: another one each time that it is bound anew.
        listening: whether anybody can connect.
        spent: whether nothing more may be received: a new socket could not be had yet.

    Raises:
        zmq.ZMQError: the endpoint cannot be bound.
    """

    socket: Socket

    def __init__(self, endpoint: str, lock: Lock | None = None) -> None:
        self.endpoint = endpoint
        self.local = endpoint.startswith(IPC)
        self.secured = lock is not None and not self.local
        self._lock = lock
        self.spent = False
        self._take(*self._prepare())
        try:
            self._bind(within=0.0)
        except zmq.ZMQError:
            self._shut(linger=0)
            raise

    @abstractmethod
    def _make(self) -> Socket:
        """A socket with all its options, not yet bound."""

    def _prepare(self) -> tuple[Socket, StrangerCount]:
        """A new socket, not yet bound."""
        socket = self._make()
        try:
            if self._lock is not None and not self.local:
                protect(socket, self._lock)
            return socket, StrangerCount(socket)
        except zmq.ZMQError:
            socket.close(linger=0)
            raise

    def _take(self, socket: Socket, strangers: StrangerCount) -> None:
        """This is the socket from now on."""
        self.socket, self._strangers = socket, strangers
        self.listening = self.spent = False

    def _bind(self, within: float) -> None:
        """Bind, trying for so many seconds while the address is in use."""
        deadline = time.monotonic() + within
        while not self.listening:
            try:
                self.socket.bind(self.endpoint)
                self.listening = True
            except zmq.ZMQError as error:
                if error.errno != zmq.EADDRINUSE or time.monotonic() >= deadline:
                    raise
                time.sleep(REBIND_STEP)

    @property
    def events(self) -> Socket:
        """Readable when `strangers` should be called, because somebody has come or gone."""
        return self._strangers.monitor

    @property
    def connections(self) -> int:
        """How many there are, as far as `strangers` has been told."""
        return self._strangers.connections

    @property
    def handshakes(self) -> int:
        """How many connections have shaken hands, as far as `strangers` has been told."""
        return self._strangers.handshakes

    def reopen(self) -> None:
        """Cut off every peer and listen anew; those who may come reconnect by themselves.

        Raises:
            zmq.ZMQError: somebody else has taken the endpoint, or a new socket cannot be had, in which case the old one
                stays, without peers. `resume` tries again.
        """
        try:
            made = self._prepare()
        except zmq.ZMQError:
            self.pause()
            self.spent = True
            raise
        self._shut(linger=0)
        self._take(*made)
        self._bind(REBIND_WITHIN)

    def pause(self) -> None:
        """Cut off every peer, and let nobody connect until `resume`."""
        if self.listening:
            self.socket.unbind(self.socket.get_string(zmq.LAST_ENDPOINT))
            self._strangers.forget()
            self.listening = False

    def resume(self) -> None:
        """Listen again, perhaps by another socket; those who may come reconnect by themselves.

        Raises:
            zmq.ZMQError: somebody else has taken the endpoint, or a new socket cannot be had.
        """
        if self.spent:
            self.reopen()
        else:
            self._bind(within=0.0)

    def strangers(self) -> int:
        """Connections that failed to shake hands since the last call."""
        return self._strangers.take()

    def close(self) -> None:
        """Stop listening, and cut off every peer."""
        self._shut(linger=0)

    def _shut(self, linger: int) -> None:
        self._strangers.close()
        self.socket.close(linger=linger)

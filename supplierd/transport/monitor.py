"""A monitor's side of the control channel: ask for the snapshot, get it."""

from typing import Any

import zmq

from supplierd.transport.curve import present
from supplierd.wire import control, endpoints
from supplierd.wire.keys import ClientKeys


class NoAnswerError(Exception):
    """No daemon answered."""


class Monitor:
    """A connection to a daemon's control endpoint. For one thread at a time.

    Args:
        endpoint: of the control channel.
        keys: where the daemon asks for them, which it does on tcp.

    Raises:
        supplierd.transport.sockets.TransportError: it is no endpoint.
    """

    def __init__(self, endpoint: str, keys: ClientKeys | None = None) -> None:
        self._endpoint = endpoint
        self._keys = keys
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        try:
            self._connect()
        except zmq.ZMQError:
            self.close()
            raise

    def snapshot(self, timeout: float) -> dict[str, Any]:
        """The daemon's snapshot, as supplierd.core.snapshot.Snapshot.to_wire gives it.

        Args:
            timeout: seconds to wait.

        Raises:
            NoAnswerError: none came; the next call begins afresh.
        """
        socket = self._socket or self._connect()
        socket.send(control.encode(control.Stats()), zmq.NOBLOCK)
        while socket.poll(round(timeout * 1e3)):
            answer = control.decode_from_daemon(socket.recv())
            if isinstance(answer, control.Snapshot):
                return answer.snapshot
            if isinstance(answer, control.Error):
                self._drop()
                raise NoAnswerError(f"the daemon on {self._endpoint} refuses to answer: {answer.message}")
        self._drop()
        known = "with this endpoint" if self._keys is None else "is this key in its configuration, as a monitor's"
        hint = endpoints.barred(self._endpoint) or f"is it running, and {known}?"
        raise NoAnswerError(f"no daemon answered on {self._endpoint} within {timeout:g} s: {hint}")

    def close(self) -> None:
        """Disconnect."""
        self._drop()
        self._context.term()

    def _connect(self) -> "zmq.Socket[bytes]":
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.set(zmq.LINGER, 0)
        if self._keys is not None:
            present(self._socket, self._keys)
        self._socket.connect(self._endpoint)
        return self._socket

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close(linger=0)
            self._socket = None

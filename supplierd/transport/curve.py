"""Keys on the daemon's sockets: CURVE, and the handler that libzmq asks about each peer (ZAP, RFC 27).

libzmq lets everybody in where no handler answers, so every socket with a key has ZAP_ENFORCE_DOMAIN: then it lets
nobody in. The handler's socket belongs to the loop's thread like all others. A handshake costs it one look into a
dictionary; a thread would need locks around the grants, and would take the interpreter from the loop in the midst of a
frame. What it is asked in one turn is bounded, and a flood of connections waits, not the frames.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import zmq
from zmq.utils import z85

from supplierd.wire.keys import ClientKeys, KeyPair

ENDPOINT: Final = "inproc://zeromq.zap.01"
BURST: Final = 32
"""Handshakes that one turn judges: about 0.15 ms each."""
_VERSION: Final = b"1.0"
_NULL, _CURVE = b"NULL", b"CURVE"
_KEY_BYTES: Final = 32
_YES: Final = b"200"
_NO: Final = b"300"
"""Not 400: at that a client's libzmq gives up for good; at this it tries again when its connection is closed, which
HANDSHAKE_IVL does, so that a key that is added later lets it in."""


class Lock(NamedTuple):
    """What protects one socket: the daemon's key pair, and the domain that a peer's key must open."""

    pair: KeyPair
    domain: str


class Question(NamedTuple):
    """A peer that wants to come in.

    Attributes:
        domain: of the socket.
        user: its public key, as Z85 text; None where the socket asks for none.
        address: where it comes from.
    """

    domain: str
    user: str | None
    address: str


class Gatekeeper:
    """Answers libzmq's questions. To be made before the sockets that it guards, and closed after them.

    Args:
        context: of the daemon; there is one gatekeeper in it.
        admit: decides.
    """

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", admit: Callable[[Question], bool]) -> None:
        self.socket = context.socket(zmq.ROUTER)
        self.socket.set(zmq.LINGER, 0)
        self.socket.bind(ENDPOINT)
        self._admit = admit

    def answer(self) -> bool:
        """Answer what has been asked, at most BURST questions; whether there was one."""
        for count in range(BURST):
            try:
                parts = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return count > 0
            sender, _empty, _version, request, domain, address, _identity, mechanism, *credentials = parts
            shown = mechanism == _CURVE and [*map(len, credentials)] == [_KEY_BYTES]
            user = z85.encode(credentials[0]).decode() if shown else None
            question = Question(domain.decode(errors="replace"), user, address.decode(errors="replace"))
            known = user is not None or mechanism == _NULL
            status = _YES if known and self._admit(question) else _NO
            self.socket.send_multipart((sender, b"", _VERSION, request, status, b"", (user or "").encode(), b""))
        return True

    def close(self) -> None:
        """Answer no more: sockets with a key let nobody in."""
        self.socket.close(linger=0)


def protect(socket: "zmq.Socket[bytes]", lock: Lock) -> None:
    """Ask for keys on a socket that is not bound yet."""
    socket.set(zmq.CURVE_SERVER, 1)
    socket.set(zmq.CURVE_SECRETKEY, lock.pair.secret.encode())
    socket.set(zmq.ZAP_DOMAIN, lock.domain.encode())
    socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)


def present(socket: "zmq.Socket[bytes]", keys: ClientKeys) -> None:
    """Show keys on a socket that is not connected yet."""
    socket.set(zmq.CURVE_PUBLICKEY, keys.own.public.encode())
    socket.set(zmq.CURVE_SECRETKEY, keys.own.secret.encode())
    socket.set(zmq.CURVE_SERVERKEY, keys.server.encode())


def user_of(message: zmq.Frame) -> str:
    """The public key of the peer that sent a message over a socket with a key; "" where libzmq does not say."""
    try:
        return str(message.get("User-Id"))
    except zmq.ZMQError:
        return ""


def new_pair() -> KeyPair:
    """A new key pair."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())

"""The handler that libzmq asks about each peer: what it answers, and that without it nobody gets in."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import zmq

from supplierd.transport.control import ControlChannel
from supplierd.transport.curve import BURST, ENDPOINT, Gatekeeper, Lock, Question, new_pair, present, user_of
from supplierd.transport.inbox import Inbox
from supplierd.transport.link import Link
from supplierd.transport.listener import Listener
from supplierd.transport.sockets import ZAP_DOMAIN, Context, make_context
from supplierd.wire.endpoints import ipc
from supplierd.wire.keys import ClientKeys
from tests.security.stage import connected
from tests.support.peers import PlainSocket
from tests.support.waiting import wait_for

SERVER, OWN = new_pair(), new_pair()
KEYS = ClientKeys(OWN, SERVER.public)
LOCK = Lock(SERVER, "inbox")
TCP = "tcp://127.0.0.1:*"
Arriving = Callable[..., PlainSocket]


@pytest.fixture
def context() -> Iterator[Context]:
    made = make_context(max_workers=8)
    yield made
    made.destroy(linger=0)


@pytest.fixture
def arriving() -> Iterator[Arriving]:
    """Connects sockets of another process's kind: type, listener and keys."""
    with ExitStack() as stack:
        peers = stack.enter_context(zmq.Context())

        def connect(kind: int, listener: Listener, keys: ClientKeys | None = KEYS) -> PlainSocket:
            peer: PlainSocket = stack.enter_context(peers.socket(kind))
            peer.set(zmq.LINGER, 0)
            peer.set(zmq.IMMEDIATE, 1)
            if keys is not None:
                present(peer, keys)
            peer.connect(listener.socket.get_string(zmq.LAST_ENDPOINT))
            return peer

        yield connect


def test_it_is_asked_who_wants_to_go_where(context: Context, arriving: Arriving) -> None:
    asked: list[Question] = []

    def admit(question: Question) -> bool:
        asked.append(question)
        return True

    with closing(Gatekeeper(context, admit)) as gatekeeper, closing(Inbox(context, TCP, None, 1000, LOCK)) as inbox:
        peer = arriving(zmq.PUSH, inbox)
        wait_for(gatekeeper.answer, "a question")
        connected(peer).send(b"frame")
        message = wait_for(inbox.receive, "the frame")
        assert inbox.user(message) == user_of(message) == OWN.public
    assert asked == [Question("inbox", OWN.public, "127.0.0.1")]


@pytest.mark.parametrize("alive", [True, False])
def test_without_its_yes_nobody_gets_in(context: Context, arriving: Arriving, alive: bool) -> None:
    """Whether it says no, or is not there: the sockets fail closed."""
    gatekeeper = Gatekeeper(context, lambda _: False)
    if not alive:
        gatekeeper.close()
    listeners = [
        (Inbox(context, TCP, None, 1000, LOCK), zmq.PUSH),
        (ControlChannel(context, TCP, Lock(SERVER, "control")), zmq.DEALER),
        (Link(context, TCP, lock=Lock(SERVER, "worker/pose")), zmq.PULL),
    ]
    connections = [arriving(kind, listener) for listener, kind in listeners]
    if alive:
        for _ in listeners:
            wait_for(gatekeeper.answer, "a question")
    for (listener, kind), peer in zip(listeners, connections, strict=True):
        wait_for(listener.strangers, "the refusal")
        assert kind == zmq.PULL or not peer.poll(0, zmq.POLLOUT)
        listener.close()
    if alive:
        gatekeeper.close()


def test_a_lock_is_for_tcp_only(context: Context, arriving: Arriving, tmp_path: Path) -> None:
    """On ipc files' modes decide, and peers come without keys; the gatekeeper is asked all the same."""
    asked: list[Question] = []

    def admit(question: Question) -> bool:
        asked.append(question)
        return question.user is None

    with (
        closing(Gatekeeper(context, admit)) as gatekeeper,
        closing(ControlChannel(context, ipc(tmp_path / "c"), LOCK)) as channel,
    ):
        assert channel.local
        assert not channel.secured
        peer = arriving(zmq.DEALER, channel, None)
        wait_for(gatekeeper.answer, "a question")
        connected(peer).send(b"question")
        sender, _ = wait_for(channel.receive, "the message")
        assert sender.user is None
    assert [question.domain for question in asked] == [ZAP_DOMAIN.decode()]


@pytest.mark.parametrize(
    ("mechanism", "credentials", "admitted"),
    [
        (b"NULL", [], b"200"),
        (b"PLAIN", [b"user", b"password"], b"300"),
        (b"GSSAPI", [b"x"], b"300"),
        (b"CURVE", [], b"300"),
    ],
)
def test_other_mechanisms_are_not_known(
    context: Context, mechanism: bytes, credentials: list[bytes], admitted: bytes
) -> None:
    with closing(Gatekeeper(context, lambda _: True)) as gatekeeper, context.socket(zmq.REQ) as asking:
        asking.set(zmq.LINGER, 0)
        asking.connect(ENDPOINT)
        asking.send_multipart([b"1.0", b"7", b"\xff", b"\xff", b"", mechanism, *credentials])
        wait_for(gatekeeper.answer, "a question")
        assert asking.recv_multipart() == [b"1.0", b"7", admitted, b"", b"", b""]


def test_a_flood_of_questions_is_answered_in_portions(context: Context) -> None:
    questions = 2 * BURST + 1
    with closing(Gatekeeper(context, lambda _: True)) as gatekeeper, context.socket(zmq.DEALER) as asking:
        asking.set(zmq.LINGER, 0)
        asking.connect(ENDPOINT)
        for number in range(questions):
            asking.send_multipart([b"", b"1.0", b"%d" % number, b"d", b"a", b"", b"NULL"])
        answered: list[list[bytes]] = []
        for _ in range(3):
            assert gatekeeper.answer()
            before = len(answered)
            while asking.poll(0):
                answered.append(asking.recv_multipart())
            assert len(answered) - before <= BURST
        assert len(answered) == questions
        assert not gatekeeper.answer()


def test_a_message_without_a_user_is_nobodys() -> None:
    assert user_of(zmq.Frame(b"made here")) == ""

"""The bells of a running daemon, spoken by hand: who is told of them, what is answered, and what is refused."""

import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from supplierd_client import Frame, Publisher, Worker

from supplierd.transport.bells import HANDSHAKE
from supplierd.wire import bell, control
from tests.support.bells import BellPeer, Hand, Heard, bell_path, connected, join_of
from tests.support.daemon import Daemon, assert_adds_up, free_port
from tests.support.peers import Background, Talk
from tests.support.waiting import wait_for

Daemons = Callable[..., Daemon]
PICTURE = bytes(100_000)


@pytest.fixture
def publisher(daemon: Daemon) -> Iterator[Publisher]:
    with Publisher("cam-1", daemon.inbox) as publisher:
        yield publisher


@pytest.fixture
def hand(daemon: Daemon) -> Iterator[Hand]:
    with Hand(daemon) as hand:
        yield hand


def settled(frame: Heard | Frame, outcome: str = "consumed") -> control.Settled:
    return control.Settled(frame.stream, frame.epoch, frame.seq, outcome, 1_000_000, 2_000_000)


# --- who is told ------------------------------------------------------------------------------------------------------


def test_a_local_worker_that_reads_arenas_is_told_of_the_bells(daemons: Daemons) -> None:
    tcp = f"tcp://127.0.0.1:{free_port()}"
    daemon = daemons(f'[control]\nendpoints = ["ipc", "{tcp}"]').start()
    path = str(bell_path(daemon))
    assert stat.S_IMODE(bell_path(daemon).stat().st_mode) == 0o660
    told = {}
    for by, endpoint, arena in (("ipc", daemon.control, ""), ("inline", daemon.control, "off"), ("tcp", tcp, "")):
        with Talk(endpoint) as peer:
            answer = peer.ask(join_of(by, arena=arena))
            assert isinstance(answer, control.Welcome)
            told[by] = answer.bell
    assert told == {"ipc": path, "inline": "", "tcp": ""}
    daemon.stop()
    assert not bell_path(daemon).exists()


def test_without_bells_nobody_is_told_and_nothing_listens(daemons: Daemons) -> None:
    daemon = daemons("[control]\nbell = false").start()
    assert not bell_path(daemon).exists()
    with Talk(daemon.control) as peer:
        answer = peer.ask(join_of())
        assert isinstance(answer, control.Welcome)
        assert answer.bell == ""


def test_what_a_killed_daemon_left_is_no_obstacle(daemon: Daemon) -> None:
    daemon.kill()
    assert bell_path(daemon).is_socket()
    daemon.start()
    with Hand(daemon) as hand:
        hand.demand(1)
        wait_for(lambda: connected(daemon) == 1, "the bell")


# --- a worker's life --------------------------------------------------------------------------------------------------


def test_a_whole_life_over_a_bell(daemon: Daemon, publisher: Publisher, hand: Hand) -> None:
    """A head, a short frame, the newest one asked about once more, a repeated demand, and the leave."""
    hand.demand(1)
    seq = daemon.deliver(publisher, PICTURE)
    first = hand.bell.frame()
    assert (first.kind, first.stream, first.epoch) == ("H", "cam-1", publisher.epoch)
    assert first.seq <= seq
    assert hand.by_link() is None
    seq = daemon.deliver(publisher, PICTURE)
    hand.demand(2, settled(first))
    second = hand.bell.frame()
    assert (second.kind, second.seq) == ("F", seq)
    hand.demand(2, settled(first))
    assert hand.bell.hear() == control.Wait(2, sent=True)
    hand.bell.say(control.Recheck(hand.session, 2))
    assert hand.bell.hear() == control.Newest(2)
    seq = daemon.deliver(publisher, PICTURE)
    hand.bell.say(control.Recheck(hand.session, 2))
    third = hand.bell.frame()
    assert (third.kind, third.seq) == ("F", seq)
    hand.demand(3, settled(third))
    hand.demand(3, settled(third))
    assert hand.bell.hear() == control.Wait(3, sent=False)
    hand.bell.say(control.Leave(hand.session, settled(third)))
    assert hand.bell.hung_up()
    assert hand.by_link() is None
    found = daemon.wait_for_state("w", "gone")
    assert not found.expected
    (mailbox,) = found.mailboxes
    assert (mailbox.consumed, mailbox.discarded.get("stale"), mailbox.in_flight) == (2, 1, 0)
    assert_adds_up(daemon.snapshot())
    assert daemon.snapshot().rejected == {}


def test_leases_are_told(daemon: Daemon, hand: Hand) -> None:
    hand.bell.demand(hand.session, 1, leases=7)
    daemon.settled(lambda s: s.workers[0].leases == 7, "the leases")


def test_what_has_no_short_form_comes_by_the_link(daemon: Daemon, publisher: Publisher, hand: Hand) -> None:
    """Small frames, and those with much metadata, go by ZeroMQ to a worker that has a bell; one at a time."""
    before: Heard | None = None
    for number, (payload, metadata, by_bell) in enumerate(
        [
            (PICTURE, None, True),
            (b"small", None, False),
            (PICTURE, {"a": "x" * 3000}, False),
            (PICTURE, {"a": 1}, True),
        ],
        1,
    ):
        hand.demand(number, settled(before) if before else None)
        daemon.wait_for_state("w", "waiting")
        publisher.publish(payload, metadata=metadata)
        if by_bell:
            before = hand.bell.frame()
            assert hand.by_link() is None
        else:
            header = hand.next_by_link()
            assert header.metadata == (metadata or {})
            before = Heard("", header.stream, header.epoch, header.seq, ("", 0, 0, 0, 0))
            assert hand.bell.silent()
        assert before.seq == number
    snapshot = daemon.snapshot()
    assert_adds_up(snapshot)
    assert snapshot.workers[0].mailboxes[0].consumed == 3


def test_metadata_is_told_once_for_all_frames_that_have_the_same(
    daemon: Daemon, publisher: Publisher, hand: Hand
) -> None:
    kinds, before = [], None
    for number, metadata in enumerate([{"a": 1}, {"a": 1}, {"a": 1}, {"a": 2}, {"a": 2}, {"a": 1}, None, None], 1):
        hand.demand(number, settled(before) if before else None)
        daemon.wait_for_state("w", "waiting")
        publisher.publish(PICTURE, metadata=metadata)
        before = hand.bell.frame()
        kinds.append(before.kind)
    assert kinds == ["H", "F", "F", "H", "F", "F", "H", "F"]
    assert_adds_up(daemon.snapshot())


def test_a_new_bell_takes_the_place_of_the_old_one(daemon: Daemon, publisher: Publisher, hand: Hand) -> None:
    hand.demand(1)
    daemon.deliver(publisher, PICTURE)
    first = hand.bell.frame()
    old, hand.bell = hand.bell, hand.another_bell()
    hand.demand(2, settled(first))
    assert old.hung_up()
    daemon.deliver(publisher, PICTURE)
    assert hand.bell.frame().kind == "H"  # what the former one was told, this one was not
    assert daemon.rejected("no_handshake") == 0


def test_a_demand_over_zeromq_ends_the_bell(daemon: Daemon, publisher: Publisher, hand: Hand) -> None:
    """The worker speaks by its control channel again, so frames come by its link again."""
    hand.demand(1)
    daemon.deliver(publisher, PICTURE)
    first = hand.bell.frame()
    hand.talk.socket.send(control.encode(control.Demand(hand.session, 2, settled(first))))
    assert hand.bell.hung_up()
    daemon.deliver(publisher, PICTURE)
    assert hand.next_by_link().arena is not None
    assert daemon.rejected("no_handshake") == 0


def test_a_worker_that_hangs_up_is_served_by_its_link(daemon: Daemon, publisher: Publisher, hand: Hand) -> None:
    """A bell is no sign of life: whether the worker is there its link shows."""
    hand.demand(1)
    daemon.wait_for_state("w", "waiting")
    hand.bell.socket.close()
    wait_for(lambda: connected(daemon) == 0, "the bell's end")
    daemon.deliver(publisher, PICTURE)
    assert hand.next_by_link().seq <= publisher.published
    assert_adds_up(daemon.snapshot())


def test_one_bell_that_names_two_sessions(daemon: Daemon, publisher: Publisher, hand: Hand) -> None:
    """A strange client: the bell is the later one's, and both are seen to be gone when they are."""
    with Hand(daemon, join_of("other")) as other:
        for name, session in (("w", hand.session), ("other", other.session)):
            hand.bell.demand(session, 1)
            daemon.wait_for_state(name, "waiting")
        daemon.deliver(publisher, PICTURE)
        assert hand.bell.frame().kind == "H"
        assert hand.next_by_link().arena is not None
        assert other.by_link() is None
        hand.bell.socket.close()
        hand.link.close()
        daemon.wait_for_state("w", "gone")
    daemon.wait_for_state("other", "gone")
    assert_adds_up(daemon.snapshot())


# --- who is told that it ends -----------------------------------------------------------------------------------------


def test_goodbye_is_told_over_the_bell(daemon: Daemon, hand: Hand) -> None:
    hand.demand(1)
    daemon.wait_for_state("w", "waiting")
    daemon.stop()
    assert hand.bell.hear() == control.Goodbye("SIGTERM")
    assert hand.bell.hung_up()


def test_a_take_over_is_told_over_the_bell(daemon: Daemon, hand: Hand) -> None:
    hand.demand(1)
    daemon.wait_for_state("w", "waiting")
    with Hand(daemon):
        answer = hand.bell.hear()
        assert isinstance(answer, control.TakenOver)
        assert answer.session == hand.session
        assert hand.bell.hung_up()


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_demand_of_an_unknown_session_gets_rejoin(daemon: Daemon) -> None:
    with BellPeer(bell_path(daemon)) as peer:
        peer.demand(42, 1)
        answer = peer.hear()
        assert isinstance(answer, control.Rejoin)
        assert answer.session == 42
        peer.say(control.Recheck(42, 1))
        assert isinstance(peer.hear(), control.Rejoin)
        peer.say(control.Leave(42))
        assert peer.silent()
    assert daemon.snapshot().rejected == {}


def test_a_worker_that_gets_inline_frames_has_no_bell(daemon: Daemon) -> None:
    """It said that it cannot read arenas; what a bell could bring it would be useless to it."""
    with Hand(daemon, join_of(arena="off")) as hand:
        assert hand.welcome.bell == ""
        hand.demand(1)
        answer = hand.bell.hear()
        assert isinstance(answer, control.Rejoin)
        assert answer.session == hand.session
    assert daemon.snapshot().workers[0].mailboxes == ()


SHORT_DEMAND = bell.encode_demand(1, 1, None, 0)
BY_OTHER_WAYS: dict[str, control.FromClient] = {
    "a JOIN": join_of("stranger"),
    "STATS": control.Stats(),
    "a long DEMAND": control.Demand(1, 1),
}
GARBAGE = {
    "one byte": b"x",
    "a byte that begins a demand": b"D",
    "a demand without its last byte": SHORT_DEMAND[:-1],
    "a demand and more": SHORT_DEMAND + b"x",
    "an outcome that is none": SHORT_DEMAND[:1] + b"\xff" + SHORT_DEMAND[2:],
    "a frame": b"F" + bytes(63),
    "what is no msgpack": b"\xc1" * 100,
    "a message of the daemon's": control.encode(control.Newest(1)),
    "nested arrays": b"\x91" * bell.MAX_PACKET,
    "more than a packet has": control.encode(control.Recheck(1, 1)) + bytes(2 * bell.MAX_PACKET),
}


@pytest.mark.parametrize("what", BY_OTHER_WAYS)
def test_what_goes_by_other_ways_only_is_refused(daemon: Daemon, what: str) -> None:
    with BellPeer(bell_path(daemon)) as peer:
        peer.say(BY_OTHER_WAYS[what])
        answer = peer.hear()
        assert isinstance(answer, control.Error)
        assert answer == control.Error("bad_message", "over a bell come short demands, RECHECK and LEAVE")
    assert daemon.rejected("bad_message") == 1
    assert daemon.worker("stranger") is None


def test_garbage_is_counted_and_its_neighbours_miss_nothing(daemon: Daemon, publisher: Publisher) -> None:
    """Meanwhile a worker with a bell goes on hand in hand with a publisher: a single lost frame would end the test."""
    with Worker("calm", ["cam-1"], daemon.control) as worker:

        def one_frame() -> None:
            seq = publisher.publish(PICTURE)
            frame = worker.read(timeout=10)
            assert frame is not None, f"frame {seq} was lost"
            assert frame.seq == seq

        with Background(one_frame, every=0.002) as traffic, ExitStack() as stack:
            traffic.wait_turns(3)
            for count, what in enumerate(GARBAGE, 1):
                peer = stack.enter_context(BellPeer(bell_path(daemon)))
                peer.say(GARBAGE[what])
                daemon.wait_for_rejected("bad_message", count)
                traffic.wait_turns(2)
            assert connected(daemon) == 1 + len(GARBAGE)
            daemon.wait_for_rejected("no_handshake", len(GARBAGE))  # after a while they are shown the door
            assert connected(daemon) == 1
            traffic.wait_turns(3)
        scraped = daemon.scrape()
        assert scraped.value("supplierd_messages_rejected_total", reason="bad_message") == len(GARBAGE)
        assert scraped.value("supplierd_messages_rejected_total", reason="no_handshake") == len(GARBAGE)
        snapshot = daemon.snapshot()
        assert_adds_up(snapshot)
        (mailbox,) = snapshot.workers[0].mailboxes
        assert sum(mailbox.dropped.values()) == 0
    assert daemon.logged("message refused")
    assert "Traceback" not in daemon.log()


def test_whoever_only_knocks_takes_no_place_for_long(daemons: Daemons) -> None:
    """There are some more connections than workers; a worker that finds all of them taken is served over ZeroMQ."""
    daemon = daemons("[daemon]\nmax_workers = 1").start()
    with ExitStack() as stack, Publisher("cam-1", daemon.inbox) as publisher:
        strangers = [stack.enter_context(BellPeer(bell_path(daemon))) for _ in range(1 + 64)]
        wait_for(lambda: connected(daemon) >= len(strangers), "the strangers")
        worker = stack.enter_context(Worker("w", ["cam-1"], daemon.control))
        with Background(lambda: publisher.publish(PICTURE), every=0.02):
            assert worker.read(timeout=HANDSHAKE) is not None
        daemon.wait_for_rejected("no_handshake", len(strangers))
        assert all(stranger.hung_up() for stranger in strangers)
    assert_adds_up(daemon.snapshot())

"""What a running daemon says to workers: welcomes, refusals, take-overs, and what heals a lost or stolen frame.

The peers here speak the control protocol by hand, so that each answer is seen.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import zmq
from supplierd_client import Publisher, TakenOverError, Worker

from supplierd.wire import control
from tests.support.bells import join_of
from tests.support.daemon import Daemon, assert_adds_up
from tests.support.peers import Background, Talk, plain
from tests.support.processes import Actor
from tests.support.waiting import wait_for

Daemons = Callable[..., Daemon]


def join(name: str = "w", **changes: object) -> control.Join:
    """A JOIN of a worker that gets its payloads in the message."""
    return join_of(name, **{"arena": "unsupported", **changes})


def welcomed(peer: Talk, request: control.Join) -> control.Welcome:
    answer = peer.ask(request)
    assert isinstance(answer, control.Welcome), answer
    return answer


def test_a_welcome_says_all_that_a_client_needs(daemons: Daemons) -> None:
    daemon = daemons('[workers.detector]\nclass = "critical"\ntarget_fps = 10').start()
    with Talk(daemon.control) as peer:
        answer = welcomed(peer, join("detector", attempt=7, target_fps=25.0))
    assert answer.worker_class == "critical"
    assert answer.target_fps == 10.0  # the configuration's goes before the worker's
    assert answer.attempt == 7
    assert answer.version == control.VERSION
    assert Path(answer.endpoint.removeprefix("ipc://")).is_socket()


def test_a_repeated_join_gets_the_same_session_and_a_new_one_another_endpoint(daemon: Daemon) -> None:
    with Talk(daemon.control) as peer:
        request = join()
        first = welcomed(peer, request)
        assert welcomed(peer, request) == first
        second = welcomed(peer, join(instance=request.instance, attempt=2))
    assert second.session != first.session
    assert second.endpoint != first.endpoint
    assert not Path(first.endpoint.removeprefix("ipc://")).exists()


CONFIGURED = """
    [daemon]
    accept_unknown_workers = false
    accept_unknown_streams = false
    [streams.cam-1]
    [streams.cam-2]
    [workers.known]
    streams = ["cam-1"]
    """

REFUSED = {
    "an unknown worker": ("unknown_worker", join("stranger")),
    "a stream that is not its": ("stream_not_allowed", join("known", streams=["cam-2"])),
    "a worker's bad name": ("bad_name", join("../x")),
    "a stream's bad name": ("bad_name", join("known", streams=["cam 1"])),
    "another wire version": ("wire_version", join("known", versions=[99])),
    "another delivery": ("bad_delivery", join("known", delivery="push")),
    "no rate": ("bad_target_fps", join("known", target_fps=0.0)),
    "a rate beyond reason": ("bad_target_fps", join("known", target_fps=1e9)),
    "a short instance": ("bad_join", join("known", instance=b"x")),
    "too many streams": ("bad_join", join("known", streams=[f"s-{i}" for i in range(300)])),
}


def test_refusals_say_why_and_are_counted_and_logged(daemons: Daemons) -> None:
    daemon = daemons(CONFIGURED).start()
    with Talk(daemon.control) as peer:
        for what, (reason, request) in REFUSED.items():
            before = daemon.rejected(reason)
            answer = peer.ask(request)
            assert isinstance(answer, control.Refused), what
            assert answer.attempt == request.attempt
            assert len(answer.message) > 20, what
            assert (what, answer.reason) == (what, reason)
            assert daemon.rejected(reason) == before + 1
        assert daemon.logged("worker refused")
        welcomed(peer, join("known"))


def test_a_daemon_that_does_not_know_a_session_says_rejoin(daemon: Daemon) -> None:
    with Talk(daemon.control) as peer:
        for message in (control.Demand(42, 1), control.Recheck(42, 1)):
            answer = peer.ask(message)
            assert isinstance(answer, control.Rejoin)
            assert answer.session == 42
        peer.socket.send(control.encode(control.Leave(42)))
        assert isinstance(peer.ask(control.Stats()), control.Snapshot)  # a leave has no answer


def test_goodbye_is_told_to_every_worker(daemon: Daemon) -> None:
    with Talk(daemon.control) as one, Talk(daemon.control) as other:
        welcomed(one, join("one"))
        welcomed(other, join("other"))
        daemon.stop()
        for peer in (one, other):
            answer = peer.hear()
            assert isinstance(answer, control.Goodbye)
            assert answer.reason == "SIGTERM"


def test_a_take_over_is_told_to_the_one_that_had_the_name(daemon: Daemon, actor: Callable[..., Actor]) -> None:
    with Publisher("cam-1", daemon.inbox) as publisher, Background(lambda: publisher.publish(b"x" * 100), every=0.02):
        old = actor("work", control=daemon.control, name="w")
        old.wait_frames(3)
        new = actor("work", control=daemon.control, name="w")
        new.wait_frames(3)
        wait_for(lambda: old.error, "the old one to be told")
        assert old.error == "TakenOverError"
        assert "was taken over by another process" in old.words[-1]["text"]
        new.wait_frames(3)  # and it keeps the name
        assert len(daemon.logged("worker took over")) == 1
    assert_adds_up(daemon.snapshot())


def test_a_take_over_wakes_a_blocked_read(daemon: Daemon) -> None:
    with Worker("w", control=daemon.control) as old:
        daemon.let_join(old)
        with (
            Worker("w", control=daemon.control) as new,
            Background(lambda: new.read(timeout=0.1)),
            pytest.raises(TakenOverError),
        ):
            old.read(timeout=10)


def test_a_worker_whose_connection_is_gone_is_gone_at_once(daemon: Daemon) -> None:
    """Seen in its socket, without any heartbeat of a worker that may be busy for a minute."""
    with Talk(daemon.control) as peer:
        answer = welcomed(peer, join())
        with plain(zmq.PULL, answer.endpoint):
            peer.socket.send(control.encode(control.Demand(answer.session, 1)))
            wait_for(lambda: daemon.logged("worker active worker=w"), "the daemon to look at the connection")
        found = daemon.wait_for_state("w", "gone")
        assert found.expected
        assert not Path(answer.endpoint.removeprefix("ipc://")).exists()
        reply = peer.ask(control.Demand(answer.session, 2))
        assert isinstance(reply, control.Rejoin)


def test_a_thief_at_a_workers_endpoint_is_shaken_off(daemon: Daemon) -> None:
    """A second client takes every other frame of a PUSH. The worker misses what it was promised, says so by asking
    again, and gets a new session at an endpoint that the thief does not know."""
    with (
        Publisher("cam-1", daemon.inbox) as publisher,
        Worker("w", control=daemon.control) as worker,
        Background(lambda: publisher.publish(b"frame"), every=0.05),
    ):
        assert worker.read(timeout=10) is not None
        (endpoint,) = daemon.runtime_dir.glob("w-*.sock")
        with plain(zmq.PULL, f"ipc://{endpoint}") as thief:
            while endpoint in daemon.runtime_dir.glob("w-*.sock"):
                assert worker.read(timeout=15) is not None, "the worker starves"
            assert thief.poll(0), "nothing was stolen"
        assert worker.read(timeout=15) is not None
        stolen = daemon.snapshot()
    assert_adds_up(stolen)
    assert stolen.workers[0].mailboxes[0].discarded.get("lost", 0) >= 1


def test_a_newcomer_gets_the_newest_frame_at_once(daemon: Daemon) -> None:
    with Publisher("cam-1", daemon.inbox) as publisher:
        daemon.deliver(publisher, b"old")
        daemon.deliver(publisher, b"newest")
        with Worker("late", control=daemon.control) as worker:
            frame = worker.read(timeout=10)
            assert frame is not None
            assert bytes(frame.data) == b"newest"
            assert worker.read(timeout=0.1) is None  # and never twice


def test_several_streams_take_turns(daemon: Daemon) -> None:
    """The least recently served stream first: a fast one cannot starve a slow one."""
    with (
        Publisher("fast", daemon.inbox) as fast,
        Publisher("slow", daemon.inbox) as slow,
        Worker("w", ["fast", "slow"], daemon.control) as worker,
        Background(lambda: fast.publish(b"x"), every=0.002),
        Background(lambda: slow.publish(b"x"), every=0.05) as pace,
    ):
        pace.wait_turns(2)
        seen = {"fast": 0, "slow": 0}
        end = pace.turns + 10
        while pace.turns < end:
            frame = worker.read(timeout=10)
            assert frame is not None
            seen[frame.stream] += 1
    assert seen["slow"] >= 7
    assert seen["fast"] > seen["slow"]
    assert_adds_up(daemon.snapshot())


def test_a_promised_rate_is_kept_and_what_it_leaves_out_is_no_drop(daemon: Daemon) -> None:
    with (
        Publisher("cam-1", daemon.inbox) as publisher,
        Worker("w", control=daemon.control, target_fps=10) as worker,
        Background(lambda: publisher.publish(b"x"), every=0.02),
    ):
        stamps: list[float] = []
        while len(stamps) < 15:
            frame = worker.read(timeout=10)
            assert frame is not None
            stamps.append(frame.captured_at)
    rate = (len(stamps) - 1) / (stamps[-1] - stamps[0])
    assert 8 < rate < 11
    snapshot = daemon.snapshot()
    assert_adds_up(snapshot)
    (mailbox,) = snapshot.workers[0].mailboxes
    assert mailbox.decimated > mailbox.consumed
    assert mailbox.overwritten <= mailbox.offered / 10

"""SIGHUP: keys come and go while the daemon works, and who has lost its key is cut off."""

from contextlib import closing

import pytest
import zmq
from supplierd_client import Publisher, Worker

from supplierd.transport.monitor import Monitor, NoAnswerError
from tests.security.stage import Stage, connected
from tests.support.peers import frame_message
from tests.support.waiting import wait_for


def test_a_new_key_is_let_in_although_it_knocked_before(stage: Stage) -> None:
    stage.keys.make("cam-3")
    with stage.publisher("cam-3") as publisher:
        stage.wait_for_denied("stranger")
        assert not publisher.connected
        stage.keys.add("publisher", "cam-3")
        assert "added=cam-3" in stage.reload()
        wait_for(lambda: publisher.connected, "the new key's connection")
        publisher.publish(b"picture")
        wait_for(lambda: stage.daemon.stream("cam-3"), "its stream")


def test_a_revoked_publisher_is_cut_off_and_the_others_come_back(stage: Stage) -> None:
    before = stage.received("cam-1")
    with stage.publisher("cam-1") as revoked, stage.publisher("cam-2") as kept:
        assert revoked.connected
        assert kept.connected
        stage.keys.remove("cam-1")
        assert "revoked=cam-1" in stage.reload()
        stage.wait_for_denied("stranger")
        wait_for(lambda: kept.connected, "the other publisher's connection")
        seq = kept.publish(b"picture")
        stage.daemon.settled(lambda s: any(t.name == "cam-2" and t.last_seq == seq for t in s.streams), "its frame")
        assert not revoked.connected
        revoked.publish(b"picture")
    assert stage.received("cam-1") == before


def test_a_revoked_worker_gets_no_more_frames_and_the_others_go_on(stage: Stage) -> None:
    with stage.publisher("cam-1") as publisher, stage.worker("pose") as revoked, stage.worker("flow") as kept:
        publisher.publish(b"first")
        assert revoked.read(10.0) is not None
        assert kept.read(10.0) is not None
        stage.keys.remove("pose")
        assert "revoked=pose" in stage.reload()
        assert stage.daemon.wait_for_state("pose", "gone").expected
        stage.wait_for_denied("stranger")
        publisher.publish(b"second")
        frame = kept.read(10.0)
        assert frame is not None
        assert bytes(frame.data) == b"second"
        assert revoked.read(0.2) is None


def test_a_revoked_worker_without_a_client_is_cut_off(stage: Stage) -> None:
    with stage.keys.socket(zmq.PULL, stage.push, "plain") as peer, stage.publisher("cam-1") as publisher:
        stage.daemon.wait_for_state("plain", "waiting", "starved", "busy")
        stage.keys.remove("plain")
        stage.reload()
        stage.daemon.wait_for_state("plain", "gone")
        publisher.publish(b"after it was revoked")
        stage.wait_for_denied("stranger")
        while peer.poll(0):  # it may have been given the newest frames of former tests when it came
            assert b"after it was revoked" not in peer.recv()


def test_a_revoked_monitor_is_told_nothing(stage: Stage) -> None:
    with closing(stage.monitor("ops")) as monitor:
        assert monitor.snapshot(10.0)
        stage.keys.remove("ops")
        stage.reload()
        with pytest.raises(NoAnswerError, match="is this key in its configuration"):
            monitor.snapshot(0.3)


def test_another_role_is_another_key(stage: Stage) -> None:
    """The same key as something else: what it came in by is closed to it."""
    with stage.publisher("cam-1") as publisher:
        stage.keys.add("monitor", "cam-1")
        assert "revoked=cam-1" in stage.reload()
        stage.wait_for_denied("monitor")
        assert not publisher.connected
    with closing(stage.monitor("cam-1")) as monitor:
        assert monitor.snapshot(10.0)


def test_other_streams_need_no_new_connection(stage: Stage) -> None:
    with stage.keys.socket(zmq.PUSH, stage.inbox, "cam-1") as peer:
        connected(peer)
        stage.keys.add("publisher", "cam-1", 'streams = ["roof", "cellar"]')
        assert "revoked" not in stage.reload()
        peer.send(frame_message("cam-1"))
        stage.wait_for_denied("publisher")
        peer.send(frame_message("roof"))
        wait_for(lambda: stage.daemon.stream("roof"), "the stream that was added")
        stage.keys.add("publisher", "cam-1", 'streams = ["*"]')
        stage.reload()
        peer.send(frame_message("anything"))
        wait_for(lambda: stage.daemon.stream("anything"), "any stream")


def test_a_configuration_that_cannot_be_used_changes_nothing(stage: Stage) -> None:
    with stage.publisher("cam-1") as publisher:
        assert "reload refused" in stage.reload("[daemon]\nmax_workers = 0\n")
        assert "daemon.max_workers" in stage.logged("reload refused")[0]
        assert "reload refused" in stage.reload("not TOML")
        assert publisher.connected
        assert stage.daemon.running


def test_without_any_key_in_it_everybody_is_cut_off(stage: Stage) -> None:
    """A lost [security] does not open the doors."""
    with stage.publisher("cam-1") as publisher:
        document = stage.document.partition("[security]")[0]
        assert "revoked=cam-1,cam-2,flow,ops,plain,pose" in stage.reload(document)
        assert "security.server_key" in stage.logged("need a restart")[0]
        stage.wait_for_denied("stranger")
        assert not publisher.connected


def test_what_cannot_change_is_named(stage: Stage) -> None:
    stage.more = "[daemon]\nmax_streams = 7\n[workers.new]\n[classes.high]\nidle_after = 1\n"
    stage.reload()
    (line,) = stage.logged("need a restart")
    assert 'keys="daemon.max_streams, classes.high.idle_after, workers.new"' in line
    stage.more = ""
    stage.reload()
    assert len(stage.logged("need a restart")) == 1


def test_local_peers_need_no_key_and_notice_nothing(stage: Stage) -> None:
    daemon = stage.daemon
    with Publisher("local", daemon.inbox) as publisher, Worker("at-home", ["local"], daemon.control) as worker:
        publisher.publish(b"first")
        assert worker.read(10.0) is not None
        stage.keys.remove("cam-1")
        stage.keys.remove("pose")
        assert "revoked=cam-1,pose" in stage.reload()
        assert publisher.connected
        publisher.publish(b"second")
        frame = worker.read(10.0)
        assert frame is not None
        assert bytes(frame.data) == b"second"
        assert publisher.unsent == 0
    with closing(Monitor(daemon.control)) as monitor:
        assert monitor.snapshot(10.0)

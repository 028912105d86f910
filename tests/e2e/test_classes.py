"""The main job on real video: a worker of each class, every frame accounted for on both sides, in every scrape."""

import signal
from collections.abc import Callable

from tests.e2e.clip import STREAM, Capture
from tests.support.daemon import Daemon, assert_adds_up
from tests.support.processes import Actor
from tests.support.scrape import assert_adds_up as assert_scrape_adds_up
from tests.support.waiting import wait_for

CONFIGURATION = """
    [workers.person-detector]
    class = "critical"
    target_fps = 10
    [workers.pose]
    class = "high"
    [workers.optical-flow]
    class = "normal"
    [workers.vision-language]
    class = "best_effort"
    """
CLASSES = {
    "person-detector": "critical",
    "pose": "high",
    "optical-flow": "normal",
    "vision-language": "best_effort",
}


def test_four_classes(
    daemons: Callable[..., Daemon], capture: Callable[..., Capture], actor: Callable[..., Actor]
) -> None:
    daemon = daemons(CONFIGURATION).start()
    player = capture(daemon)
    workers = {
        name: actor("work", control=daemon.control, name=name, busy=0.5 if name == "vision-language" else 0.0)
        for name in CLASSES
    }
    for name, worker in workers.items():
        worker.wait_frames(1 if name == "vision-language" else 20)
        scraped = daemon.scrape()
        assert_scrape_adds_up(scraped)
    for _ in range(10):  # each scrape adds up while traffic runs, and no counter goes down
        following = daemon.scrape()
        assert_scrape_adds_up(following)
        for family in ("offered", "consumed", "dropped", "decimated"):
            counts = following.samples[f"supplierd_worker_frames_{family}_total"]
            for labels, before in scraped.samples[f"supplierd_worker_frames_{family}_total"].items():
                assert counts[labels] >= before
        scraped = following
    workers["vision-language"].wait_frames(2)
    for worker in workers.values():
        worker.end()
    assert player.stop() == 0
    snapshot = daemon.settled(lambda s: all(w.state == "gone" for w in s.workers), "the workers to leave")
    assert_adds_up(snapshot)
    assert [w.name for w in snapshot.workers] == list(CLASSES)  # most critical first
    for found in snapshot.workers:
        (mailbox,) = found.mailboxes
        assert found.service_class == CLASSES[found.name]
        assert mailbox.consumed == len(workers[found.name].frames), "both sides count the same"
        assert (mailbox.pending, mailbox.in_flight) == (0, 0)
        seqs = [frame["seq"] for frame in workers[found.name].frames]
        assert seqs == sorted(set(seqs))
    model, detector = (daemon.mailbox(name, STREAM) for name in ("vision-language", "person-detector"))
    assert model is not None
    assert detector is not None
    assert model.overwritten > model.consumed  # the slow one drops
    assert detector.decimated > 0  # the promised rate leaves frames out, which is no drop
    assert daemon.stop(signal.SIGTERM) < 2


def test_several_streams_for_one_worker_on_real_video(
    daemon: Daemon, capture: Callable[..., Capture], actor: Callable[..., Actor]
) -> None:
    capture(daemon, "--encoding", "jpeg", "--size", "320x136")
    actor("publish", inbox=daemon.inbox, stream="cam-2", fps=20)
    worker = actor("work", control=daemon.control, name="both", streams=[STREAM, "cam-2"])

    def seen(stream: str) -> int:
        return sum(frame["stream"] == stream for frame in worker.frames)

    wait_for(lambda: seen(STREAM) >= 20 and seen("cam-2") >= 20, "frames of both streams")
    assert_adds_up(daemon.snapshot())

"""A forked child: ZeroMQ's sockets hang there, so the client says so instead, and the parent is not disturbed."""

import subprocess
import sys

from tests.support.daemon import Daemon, environment
from tests.support.waiting import DEADLINE

PROGRAM = """
import asyncio, os, sys, warnings
from supplierd_client import AsyncWorker, ForkedError, Publisher, Worker

warnings.simplefilter("ignore", DeprecationWarning)  # about forking beside threads
inbox, control = sys.argv[1:]
publisher = Publisher("cam-1", inbox)
worker = Worker("w", control=control)
other = AsyncWorker("other", control=control)
publisher.publish(b"before")
assert worker.read(timeout=10).seq == 1
child = os.fork()
if child == 0:
    status = 1
    try:
        for forbidden in (
            lambda: publisher.publish(b"child"),
            lambda: publisher.connected,
            lambda: worker.read(timeout=0),
            lambda: next(iter(worker)),
            lambda: asyncio.run(other.read(timeout=0)),
        ):
            try:
                forbidden()
            except ForkedError as error:
                assert str(os.getppid()) in str(error) and "spawn" in str(error), error
                continue
            raise AssertionError("a child may not do this")
        worker.close()
        publisher.close()
        asyncio.run(other.close())
        own = Publisher("cam-2", inbox)  # what the error advises
        own.publish(b"child's own")
        own.close()
        status = 0
    finally:
        os._exit(status)
assert os.waitpid(child, 0)[1] == 0
publisher.publish(b"after")
frames = {frame.stream: frame.seq for frame in (worker.read(timeout=10), worker.read(timeout=10))}
assert frames == {"cam-1": 2, "cam-2": 1}, frames
worker.close()
publisher.close()
asyncio.run(other.close())
print("ok")
"""


def test_a_forked_child_is_told_and_its_parent_goes_on(daemon: Daemon) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, daemon.inbox, daemon.control],
        check=False,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=environment(),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")

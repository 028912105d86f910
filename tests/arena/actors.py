"""The parts that other processes play in the arena's tests; run as a program with a part's name and its arguments."""

import ctypes
import gc
import os
import sys
import warnings
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np

from supplierd.arena import ArenaClosedError, ArenaReader, Descriptor, Lease, StaleDescriptorError
from supplierd.arena.writer import ArenaWriter

LINE = 128  # bytes of a descriptor on a pipe: fewer than PIPE_BUF, so lines arrive whole


def say(*words: object) -> None:
    print(*words, flush=True)


def hold(directory: str, *fields: str) -> None:
    """Hold one frame until told to end."""
    with ArenaReader(Path(directory)) as reader:
        lease = reader.lease(parse(fields))
        array = lease.as_array(np.uint8, (lease.descriptor.size,))
        lease.release()
        say("holding", int(array[0]))
        sys.stdin.readline()


def publish(directory: str, size: str) -> None:
    """Publish one frame and live until told to end."""
    with ArenaWriter(Path(directory), "cam-1") as writer:
        say(*writer.write(np.full(int(size), 7, np.uint8)))
        sys.stdin.readline()


def poke(directory: str, *fields: str) -> None:
    """Write to a received frame the way a careless C extension does."""
    lease = ArenaReader(Path(directory)).lease(parse(fields))
    array = lease.as_array(np.uint8, (lease.descriptor.size,))
    say("reading", int(array[0]))
    ctypes.memset(array.ctypes.data, 255, 1)
    say("survived")


def watch(directory: str, wanted: str, kept: str) -> None:
    """Check the newest frame, over and over; keep the last few and check each again before it is let go."""
    reader, held, checked, stale = ArenaReader(Path(directory)), deque[tuple[Lease, int]](), 0, 0
    say("ready")
    while checked < int(wanted) and (lines := os.read(0, 65536)):
        *fields, number = lines[-LINE:].split()
        try:
            lease = reader.lease(parse([field.decode() for field in fields]))
        except StaleDescriptorError:
            stale += 1
            continue
        held.append((lease, int(number)))
        if len(held) > int(kept):
            verify(*held[0])
            held.popleft()
        verify(lease, int(number))
        checked += 1
    say(checked, stale)


def verify(lease: Lease, number: int) -> None:
    words = lease.as_array(np.uint64, (lease.descriptor.size // 8,))
    if not (words == number).all():
        say("torn", lease.descriptor, np.unique(words)[:5])
        sys.exit(1)


def fork(directory: str) -> None:
    """What a forked child may and may not do; says "ok" or dies of an assertion."""
    warnings.simplefilter("ignore", DeprecationWarning)  # about forking beside threads
    writer, reader = ArenaWriter(Path(directory), "cam-1", slots=4, spare=0), ArenaReader(Path(directory))
    lease = reader.lease(writer.write(b"\1" * 4096))
    array = lease.as_array(np.uint8, (4096,))
    loan = writer.acquire(4096)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert array[0] == 1
            forbid(lambda: writer.acquire(1))
            forbid(lambda: reader.lease(lease.descriptor))
            forbid(loan.commit)
            assert set(lease.data) == {1}
            reader.close()
            writer.close()
            del array, lease, loan, reader, writer
            gc.collect()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert reader.leases_held == 1
    stats = writer.stats()
    assert (stats.leased, stats.writing, len(os.listdir(directory))) == (1, 1, 1), stats
    loan.commit()
    if os.fork() == 0:
        say("ok")
        sys.stdin.readline()  # outlive the parent, with its memory, without its locks, and with a frame
        del array, lease
        gc.collect()
        say("let go")
        sys.stdin.readline()
        os._exit(0)
    os._exit(0)


def forbid(action: Callable[[], object]) -> None:
    try:
        action()
    except ArenaClosedError:
        return
    raise AssertionError("a child may not do this")


def parse(fields: list[str] | tuple[str, ...]) -> Descriptor:
    return Descriptor(fields[0], *map(int, fields[1:]))


if __name__ == "__main__":
    PARTS: dict[str, Callable[..., None]] = {
        function.__name__: function for function in (hold, publish, poke, watch, fork)
    }
    PARTS[sys.argv[1]](*sys.argv[2:])

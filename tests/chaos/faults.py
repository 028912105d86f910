"""What is done to the daemon, to publishers, workers, cable, memory, clocks and descriptors.

A fault strikes and is over when `strike` returns: whoever was ended is started again, as a service manager would, but
nobody else is touched. It picks its victims and figures by the run's own chance, so that a seed replays them. What it
returns says what was done.
"""

import os
import random
import resource
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from tests.chaos.members import DaemonMember, Member
from tests.chaos.stage import FAR, Stage, fill
from tests.support.waiting import wait_for

SOON: Final = 5.0
"""Seconds in which something must happen while a fault lasts."""
FEWEST: Final = 8
"""Descriptors: with fewer than it waits for at a time, a process may not even call poll."""


def pick(stage: Stage, chance: random.Random) -> Member | DaemonMember:
    """Somebody: the daemon as often as all cameras together, or all workers."""
    group: list[list[Member | DaemonMember]] = [[stage.daemon], [*stage.cameras.values()], [*stage.workers.values()]]
    return chance.choice(chance.choice(group))


def last(seconds: float) -> None:
    """Let a fault last: this much time is the fault itself, and nothing is waited for."""
    time.sleep(seconds)


def kill(stage: Stage, chance: random.Random) -> str:
    """SIGKILL."""
    victim = pick(stage, chance)
    victim.kill()
    victim.start()
    return victim.name


def massacre(stage: Stage, chance: random.Random) -> str:
    """SIGKILL to several at once, the daemon among them."""
    victims: list[Member | DaemonMember] = [stage.daemon, *chance.sample(stage.members, 3)]
    for victim in victims:
        victim.kill()
    chance.shuffle(victims)
    for victim in victims:
        victim.start()
    return " ".join(victim.name for victim in victims)


def restart(stage: Stage, chance: random.Random) -> str:
    """SIGTERM for the daemon, the end of its input for another: a clean end, and a start."""
    victim = pick(stage, chance)
    victim.stop()
    victim.start()
    return victim.name


def freeze(stage: Stage, chance: random.Random) -> str:
    """SIGSTOP, and SIGCONT after a while."""
    victim, seconds = pick(stage, chance), chance.uniform(0.3, 4.0)
    victim.freeze()
    last(seconds)
    victim.thaw()
    return f"{victim.name} for {seconds:.1f} s"


def slow(stage: Stage, chance: random.Random) -> str:
    """A worker takes long for each frame."""
    victim, busy = chance.choice([*stage.workers.values()]), chance.uniform(0.3, 1.0)
    victim.tell(f"busy {busy}")
    last(2 * busy)
    victim.tell(f"busy {victim.arguments.get('busy', 0.0)}")
    last(busy)  # it is still at its last frame
    return f"{victim.name}: {busy:.1f} s a frame"


def clock(stage: Stage, chance: random.Random) -> str:
    """The wall clock of one process jumps: by minutes, or by years, in either direction."""
    victim = pick(stage, chance)
    seconds = chance.choice((-1, 1)) * 10 ** chance.uniform(1, 8)
    victim.clock.jump(seconds)
    return f"{victim.name} by {seconds:.0f} s"


def descriptors(stage: Stage, chance: random.Random) -> str:
    """A process may open hardly any more files, and meanwhile must: whoever it talks to is started anew."""
    victim, seconds = pick(stage, chance), chance.uniform(0.3, 1.5)
    highest = max(map(int, os.listdir(f"/proc/{victim.pid}/fd")))
    # Without any, a libzmq that listens may abort at a connection that comes before the daemon's next look.
    limit = highest + chance.randrange(4, 12) if victim is stage.daemon else chance.randint(FEWEST, highest + 1)
    before = resource.prlimit(victim.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(victim.pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    others = chance.sample(stage.members, 3) if victim is stage.daemon else [stage.daemon]
    for other in others:
        other.kill()
        other.start()
    last(seconds)
    resource.prlimit(victim.pid, resource.RLIMIT_NOFILE, before)
    return f"{victim.name}, limit {limit} for {seconds:.1f} s"


def partition(stage: Stage, chance: random.Random) -> str:
    """The cable loses everything, in silence."""
    assert stage.cable is not None
    seconds = chance.uniform(0.5, 8.0)
    stage.cable.cut()
    last(seconds)
    stage.cable.mend()
    return f"for {seconds:.1f} s"


def narrow(stage: Stage, chance: random.Random) -> str:
    """The cable carries 1 Mbit/s; the far worker must get frames all the same."""
    assert stage.cable is not None
    far = stage.workers[FAR[1]]
    stage.cable.narrow()
    began = time.monotonic()

    def served() -> bool:
        far.listen()
        return sum(frame.captured > began for frame in far.seen) >= 3

    try:
        wait_for(served, "three frames over 1 Mbit/s", SOON)
        last(chance.uniform(0.0, 2.0))
    finally:
        stage.cable.widen()
    return f"for {time.monotonic() - began:.1f} s"


def full(stage: Stage, chance: random.Random) -> str:
    """No memory is left for arenas, and a camera that needs one is started anew: its frames must come inline."""
    camera = stage.cameras["cam-shared"]
    camera.stop()
    filler = fill(stage.runtime_dir)
    began = time.monotonic()
    camera.start()

    def served() -> bool:
        stage.listen()
        found = stage.daemon.stream(camera.name)
        newest = any(frame.stream == camera.name and frame.captured > began for frame in stage.workers["fast"].seen)
        return newest and found is not None and "no_space" in found.inline

    try:
        wait_for(served, "frames inline", SOON)
        last(chance.uniform(0.0, 1.0))
    finally:
        filler.unlink()
    return f"for {time.monotonic() - began:.1f} s"


class Fault(NamedTuple):
    """A fault: what it does, and whether it needs a world of one's own."""

    strike: Callable[[Stage, random.Random], str]
    apart: bool = False


FAULTS: Final = {
    "kill": Fault(kill),
    "massacre": Fault(massacre),
    "restart": Fault(restart),
    "freeze": Fault(freeze),
    "slow": Fault(slow),
    "clock": Fault(clock),
    "descriptors": Fault(descriptors),
    "partition": Fault(partition, apart=True),
    "narrow": Fault(narrow, apart=True),
    "full": Fault(full, apart=True),
}

"""Who takes part: a daemon, cameras and workers, on both lanes and both transports, each a process of its own.

With a world of one's own the runtime directory is a small tmpfs, and one camera and one worker are on another host,
behind a cable; without, these two use tcp on this one.
"""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from supplierd.arena import ArenaError, arena_directory, inspect
from supplierd.core.snapshot import Snapshot
from tests.chaos.members import DaemonMember, Level, Member, level_of
from tests.support import hosts
from tests.support.daemon import free_port

TMPFS_BYTES: Final = 24 << 20
CAMERAS: Final[dict[str, dict[str, Any]]] = {
    "cam-shared": {"fps": 25.0, "size": 100_000, "lane": "auto"},
    "cam-inline": {"fps": 20.0, "size": 20_000, "lane": "off"},
    "cam-far": {"fps": 10.0, "size": 8_000, "lane": "auto"},
}
"""By stream. At 1 Mbit/s cam-far's frames take 64 ms each, and those of cam-shared, which go the other way, 0.8 s."""
WORKERS: Final[dict[str, dict[str, Any]]] = {
    "fast": {"streams": ["*"]},
    "slow": {"streams": ["cam-shared", "cam-inline"], "busy": 0.15},
    "promised": {"streams": ["cam-shared"], "target_fps": 10},
    "far": {"streams": ["cam-shared", "cam-far"]},
}
FAR: Final = ("cam-far", "far")
SERVED: Final = ("inbox.sock", "inbox.sock.doorbell", "control.sock", "bell.sock", "arena")
"""What a daemon has in its runtime directory, besides locks and links."""


class Stage:
    """Everybody.

    Args:
        home: a directory of its own with a short path.
        apart: whether there is a world of one's own.
    """

    def __init__(self, home: Path, apart: bool) -> None:
        self.cable = hosts.Cable() if apart else None
        self.runtime_dir = home / "run"
        address = hosts.HERE if apart else "127.0.0.1"
        inbox, control = (f"tcp://{address}:{free_port()}" for _ in range(2))
        self.daemon = DaemonMember(home, _document(inbox, control, insecure=apart))
        prefix = self.cable.there if self.cable else []
        self.cameras = {
            name: Member(
                home,
                name,
                "publish",
                prefix=prefix if name in FAR else (),
                arguments={"stream": name, "inbox": inbox if name in FAR else self.daemon.inbox, **options},
            )
            for name, options in CAMERAS.items()
        }
        self.workers = {
            name: Member(
                home,
                name,
                "work",
                prefix=prefix if name in FAR else (),
                arguments={"name": name, "control": control if name in FAR else self.daemon.control, **options},
            )
            for name, options in WORKERS.items()
        }
        if apart:
            self.runtime_dir.mkdir(mode=0o750)
            hosts.mount_tmpfs(self.runtime_dir, TMPFS_BYTES)

    @property
    def members(self) -> list[Member]:
        """All but the daemon."""
        return [*self.cameras.values(), *self.workers.values()]

    @property
    def everybody(self) -> list[Member | DaemonMember]:
        """All processes."""
        return [self.daemon, *self.members]

    def start(self) -> None:
        """Begin."""
        self.daemon.start()
        for member in self.members:
            member.start()

    def listen(self) -> None:
        """Take in what everybody has said."""
        for member in self.members:
            member.listen()

    def deaths(self) -> Iterator[str]:
        """Who has ended, and nobody ended it."""
        for member in self.everybody:
            if member.died:
                yield f"{member.name} ended by itself: {member.died}"

    def levels(self) -> dict[str, Level]:
        """What each process has open, by name and life."""
        return {f"{each.name}, life {each.lives}": level_of(each.pid) for each in self.everybody}

    def strays(self, snapshot: Snapshot) -> list[str]:
        """Files in the runtime directory that belong to nobody alive."""
        links = sum(worker.state != "gone" and worker.name not in FAR for worker in snapshot.workers)
        return unknown_files(self.runtime_dir, links, [camera.pid for camera in self.cameras.values()])

    def freeze_cameras(self) -> None:
        """Publish nothing more, but keep the arenas."""
        for camera in self.cameras.values():
            camera.tell("pause")

    def wait_quiet(self) -> Snapshot:
        """Let the workers take their leave; the last snapshot."""
        for worker in self.workers.values():
            worker.release()
        for worker in self.workers.values():
            worker.stop()
        return self.daemon.settled(lambda s: all(w.state == "gone" for w in s.workers), "the workers to be gone")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self.members:
            member.close()
        self.daemon.close()
        if self.cable is not None:
            self.cable.__exit__(kind, error, trace)
            hosts.run("umount", self.runtime_dir)


def _document(inbox: str, control: str, *, insecure: bool) -> str:
    return f"""
[daemon]
insecure = {str(insecure).lower()}
[inbox]
endpoints = ["ipc", "{inbox}"]
[control]
endpoints = ["ipc", "{control}"]
"""


def unknown_files(runtime_dir: Path, links: int, owners: Collection[int]) -> list[str]:
    """What is wrong with the files of a runtime directory, for so many local workers, and these publishers: each may
    have one arena."""
    found = []
    sockets = 0
    for path in runtime_dir.iterdir():
        if path.name.startswith("w-"):
            sockets += 1
        elif path.suffix != ".lock" and path.name not in SERVED:
            found.append(f"{path.name} is left")
    if sockets != links:
        found.append(f"{sockets} links for {links} workers")
    seen = set()
    for path in arena_directory(runtime_dir).iterdir():
        try:
            owner = inspect(path).pid
        except (ArenaError, OSError):
            found.append(f"{path.name} is no arena")
            continue
        if owner not in owners or owner in seen:
            found.append(f"{path.name} of process {owner} is left")
        seen.add(owner)
    return found


def fill(directory: Path) -> Path:
    """Leave no byte free in a file system; the file that takes them."""
    path = directory / "filler"
    with path.open("wb", buffering=0) as file:
        for step in (1 << 20, 4096):
            try:
                while True:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), step)
            except OSError:
                continue
    return path

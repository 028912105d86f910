"""When the daemon looks for arenas of dead publishers."""

from pathlib import Path

import pytest

from supplierd.arena import arena_directory
from supplierd.arena.layout import Header
from supplierd.daemon import parcels
from supplierd.daemon.parcels import SWEEP, SWEEP_ON, Parcels


def leave_arenas(home: Path, *streams: str) -> list[str]:
    """Arenas whose publishers are dead; their names."""
    header = Header.plan(4, 4096)
    names = [f"{stream}-0123456789abcdef.arena" for stream in streams]
    for name in names:
        with (arena_directory(home) / name).open("wb") as file:
            file.truncate(header.file_size)
            file.write(header.pack())
    return names


def test_dead_arenas_are_looked_for_now_and_then(home: Path) -> None:
    made = Parcels(home)
    assert made.look(100.0) == []
    dead = leave_arenas(home, "cam-1", "cam-2")
    assert made.look(100.0 + SWEEP - 0.01) == []
    assert sorted(made.look(100.0 + SWEEP)) == dead
    made.close()


def test_a_sweep_that_takes_long_goes_on_soon(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else publishers that die every second, each with an arena of raw frames, fill the memory."""
    monkeypatch.setattr(parcels, "SWEEP_AT_MOST", 0.0)
    made = Parcels(home)
    dead = leave_arenas(home, "cam-1", "cam-2", "cam-3")
    removed = made.look(100.0)
    assert len(removed) == 1
    assert made.look(100.0 + SWEEP_ON / 2) == []
    removed += made.look(100.0 + SWEEP_ON) + made.look(100.0 + 2 * SWEEP_ON)
    assert sorted(removed) == dead
    assert made.look(100.0 + 3 * SWEEP_ON) == []  # it has come to the end of the directory
    dead = leave_arenas(home, "cam-1")
    assert made.look(100.0 + 4 * SWEEP_ON) == []
    assert made.look(100.0 + 3 * SWEEP_ON + SWEEP) == dead
    made.close()


def test_a_directory_that_is_gone_does_not_stop_the_sweeps(home: Path) -> None:
    made = Parcels(home)
    arena_directory(home).rmdir()
    assert made.look(100.0) == []
    arena_directory(home).mkdir()
    dead = leave_arenas(home, "cam-1")
    assert made.look(100.0 + SWEEP) == dead
    made.close()

"""Running what builds and installs: each command must succeed, and is bounded in time."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.support.daemon import environment

ROOT: Final = Path(__file__).parents[2]
BUILD: Final = (sys.executable, "-m", "build", "--no-isolation", "--wheel")


def attempt(*command: object, cwd: Path, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """The status of a command, and what it prints on stdout and stderr."""
    done = subprocess.run(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=cwd,
        env=env,
        timeout=100,
    )
    return done.returncode, done.stdout


def run(*command: object, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """What a command prints; it must succeed."""
    status, said = attempt(*command, cwd=cwd, env=env)
    assert status == 0, said
    return said


def build_wheel(folder: Path, **environ: str) -> tuple[Path, str]:
    """The wheel of this tree, built with these environment variables into an empty folder, and what was printed."""
    said = run(*BUILD, "--outdir", folder, ROOT, cwd=folder, env=environment(environ))
    (built,) = folder.glob("*.whl")
    return built, said

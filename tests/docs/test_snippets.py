"""Every command and snippet in the documents runs, or says why it is not run."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.docs.snippets import ROOT, RUNNABLE, Block, blocks, documents, groups
from tests.support.daemon import Daemon, environment, free_port
from tests.support.processes import Actor
from tests.support.waiting import DEADLINE

METRICS: Final = "127.0.0.1:9108"
"""What documents say; each group has a port of its own in its place."""
GROUPS: Final = groups()


class Stage:
    """Where a group's blocks run: a directory that looks like the repository's, and a private runtime directory."""

    def __init__(self, home: Path, metrics: str) -> None:
        self.home, self.metrics = home, metrics
        self.folder = home / "here"
        self.folder.mkdir()
        for item in ROOT.iterdir():
            if not item.name.startswith("."):
                (self.folder / item.name).symlink_to(item)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environ = environment({
            "PATH": path,
            "SUPPLIERD_RUNTIME_DIR": str(home / "run"),
            "SUPPLIERD_METRICS_ADDRESS": metrics,
            "XDG_RUNTIME_DIR": str(home),
        })  # fmt: skip
        self._background: list[subprocess.Popen[bytes]] = []

    def run(self, block: Block) -> None:
        """Run one block; an assertion fails where it does not end as it should."""
        text = (block.text if block.language == "python" else block.commands).replace(METRICS, self.metrics)
        if "file" in block.options:
            (self.folder / block.options["file"]).write_text(block.text.replace(METRICS, self.metrics) + "\n")
            return
        command = (
            [sys.executable, "-c", text] if block.language == "python" else ["bash", "-euo", "pipefail", "-c", text]
        )
        output = self.home / "output"
        with output.open("wb") as out:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environ, stdout=out, stderr=out, start_new_session=True
            )
        if "background" in block.options:
            self._background.append(process)
            return
        seconds = float(block.options.get("seconds", 0))
        status: object
        try:
            status = process.wait(seconds or DEADLINE * 2)
        except subprocess.TimeoutExpired:
            self._end(process, signal.SIGINT if seconds else signal.SIGKILL)
            status = 0 if seconds else "still running"
        said = output.read_text(errors="replace")
        assert status == int(block.options.get("status", 0)), f"{block.place} ended with {status}:\n{said}"
        if seconds:
            assert "Error" not in said.replace("KeyboardInterrupt", ""), f"{block.place}:\n{said}"

    def close(self) -> None:
        """End what runs in the background."""
        for process in self._background:
            self._end(process, signal.SIGTERM)

    def _end(self, process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        os.killpg(process.pid, number)
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def metrics() -> str:
    """An address for /metrics."""
    return f"127.0.0.1:{free_port()}"


@pytest.fixture
def stage(home: Path, metrics: str) -> Iterator[Stage]:
    """Where blocks run."""
    made = Stage(home, metrics)
    yield made
    made.close()


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_snippets_run(
    group: str, stage: Stage, home: Path, daemons: Callable[..., Daemon], actor: Callable[..., Actor]
) -> None:
    wanted = GROUPS[group]
    for block in wanted:
        if (program := block.options.get("needs")) and shutil.which(program) is None:
            pytest.skip(f"{block.place} needs {program}")
    if any("daemon" in block.options for block in wanted):
        daemons(place=home, metrics=stage.metrics).start()
    for block in wanted:
        if stream := block.options.get("frames"):
            actor("publish", inbox=f"ipc://{home}/run/inbox.sock", stream=stream)
        stage.run(block)


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_each_block_is_run_or_says_why_not(path: Path) -> None:
    unmarked = [block.place for block in blocks(path) if block.language in RUNNABLE and not block.kind]
    assert not unmarked, "put <!-- test: NAME --> or <!-- not tested: why --> before these blocks; see CONTRIBUTING.md"

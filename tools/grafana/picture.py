"""`make grafana-picture`: draws the dashboard as Grafana would, and checks it against Grafana's schema.

Strategy: a daemon with six workers, of which one hangs and one starves, is watched by a real Prometheus; Grafana's own
panels, in a headless browser, draw the shipped dashboard from it. Needed: Debian's prometheus and chromium, and npm;
Grafana's packages (500 MB) go into the user's cache, once.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from supplierd.demo.clips import clips_folder  # noqa: E402
from tests.deploy import monitoring  # noqa: E402
from tests.support.daemon import Daemon, free_port  # noqa: E402
from tests.support.processes import Actor  # noqa: E402
from tests.support.waiting import wait_for  # noqa: E402

HERE: Final = Path(__file__).parent
DASHBOARD: Final = ROOT / "deploy/grafana/dashboards/supplierd.json"
PICTURE: Final = ROOT / "docs/pictures/grafana.png"
PAGE: Final = ("package.json", "index.html", "main.tsx", "vite.config.mjs", "schema.mjs", "shot.mjs")
HEALTHY_SECONDS: Final = 75.0
FAULTY_SECONDS: Final = 45.0
RAW_360P: Final = 640 * 360 * 3
CONFIG: Final = """
[daemon]
stream_timeout = 5
[workers.person-detector]
class = "critical"
streams = ["cam-1"]
target_fps = 10
[workers.pose]
class = "high"
streams = ["cam-1"]
target_fps = 10
idle_after = 10
[workers.optical-flow]
class = "normal"
streams = ["cam-1"]
[workers.vision-language]
class = "best_effort"
[workers.door]
class = "normal"
streams = ["cam-2"]
"""


def main() -> None:
    """Prepare, run, check, draw."""
    for program in (*monitoring.PROGRAMS[:1], "npm", "chromium"):
        if shutil.which(program) is None:
            sys.exit(f"{program} is missing: apt-get install prometheus npm chromium")
    work = prepare()
    run(work, "node", "schema.mjs", str(DASHBOARD))
    run(work, "npx", "vite", "build", "--logLevel", "error", VITE_SECONDS=str(round(HEALTHY_SECONDS + FAULTY_SECONDS)))
    with tempfile.TemporaryDirectory(prefix="sd-", dir="/dev/shm") as place, ExitStack() as stack:
        home = Path(place)
        daemon = Daemon(home, CONFIG).start()
        stack.callback(daemon.close)
        prometheus = stack.enter_context(monitoring.prometheus(home, daemon.metrics_port))
        play(home, daemon, stack)
        draw(work, prometheus, stack)


def prepare() -> Path:
    """The folder with the page and Grafana's packages."""
    work = clips_folder().parent / "grafana"
    work.mkdir(parents=True, exist_ok=True)
    for name in PAGE:
        shutil.copy(HERE / name, work)
    shutil.copy(DASHBOARD, work / "dashboard.json")
    if not (work / "node_modules/.complete").exists():
        run(work, "npm", "install", "--legacy-peer-deps", "--ignore-scripts", "--no-audit", "--no-fund")
        (work / "node_modules/.complete").touch()
    return work


def play(home: Path, daemon: Daemon, stack: ExitStack) -> None:
    """A while of everything well, then a worker hangs and a camera fails."""

    def actor(part: str, **arguments: object) -> Actor:
        started = Actor(home, part, **arguments)
        stack.callback(started.close)
        return started

    def work(name: str, busy: float = 0.0, **options: object) -> Actor:
        return actor(
            "work", control=daemon.control, name=name, busy=busy, runtime_dir=str(daemon.runtime_dir), **options
        )

    inbox = {"inbox": daemon.inbox, "runtime_dir": str(daemon.runtime_dir)}
    actor("publish", stream="cam-1", fps=25.0, size=RAW_360P, **inbox)
    second = actor("publish", stream="cam-2", fps=10.0, size=RAW_360P, **inbox)
    work("person-detector", 0.03)
    pose = work("pose", 0.05)
    work("optical-flow", 0.055)
    work("vision-language", 0.9)
    work("door", 0.02)
    time.sleep(HEALTHY_SECONDS)
    pose.freeze()
    second.kill()
    time.sleep(FAULTY_SECONDS)


def draw(work: Path, prometheus: int, stack: ExitStack) -> None:
    """Serve the page, and take its picture."""
    port = free_port()
    environ = {"PORT": str(port), "PROMETHEUS": f"http://127.0.0.1:{prometheus}"}
    server = subprocess.Popen(["node_modules/.bin/vite", "preview"], cwd=work, env={**os.environ, **environ})
    stack.callback(server.wait)
    stack.callback(server.terminate)
    address = f"http://127.0.0.1:{port}/"
    wait_for(lambda: answers(address), "the page")
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    run(work, "node", "shot.mjs", address, str(PICTURE), str(shutil.which("chromium")))


def answers(address: str) -> bool:
    """Whether somebody serves there."""
    try:
        with urllib.request.urlopen(address, timeout=1):
            return True
    except OSError:
        return False


def run(folder: Path, *command: str, **environ: str) -> None:
    """Run a command in a folder; end where it fails."""
    if subprocess.run(command, cwd=folder, env={**os.environ, **environ}, check=False).returncode:
        sys.exit(f"{' '.join(command)} failed")


if __name__ == "__main__":
    main()

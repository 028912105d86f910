"""Draw docs/pictures/top.svg and top.png: `supplierd top` as it looks at a real daemon, for the README.

    python tools/top_picture.py [--seconds 190]

A daemon, two cameras that play real clips, and the example workers run for that long. Shortly before the end one worker
is stopped as if it hung, and one camera goes away: so the picture shows idle and starved workers beside healthy ones.
The PNG is the SVG as headless Chromium draws it, where there is one.
"""

import argparse
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from supplierd.core.snapshot import Snapshot
from supplierd.demo.clips import find_clip
from supplierd.top.screen import Screen
from supplierd.transport.monitor import Monitor, NoAnswerError
from supplierd.wire.endpoints import RUNTIME_DIR_VARIABLE, control_endpoint

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "clients" / "python" / "examples"
PICTURE = ROOT / "docs" / "pictures" / "top.svg"
WIDTH, HEIGHT = 120, 35  # characters
TROUBLE = 22.0  # seconds before the end
CAMERAS = {"bedroom": "bikes.mp4", "hall": "bikes.mp4"}
WORKERS = {
    "person-detector": ("person_detector.py", "bedroom", 'class = "critical"\ntarget_fps = 5'),
    "bed-edge": ("background_subtraction.py", "bedroom", 'class = "high"\ntarget_fps = 5'),
    "hall-motion": ("background_subtraction.py", "hall", 'class = "high"\ntarget_fps = 5'),
    "optical-flow": ("optical_flow.py", "bedroom", 'class = "normal"\ntarget_fps = 5\nidle_after = 10'),
    "vision-language": ("vision_language.py", "bedroom", 'class = "best_effort"'),
}
THEME = TerminalTheme(
    background=(13, 17, 23),
    foreground=(214, 220, 226),
    normal=[
        (33, 38, 45), (248, 81, 73), (63, 185, 80), (227, 179, 65),
        (88, 166, 255), (188, 140, 255), (57, 197, 207), (214, 220, 226),
    ],
)  # fmt: skip
FORMAT = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
    font-family: "DejaVu Sans Mono", Menlo, Consolas, "Liberation Mono", monospace;
    font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""  # rich's own names a font on a server


def main() -> None:
    """Run it all, and draw."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=190.0)
    seconds = parser.parse_args().seconds
    with ExitStack() as stack:
        folder = Path(
            tempfile.mkdtemp(prefix="supplierd-top-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        )
        stack.callback(shutil.rmtree, folder)
        lines = watch(folder, seconds, stack)
    draw(lines)


def watch(folder: Path, seconds: float, stack: ExitStack) -> list[Text]:
    """The last screen of so many seconds."""
    config = "".join(f"[streams.{camera}]\n" for camera in CAMERAS)
    config += "".join(f"[workers.{n}]\n{text}\nstreams = ['{s}']\n" for n, (_, s, text) in WORKERS.items())
    (folder / "supplierd.toml").write_text(config)

    def start(*command: object) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            env={**os.environ, RUNTIME_DIR_VARIABLE: str(folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(end, process)
        return process

    start("-m", "supplierd", "run", "--config", folder / "supplierd.toml", "--metrics-address", "127.0.0.1:0")
    cameras = {
        name: start("-m", "supplierd_client.capture", find_clip(clip), "--stream", name, "--loop")
        for name, clip in CAMERAS.items()
    }
    workers = {
        name: start(EXAMPLES / script, "--stream", stream, "--name", name)
        for name, (script, stream, _) in WORKERS.items()
    }
    endpoint = control_endpoint(folder)
    screen, monitor = Screen(endpoint), Monitor(endpoint)
    stack.callback(monitor.close)
    began = time.monotonic()
    hung = False
    while (passed := time.monotonic() - began) < seconds:
        try:
            screen.answer(Snapshot.from_wire(monitor.snapshot(2.0)), time.monotonic())
        except NoAnswerError as error:
            screen.miss(str(error), time.monotonic())
        if passed > seconds - TROUBLE and not hung:
            hung = True
            workers["optical-flow"].send_signal(signal.SIGSTOP)
            end(cameras["hall"])
        time.sleep(1.0)
    for key in ("down", "down", "down"):
        screen.press(key)
    return screen.lines(WIDTH, HEIGHT, time.monotonic())


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, and see that it does."""
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(5.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def draw(lines: list[Text]) -> None:
    """Write the SVG, and the PNG beside it."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    for line in lines:
        console.print(line, no_wrap=True, overflow="crop")
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    console.save_svg(str(PICTURE), title="supplierd top", theme=THEME, code_format=FORMAT, unique_id="top")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit(f"{PICTURE} is drawn, but not the PNG: install Chromium for that")
    size = re.search(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', PICTURE.read_text())
    assert size
    subprocess.run(
        [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
            *("--disable-background-networking", "--default-background-color=00000000"),
            f"--window-size={float(size[1]):.0f},{float(size[2]):.0f}",
            f"--screenshot={PICTURE.with_suffix('.png')}",
            PICTURE.as_uri(),
        ],
        stderr=subprocess.DEVNULL,
        check=True,
    )


if __name__ == "__main__":
    main()

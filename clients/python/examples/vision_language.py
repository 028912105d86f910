"""A slow worker, as a vision-language model is: it takes seconds for a frame and misses nearly all of them.

    python vision_language.py --stream cam-1 --seconds-per-frame 1.5

No model is loaded: the caption comes from simple statistics of the picture, and the rest of the time passes asleep,
as it would while a GPU works. Put your model's call into `describe`. Frames may be raw (bgr24) or JPEG.
"""

import argparse
import contextlib
import signal
import time

import cv2
import numpy as np
from supplierd_client import Frame, Worker

COLOURS = ("red", "yellow", "green", "cyan", "blue", "magenta")  # 60 degrees of hue each, red around 0


def to_bgr(frame: Frame) -> np.ndarray:
    """Return the frame's picture: raw pixels as they are, a JPEG decoded."""
    picture = frame.array if frame.encoding == "raw" else cv2.imdecode(frame.array, cv2.IMREAD_COLOR)
    assert picture is not None, f"{frame.stream} {frame.seq} is no picture: {frame.encoding}"
    return picture


def describe(picture: np.ndarray) -> str:
    """Return a caption of one line."""
    small = cv2.resize(picture, (160, 90), interpolation=cv2.INTER_AREA)
    hue, saturation, value = cv2.split(cv2.cvtColor(small, cv2.COLOR_BGR2HSV))
    edges = cv2.countNonZero(cv2.Canny(value, 80, 160)) / value.size
    light = "dark" if value.mean() < 70 else "bright" if value.mean() > 150 else "evenly lit"
    detail = "busy" if edges > 0.12 else "plain"
    if saturation.mean() < 40:
        return f"{light}, {detail} scene, nearly without colour"
    weights = np.bincount((hue.ravel() + 15) // 30 % 6, weights=saturation.ravel(), minlength=6)
    return f"{light}, {detail} scene, mostly {COLOURS[int(weights.argmax())]}"


def main() -> None:
    """Describe a frame of a stream, slowly."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--stream", required=True)
    parser.add_argument("--name", default="vision-language")
    parser.add_argument("--target-fps", type=float, help="frames a second that this worker promises to take")
    parser.add_argument("--control", help="the daemon's control endpoint (default: in the runtime directory)")
    parser.add_argument("--seconds-per-frame", type=float, default=1.5)
    options = parser.parse_args()
    cv2.setNumThreads(1)  # the other workers need the cores too
    with Worker(options.name, [options.stream], options.control, target_fps=options.target_fps) as worker:
        for frame in worker:
            start = time.perf_counter()
            caption = describe(to_bgr(frame))
            time.sleep(max(0.0, options.seconds_per_frame - (time.perf_counter() - start)))
            print(f"{frame.stream} {frame.seq}: {caption}, {frame.age:.1f} s old", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the worker says goodbye
    with contextlib.suppress(KeyboardInterrupt):
        main()

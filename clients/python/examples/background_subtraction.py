"""Tell how much of the picture is not background (MOG2), and print a line a second.

    python background_subtraction.py --stream cam-1

Frames may be raw (bgr24) or JPEG. The model learns by time, not by frames: what was missed does not slow it down.
"""

import argparse
import contextlib
import signal
import time

import cv2
import numpy as np
from supplierd_client import Frame, Worker

WIDTH = 320  # pixels
MEMORY_SECONDS = 20.0  # what stands still for so long becomes background


def to_bgr(frame: Frame) -> np.ndarray:
    """Return the frame's picture: raw pixels as they are, a JPEG decoded."""
    picture = frame.array if frame.encoding == "raw" else cv2.imdecode(frame.array, cv2.IMREAD_COLOR)
    assert picture is not None, f"{frame.stream} {frame.seq} is no picture: {frame.encoding}"
    return picture


def foreground(model: cv2.BackgroundSubtractorMOG2, picture: np.ndarray, learning_rate: float) -> float:
    """Return the share of `picture` that is foreground, 0 to 1, and let the model learn from it."""
    scale = WIDTH / picture.shape[1]
    mask = model.apply(cv2.resize(picture, None, fx=scale, fy=scale), learningRate=learning_rate)
    return cv2.countNonZero(cv2.medianBlur(mask, 5)) / mask.size


def main() -> None:
    """Tell how much of a stream's picture is not background."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--stream", required=True)
    parser.add_argument("--name", default="background-subtraction")
    parser.add_argument("--target-fps", type=float, help="frames a second that this worker promises to take")
    parser.add_argument("--control", help="the daemon's control endpoint (default: in the runtime directory)")
    options = parser.parse_args()
    cv2.setNumThreads(1)  # the other workers need the cores too
    model = cv2.createBackgroundSubtractorMOG2(detectShadows=False)
    foreground(cv2.createBackgroundSubtractorMOG2(), np.zeros((180, WIDTH, 3), np.uint8), -1)  # the slow first call
    captured_before = report = 0.0
    with Worker(options.name, [options.stream], options.control, target_fps=options.target_fps) as worker:
        for frame in worker:
            start = time.perf_counter()
            passed = frame.captured_at - captured_before
            captured_before = frame.captured_at
            share = foreground(model, to_bgr(frame), min(max(passed / MEMORY_SECONDS, 0.0), 1.0))
            if (now := time.perf_counter()) >= report:
                report = now + 1.0
                print(f"{frame.stream} {frame.seq}: {share:.0%} moved, {(now - start) * 1e3:.0f} ms", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the worker says goodbye
    with contextlib.suppress(KeyboardInterrupt):
        main()

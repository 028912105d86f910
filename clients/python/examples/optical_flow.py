"""Measure how much moves between frames with dense optical flow (DIS), and print a line a second.

    python optical_flow.py --stream cam-1

Frames may be raw (bgr24) or JPEG. A frame never changes, so the one before can simply be kept; here its small grey
copy is. Movement is divided by the time between the two captures: frames that were missed do not falsify it.
"""

import argparse
import contextlib
import signal
import time

import cv2
import numpy as np
from supplierd_client import Frame, Worker

WIDTH = 320  # pixels; movement is told in pixels of a picture of this width


def to_bgr(frame: Frame) -> np.ndarray:
    """Return the frame's picture: raw pixels as they are, a JPEG decoded."""
    picture = frame.array if frame.encoding == "raw" else cv2.imdecode(frame.array, cv2.IMREAD_COLOR)
    assert picture is not None, f"{frame.stream} {frame.seq} is no picture: {frame.encoding}"
    return picture


def small_grey(picture: np.ndarray) -> np.ndarray:
    """Return `picture` in grey, scaled to WIDTH."""
    scale = WIDTH / picture.shape[1]
    return cv2.cvtColor(cv2.resize(picture, None, fx=scale, fy=scale), cv2.COLOR_BGR2GRAY)


def movement(flow: cv2.DISOpticalFlow, before: np.ndarray, after: np.ndarray) -> float:
    """Return how far the picture moved on average, in pixels."""
    still = np.zeros((*before.shape, 2), np.float32)
    return float(np.linalg.norm(flow.calc(before, after, still), axis=2).mean())


def main() -> None:
    """Measure movement in the freshest frames of a stream."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--stream", required=True)
    parser.add_argument("--name", default="optical-flow")
    parser.add_argument("--target-fps", type=float, help="frames a second that this worker promises to take")
    parser.add_argument("--control", help="the daemon's control endpoint (default: in the runtime directory)")
    options = parser.parse_args()
    cv2.setNumThreads(1)  # the other workers need the cores too
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    blank = np.zeros((180, WIDTH), np.uint8)
    movement(flow, blank, blank)  # the first call is slow: before the first frame, not on it
    before: np.ndarray | None = None
    captured_before = report = 0.0
    with Worker(options.name, [options.stream], options.control, target_fps=options.target_fps) as worker:
        for frame in worker:
            start = time.perf_counter()
            grey = small_grey(to_bgr(frame))
            if before is not None and before.shape == grey.shape and frame.captured_at > captured_before:
                speed = movement(flow, before, grey) / (frame.captured_at - captured_before)
                if (now := time.perf_counter()) >= report:
                    report = now + 1.0
                    print(f"{frame.stream} {frame.seq}: {speed:.1f} px/s, {(now - start) * 1e3:.0f} ms", flush=True)
            before, captured_before = grey, frame.captured_at


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the worker says goodbye
    with contextlib.suppress(KeyboardInterrupt):
        main()

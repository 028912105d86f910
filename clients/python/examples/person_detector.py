"""Find people in the freshest frame with OpenCV's HOG detector, and print a line a second.

    python person_detector.py --stream cam-1 --target-fps 5

Frames may be raw (bgr24) or JPEG. People have to be about 90 pixels tall or more after scaling to WIDTH pixels.
"""

import argparse
import contextlib
import signal
import time

import cv2
import numpy as np
from supplierd_client import Frame, Worker

WIDTH = 640  # pixels; 20 ms a frame of 640×272 and 50 ms of 768×576 on one core
CONFIDENCE = 0.5  # of the detector's score: below it are mostly lamp posts and trees


def to_bgr(frame: Frame) -> np.ndarray:
    """Return the frame's picture: raw pixels as they are, a JPEG decoded."""
    picture = frame.array if frame.encoding == "raw" else cv2.imdecode(frame.array, cv2.IMREAD_COLOR)
    assert picture is not None, f"{frame.stream} {frame.seq} is no picture: {frame.encoding}"
    return picture


def detect(hog: cv2.HOGDescriptor, picture: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Return a box (left, top, width, height) for each person, in pixels of `picture`."""
    scale = min(1.0, WIDTH / picture.shape[1])
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    boxes, scores = hog.detectMultiScale(small, winStride=(8, 8), padding=(8, 8), scale=1.1)
    found = [box for box, score in zip(boxes, scores, strict=True) if score > CONFIDENCE]
    return [(int(x / scale), int(y / scale), int(w / scale), int(h / scale)) for x, y, w, h in found]


def main() -> None:
    """Find people in the freshest frame of a stream."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--stream", required=True)
    parser.add_argument("--name", default="person-detector")
    parser.add_argument("--target-fps", type=float, help="frames a second that this worker promises to take")
    parser.add_argument("--control", help="the daemon's control endpoint (default: in the runtime directory)")
    options = parser.parse_args()
    cv2.setNumThreads(1)  # the other workers need the cores too
    hog = cv2.HOGDescriptor()
    hog.setSVMDetector(np.array(cv2.HOGDescriptor.getDefaultPeopleDetector()))
    detect(hog, np.zeros((480, WIDTH, 3), np.uint8))  # the first call is slow: before the first frame, not on it
    report = 0.0
    with Worker(options.name, [options.stream], options.control, target_fps=options.target_fps) as worker:
        for frame in worker:
            start = time.perf_counter()
            people = detect(hog, to_bgr(frame))
            if (now := time.perf_counter()) >= report:
                report = now + 1.0
                print(f"{frame.stream} {frame.seq}: people {people}, {(now - start) * 1e3:.0f} ms", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the worker says goodbye
    with contextlib.suppress(KeyboardInterrupt):
        main()

"""What the examples compute from a picture, without a daemon."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

NAMES = ("person_detector", "optical_flow", "background_subtraction", "vision_language")
Load = Callable[[str], ModuleType]


def read_only(array: Any) -> Any:
    array.flags.writeable = False
    return array


def blob(left: int) -> np.ndarray:
    """A textured square on a plain ground, as a 640×360 picture."""
    picture = np.full((360, 640, 3), 90, np.uint8)
    texture = np.random.default_rng(1).integers(0, 255, (20, 20, 3), np.uint8)
    picture[100:260, left : left + 160] = cv2.resize(texture, (160, 160), interpolation=cv2.INTER_CUBIC)
    return picture


@pytest.mark.parametrize("name", NAMES)
def test_raw_and_jpeg_frames_become_pictures(load: Load, name: str) -> None:
    to_bgr = load(name).to_bgr
    picture = read_only(cv2.GaussianBlur(blob(100), (9, 9), 0))
    assert to_bgr(SimpleNamespace(encoding="raw", array=picture)) is picture
    jpeg = read_only(cv2.imencode(".jpg", picture)[1].ravel())
    assert np.abs(to_bgr(SimpleNamespace(encoding="jpeg", array=jpeg)).astype(int) - picture).mean() < 4


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_picture_is_named(load: Load, name: str) -> None:
    noise = SimpleNamespace(encoding="bytes", array=read_only(np.arange(50, dtype=np.uint8)), stream="cam-1", seq=7)
    with pytest.raises(AssertionError, match="cam-1 7 is no picture: bytes"):
        load(name).to_bgr(noise)


def test_an_empty_room_has_nobody_in_it(load: Load) -> None:
    hog = cv2.HOGDescriptor()
    hog.setSVMDetector(np.array(cv2.HOGDescriptor.getDefaultPeopleDetector()))
    assert load("person_detector").detect(hog, read_only(np.full((576, 768, 3), 128, np.uint8))) == []


def test_flow_measures_how_far_the_picture_moved(load: Load) -> None:
    example = load("optical_flow")
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    texture = np.random.default_rng(1).integers(0, 255, (36, 70, 3), np.uint8)
    scene = cv2.resize(texture, (700, 360), interpolation=cv2.INTER_CUBIC)
    before, after = (example.small_grey(read_only(scene[:, left : left + 640])) for left in (0, 16))
    assert example.movement(flow, before, before) == pytest.approx(0.0, abs=0.01)
    assert example.movement(flow, before, after) == pytest.approx(8.0, rel=0.1)  # 16 of 640 are 8 of 320 pixels


def test_foreground_is_what_is_new(load: Load) -> None:
    example = load("background_subtraction")
    model = cv2.createBackgroundSubtractorMOG2(detectShadows=False)
    empty = read_only(np.full((360, 640, 3), 90, np.uint8))
    for _ in range(5):
        example.foreground(model, empty, 0.1)
    assert example.foreground(model, empty, 0.1) == 0.0
    assert example.foreground(model, read_only(blob(200)), 0.1) == pytest.approx(160 * 160 / (640 * 360), rel=0.3)


@pytest.mark.parametrize(
    ("colour", "caption"),
    [
        ((0, 0, 230), "mostly red"),
        ((230, 0, 0), "mostly blue"),
        ((0, 230, 0), "mostly green"),
        ((120, 120, 120), "evenly lit, plain scene, nearly without colour"),
        ((5, 5, 5), "dark, plain scene"),
    ],
)
def test_a_caption_says_what_there_is(load: Load, colour: tuple[int, int, int], caption: str) -> None:
    assert caption in load("vision_language").describe(read_only(np.full((360, 640, 3), colour, np.uint8)))

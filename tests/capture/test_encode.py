"""Pictures to raw arrays and JPEGs: shapes, colours, sizes, quality."""

from __future__ import annotations

import av
import cv2
import numpy as np
import pytest
from supplierd_client.capture.encode import JpegEncoder, PixelFormat, RawEncoder, quantiser


@pytest.fixture
def colours() -> av.VideoFrame:
    """A picture of the kind that a decoder delivers: left half red, right half blue; 64×48."""
    array = np.zeros((48, 64, 3), np.uint8)
    array[:, :32, 0] = 200
    array[:, 32:, 2] = 200
    return av.VideoFrame.from_ndarray(array, format="rgb24").reformat(format="yuv420p")


@pytest.mark.parametrize(("pixel_format", "red", "blue"), [("bgr24", 2, 0), ("rgb24", 0, 2)])
def test_raw_colours_are_where_the_format_says(
    colours: av.VideoFrame, pixel_format: PixelFormat, red: int, blue: int
) -> None:
    encoder = RawEncoder(pixel_format)
    out = np.empty(encoder.shape(colours), np.uint8)
    encoder.write(colours, out)
    assert out.shape == (48, 64, 3)
    assert out[24, 16, red] == pytest.approx(200, abs=8)
    assert out[24, 48, blue] == pytest.approx(200, abs=8)
    assert out[24, 16, blue] < 10


@pytest.mark.parametrize("pixel_format", ["bgr24", "rgb24", "gray"])
@pytest.mark.parametrize("size", [None, (320, 240), (33, 17), (1, 1)])
def test_raw_pixels_are_ffmpegs(
    colours: av.VideoFrame, pixel_format: PixelFormat, size: tuple[int, int] | None
) -> None:
    encoder = RawEncoder(pixel_format, size)
    width, height = size or (64, 48)
    out = np.empty(encoder.shape(colours), np.uint8)
    encoder.write(colours, out)
    expected = colours.to_ndarray(width=width, height=height, format=pixel_format)
    assert out.shape == expected.shape
    assert np.array_equal(out, expected)


def test_a_jpeg_is_the_picture(colours: av.VideoFrame) -> None:
    decoded = decode(JpegEncoder(95).encode(colours))
    expected = colours.to_ndarray(format="bgr24")
    for half in (np.s_[:, :28], np.s_[:, 36:]):  # not the edge: decoders differ in how they enlarge chroma
        assert np.abs(decoded[half].astype(int) - expected[half]).max() <= 3


def test_a_jpeg_uses_the_whole_range_of_brightness() -> None:
    for level in (0, 128, 255):
        grey = av.VideoFrame.from_ndarray(np.full((16, 16, 3), level, np.uint8), format="rgb24")
        frame = grey.reformat(format="yuv420p")
        assert decode(JpegEncoder().encode(frame)).mean() == pytest.approx(level, abs=2)


def test_the_encoder_follows_a_change_of_size(colours: av.VideoFrame) -> None:
    encoder = JpegEncoder()
    for shape in ((48, 64), (24, 32), (48, 64)):
        frame = colours.reformat(width=shape[1], height=shape[0])
        assert decode(encoder.encode(frame)).shape == (*shape, 3)
    assert decode(JpegEncoder(size=(33, 17)).encode(colours)).shape == (17, 33, 3)


def test_many_pictures_of_any_time_base(colours: av.VideoFrame) -> None:
    encoder = JpegEncoder()
    jpegs = [encoder.encode(colours) for _ in range(20)]
    assert len(set(jpegs)) == 1
    assert jpegs[0].startswith(b"\xff\xd8")
    assert jpegs[0].endswith(b"\xff\xd9")


def test_better_quality_means_more_bytes() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)
    frame = av.VideoFrame.from_ndarray(noise, format="rgb24").reformat(format="yuv420p")
    sizes = [len(JpegEncoder(quality).encode(frame)) for quality in (1, 20, 50, 80, 95)]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 3 * sizes[0]


def test_the_quantiser_covers_the_scale() -> None:
    scales = [quantiser(quality) for quality in range(1, 101)]
    assert scales == sorted(scales, reverse=True)
    assert (scales[0], scales[-1]) == (31, 1)


def decode(jpeg: bytes) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture

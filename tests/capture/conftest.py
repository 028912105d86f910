"""The real clip that the capture tests play."""

from __future__ import annotations

from pathlib import Path

import pytest

from supplierd.demo.clips import ClipError, ensure_clips


@pytest.fixture(scope="session")
def bikes() -> Path:
    """H.264, 640×272 pixels, 250 frames in 10 s."""
    try:
        return ensure_clips()["bikes.mp4"]
    except ClipError as error:
        pytest.skip(str(error))

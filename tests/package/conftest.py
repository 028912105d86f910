"""The shared fixtures."""

from pathlib import Path

import pytest

from tests.package.building import build_wheel
from tests.support.fixtures import home

__all__ = ["home", "wheel"]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, compiled where this machine can: without optimisation, in half the time. The extensions
    beside the sources are compiled as those that users get."""
    built, _ = build_wheel(tmp_path_factory.mktemp("dist"), CFLAGS="-O0")
    return built

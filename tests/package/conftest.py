"""The shared fixtures."""

from tests.support.fixtures import home

__all__ = ["home"]

"""The shared fixtures."""

from tests.support.fixtures import daemon, daemons, home

__all__ = ["daemon", "daemons", "home"]

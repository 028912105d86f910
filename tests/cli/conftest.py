"""The shared fixtures."""

from tests.support.fixtures import actor, daemon, daemons, home

__all__ = ["actor", "daemon", "daemons", "home"]

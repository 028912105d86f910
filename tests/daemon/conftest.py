"""The shared fixtures."""

from tests.support.fixtures import actor, daemon, daemons, home, manager

__all__ = ["actor", "daemon", "daemons", "home", "manager"]

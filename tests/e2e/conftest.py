"""The shared fixtures."""

from tests.e2e.clip import bikes, capture
from tests.e2e.lane import lane
from tests.support.fixtures import actor, daemon, daemons, home

__all__ = ["actor", "bikes", "capture", "daemon", "daemons", "home", "lane"]

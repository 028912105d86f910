"""SIGHUP: other keys, without a restart.

What has changed besides cannot be taken over while frames flow: the log names it. A configuration that cannot be used
changes nothing.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

from supplierd.config import Config, ConfigError, differences, grants
from supplierd.core.access import Grant
from supplierd.daemon.distribution import Distribution
from supplierd.logs import event

log = logging.getLogger("supplierd.security")


class Reload:
    """Takes over a changed configuration.

    Args:
        config: the one in force, as it was loaded.
        load: loads it again; raises ConfigError.
        distribution: where revoked peers are cut off.
    """

    def __init__(self, config: Config, load: Callable[[], Config], distribution: Distribution) -> None:
        self._config = config
        self._load = load
        self._distribution = distribution

    def __call__(self) -> None:
        """Load, compare, and put the keys in force."""
        try:
            config = self._load()
        except ConfigError as error:
            event(log, logging.ERROR, "reload refused, nothing was changed", problem=str(error))
            return
        static = differences(self._config, config)
        if static:
            event(log, logging.WARNING, "these changes need a restart", keys=", ".join(static))
        if self._config.security.server_key is None:
            event(log, logging.INFO, "reloaded: no keys are asked for, so nothing was changed")
            return
        before, after = grants(self._config), grants(config)
        revoked = self._distribution.admit(after)
        event(
            log,
            logging.INFO,
            "reloaded",
            keys=len(after),
            added=_names(grant for key, grant in after.items() if key not in before),
            revoked=_names(revoked),
        )
        self._config = replace(self._config, keys=config.keys)


def _names(found: Iterable[Grant]) -> str:
    return ",".join(sorted(grant.name for grant in found))

"""A token bucket: how often something may happen, with room for a burst."""


class TokenBucket:
    """Begins full.

    Args:
        rate: tokens a second that come back.
        burst: tokens that it can hold.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens = burst
        self._at = float("-inf")

    def take(self, now: float) -> bool:
        """Take a token, if there is one. `now`: seconds, monotonic."""
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

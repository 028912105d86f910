"""The ledgers. Each is a handful of plain integers with one identity that holds after every call:

    mailbox   offered = consumed + overwritten + decimated + discarded(reason) + pending + in_flight
    stream    published = received + dropped(reason)

`balance` is the difference of the two sides: always 0. Counts never go down, but for the gauges pending and in_flight.
"""

from typing import Final

DISCARD_REASONS: Final = (
    "stale",  # had waited in a socket while a newer frame came
    "expired",  # older than the worker's max_age
    "disconnected",  # the worker was gone, or went with the frame
    "lost",  # sent, and never seen by the worker
    "left",  # waiting or under way when the worker took its leave: nobody's fault, not in a drop ratio
    "stale_descriptor",  # its arena slot had been used again before the worker looked
    "unreadable",  # the worker could not make sense of it
    "closed",  # received by a worker that was closing
)

REPORTED_REASONS: Final = ("stale", "expired", "stale_descriptor", "unreadable", "closed")
"""Those that a worker may give; the others are the daemon's to find."""

INBOX_DROP_REASONS: Final = (
    "overwritten",  # replaced by a newer frame on its way to the inbox
    "disconnected",  # the publisher had no connection to the daemon
    "old_epoch",  # from an earlier run of the publisher, after a later one had begun
)


class MailboxLedger:
    """Counts of one (worker, stream)."""

    __slots__ = ("consumed", "decimated", "discarded", "in_flight", "offered", "overwritten", "pending")

    def __init__(self) -> None:
        self.offered = self.consumed = self.overwritten = self.decimated = self.pending = self.in_flight = 0
        self.discarded: dict[str, int] = {}

    def discard(self, reason: str) -> None:
        """Count one frame that neither was consumed nor gave way to a newer one."""
        self.discarded[reason] = self.discarded.get(reason, 0) + 1

    @property
    def dropped(self) -> int:
        """Frames missed against the promise: all that were not consumed, but for decimated ones and those that a
        worker left behind by taking its leave."""
        return self.overwritten + sum(self.discarded.values()) - self.discarded.get("left", 0)

    @property
    def promised(self) -> int:
        """Frames that the worker should have seen: the denominator of a drop ratio."""
        return self.offered - self.decimated

    @property
    def balance(self) -> int:
        """Left side minus right side of the identity: 0."""
        right = self.consumed + self.overwritten + self.decimated + sum(self.discarded.values())
        return self.offered - right - self.pending - self.in_flight


class StreamLedger:
    """Counts of one stream over all its epochs."""

    __slots__ = ("dropped", "published", "received")

    def __init__(self) -> None:
        self.published = self.received = 0
        self.dropped = dict.fromkeys(INBOX_DROP_REASONS, 0)

    @property
    def balance(self) -> int:
        """Left side minus right side of the identity: 0."""
        return self.published - self.received - sum(self.dropped.values())

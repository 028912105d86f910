"""The ledgers' identities, and what counts as dropped."""

from hypothesis import given, settings
from hypothesis import strategies as st

from supplierd.core.ledger import DISCARD_REASONS, INBOX_DROP_REASONS, MailboxLedger, StreamLedger

COUNTS = ("offered", "consumed", "overwritten", "decimated", "pending", "in_flight")


def test_a_new_ledger_is_empty_and_adds_up() -> None:
    assert MailboxLedger().balance == MailboxLedger().dropped == MailboxLedger().promised == 0
    assert StreamLedger().balance == 0
    assert StreamLedger().dropped == dict.fromkeys(INBOX_DROP_REASONS, 0)


@settings(deadline=None)
@given(
    counts=st.fixed_dictionaries({name: st.integers(0, 9) for name in COUNTS}),
    reasons=st.lists(st.sampled_from(DISCARD_REASONS), max_size=9),
)
def test_the_balance_is_what_is_missing(counts: dict[str, int], reasons: list[str]) -> None:
    ledger = MailboxLedger()
    for name, value in counts.items():
        setattr(ledger, name, value)
    for reason in reasons:
        ledger.discard(reason)
    accounted = sum(counts.values()) - counts["offered"] + len(reasons)
    assert ledger.balance == counts["offered"] - accounted
    assert ledger.dropped == counts["overwritten"] + len([r for r in reasons if r != "left"])
    assert ledger.promised == counts["offered"] - counts["decimated"]


def test_discards_are_counted_by_reason() -> None:
    ledger = MailboxLedger()
    for reason in ("lost", "stale", "lost", "left"):
        ledger.discard(reason)
    assert ledger.discarded == {"lost": 2, "stale": 1, "left": 1}
    assert ledger.dropped == 3


def test_the_streams_balance() -> None:
    ledger = StreamLedger()
    ledger.published, ledger.received = 10, 4
    assert ledger.balance == 6
    ledger.dropped.update(overwritten=3, disconnected=2, old_epoch=1)
    assert ledger.balance == 0

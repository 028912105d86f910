"""docs/states.md is what the code says."""

from supplierd_client import turn

from supplierd.core import worker
from tests.docs.snippets import ROOT
from tools.state_diagrams import BUILDERS, EVENT_TEXTS, WORKER_STATE_TEXTS, page


def test_the_page_is_up_to_date() -> None:
    text = (ROOT / "docs" / "states.md").read_text()
    assert text == page(), "run: python tools/state_diagrams.py > docs/states.md"


def test_every_state_and_event_is_drawn() -> None:
    assert set(WORKER_STATE_TEXTS) == set(worker.State)
    assert set(EVENT_TEXTS) == set(worker.Event)
    assert set(BUILDERS) == set(turn.State)

"""The grants: a literal table of who may enter where, and what a change of them revokes."""

import itertools
from collections import Counter

import pytest

from supplierd.core.access import CONTROL, INBOX, LINK, Access, Grant, Role, workers_of
from supplierd.daemon.guard import LOCAL, Guard
from supplierd.transport.curve import Question

GRANTS = {
    "pub": Grant("cam-1", Role.PUBLISHER, streams=("cam-1", "cam-2")),
    "any": Grant("studio", Role.PUBLISHER, streams=("*",)),
    "pose": Grant("pose", Role.WORKER, worker="pose"),
    "spare": Grant("pose-2", Role.WORKER, worker="pose"),
    "flow": Grant("flow", Role.WORKER, worker="flow"),
    "ops": Grant("ops", Role.MONITOR),
}
DOMAINS = (INBOX, CONTROL, f"{LINK}pose", f"{LINK}flow", LINK, LOCAL, "")
OPEN = {
    ("pub", INBOX),
    ("any", INBOX),
    ("pose", CONTROL),
    ("pose", f"{LINK}pose"),
    ("spare", CONTROL),
    ("spare", f"{LINK}pose"),
    ("flow", CONTROL),
    ("flow", f"{LINK}flow"),
    ("ops", CONTROL),
}


@pytest.mark.parametrize(("user", "domain"), [*itertools.product((*GRANTS, "stranger", ""), DOMAINS)])
def test_each_key_opens_its_domains_and_no_others(user: str, domain: str) -> None:
    guard = Guard(Access(GRANTS), Counter())
    assert guard.access.may_enter(user, domain) == ((user, domain) in OPEN)
    assert guard.admit(Question(domain, user, "192.0.2.1")) == ((user, domain) in OPEN)


@pytest.mark.parametrize("domain", DOMAINS)
def test_without_a_key_only_local_sockets_are_open(domain: str) -> None:
    assert Guard(Access(GRANTS), Counter()).admit(Question(domain, None, "")) == (domain == LOCAL)


def test_what_may_be_said() -> None:
    access = Access(GRANTS)
    users = (*GRANTS, "stranger", "")
    assert {u for u in users if access.may_publish(u, "cam-2")} == {"pub", "any"}
    assert {u for u in users if access.may_publish(u, "cam-3")} == {"any"}
    assert {u for u in users if access.may_be(u, "pose")} == {"pose", "spare"}
    assert {u for u in users if access.may_be(u, "")} == set()
    assert {u for u in users if access.may_monitor(u)} == {"ops"}
    assert access.may_publish(None, "cam-3")
    assert access.may_be(None, "pose")
    assert access.may_monitor(None)


def test_what_a_change_revokes() -> None:
    access = Access(GRANTS)
    assert access.replace(GRANTS) == []
    changed = {
        "pub": Grant("renamed", Role.PUBLISHER, streams=("cam-9",)),  # still a publisher: judged frame by frame
        "any": Grant("studio", Role.MONITOR),
        "pose": Grant("pose", Role.WORKER, worker="flow"),
        "spare": GRANTS["spare"],
        "new": Grant("new", Role.MONITOR),
    }
    revoked = access.replace(changed)
    assert revoked == [GRANTS["any"], GRANTS["pose"], GRANTS["flow"], GRANTS["ops"]]
    assert workers_of(revoked) == {"pose", "flow"}
    assert access.may_monitor("new")
    assert not access.may_publish("pub", "cam-1")
    assert len(access.replace({})) == len(changed)


def test_denials_are_counted_by_role_and_logged_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    rejected: Counter[str] = Counter()
    guard = Guard(Access(GRANTS), rejected)
    with caplog.at_level("WARNING", "supplierd.security"):
        for _ in range(100):
            guard.deny("pose", 1.0, "message refused")
            guard.deny("a stranger's key", 1.0, "connection refused")
            guard.deny("", 1.0, "connection refused")
        guard.deny("pose", 2.0, "message refused")
    assert rejected == {"denied_worker": 101, "denied_stranger": 200}
    said = [(record.getMessage(), vars(record)["fields"]) for record in caplog.records]
    assert [fields["key_name"] for _, fields in said] == ["pose", "a stranger's key", "pose"]
    assert said[-1][1]["unlogged"] == 99

"""Who is let in, and what becomes of denials: each is counted by the role of the key, and logged, once a second.

The reasons are `denied_` and a role, so a peer cannot invent one. A key is named in the log as the configuration names
it; a stranger's is shown itself, so that it can be found in a file, or entered.
"""

import logging
import time
from collections import Counter
from typing import Final

from supplierd.core.access import Access
from supplierd.logs import Repeating
from supplierd.transport.curve import Question
from supplierd.transport.sockets import ZAP_DOMAIN

LOCAL: Final = ZAP_DOMAIN.decode()
"""The domain of sockets that ask for no key; libzmq asks about their peers, too, once there is a gatekeeper."""
DENIED: Final = "denied_"

log = logging.getLogger("supplierd.security")


class Guard:
    """Judges peers.

    Args:
        access: the grants in force.
        rejected: where denials are counted.
    """

    def __init__(self, access: Access, rejected: Counter[str]) -> None:
        self.access = access
        self._rejected = rejected
        self._repeating = Repeating(log)

    def admit(self, question: Question) -> bool:
        """Whether a peer may come in: the gatekeeper's question."""
        if question.user is None:
            return question.domain == LOCAL
        if self.access.may_enter(question.user, question.domain):
            return True
        self.deny(question.user, time.monotonic(), "connection refused", to=question.domain, address=question.address)
        return False

    def deny(self, user: str | None, now: float, text: str, **fields: object) -> None:
        """Count a denial, and log it."""
        role = self.access.role(user or "")
        self._rejected[DENIED + role] += 1
        whose = self.access.name(user or "") or user
        self._repeating.event(f"{role}:{text}", now, f"{text}: its key may not", role=role, key_name=whose, **fields)

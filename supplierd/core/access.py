"""Who may do what, by key: the only place where that is decided.

A user is the public key (Z85 text) with which a peer came, or None for one of whom no key is asked: a peer on an ipc
socket, whose file's mode decides, or any peer of a daemon without keys. Whatever is not granted is denied.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

ANY_STREAM: Final = "*"


class Role(StrEnum):
    """What a key is for."""

    PUBLISHER = "publisher"
    WORKER = "worker"
    MONITOR = "monitor"


STRANGER: Final = "stranger"
"""Stands for the role of a key that is not in the configuration."""

INBOX: Final = "inbox"
CONTROL: Final = "control"
LINK: Final = "worker/"
"""The domains that a peer may enter: publishers' inboxes, control channels, and LINK + name for one worker's frames."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one key may do.

    Attributes:
        name: what the configuration calls the key.
        role: what it is for.
        streams: those that a publisher may publish; ("*",) for any.
        worker: the worker that it may be.
    """

    name: str
    role: Role
    streams: tuple[str, ...] = ()
    worker: str = ""


class Access:
    """The grants in force, by public key."""

    def __init__(self, grants: Mapping[str, Grant] | None = None) -> None:
        self._grants = dict(grants or {})

    def replace(self, grants: Mapping[str, Grant]) -> list[Grant]:
        """Put other grants in force; the former ones of each key that has lost its role, or its worker.

        A publisher whose streams have changed keeps its connection: each of its frames is judged by itself.
        """
        former, self._grants = self._grants, dict(grants)
        return [grant for key, grant in former.items() if not _same_door(grant, self._grants.get(key))]

    def role(self, user: str) -> str:
        """The role of a key, as a label: one of Role, or STRANGER."""
        grant = self._grants.get(user)
        return STRANGER if grant is None else grant.role.value

    def name(self, user: str) -> str:
        """What the configuration calls a key; "" for a stranger's."""
        grant = self._grants.get(user)
        return "" if grant is None else grant.name

    def may_enter(self, user: str, domain: str) -> bool:
        """Whether a key opens a domain."""
        grant = self._grants.get(user)
        if grant is None:
            return False
        match grant.role:
            case Role.PUBLISHER:
                return domain == INBOX
            case Role.WORKER:
                return domain in (CONTROL, LINK + grant.worker)
            case Role.MONITOR:
                return domain == CONTROL

    def may_publish(self, user: str | None, stream: str) -> bool:
        """Whether a peer may publish this stream."""
        grant = None if user is None else self._grants.get(user)
        return user is None or (
            grant is not None
            and grant.role is Role.PUBLISHER
            and (stream in grant.streams or ANY_STREAM in grant.streams)
        )

    def may_be(self, user: str | None, worker: str) -> bool:
        """Whether a peer may speak as this worker."""
        grant = None if user is None else self._grants.get(user)
        return user is None or (grant is not None and grant.role is Role.WORKER and grant.worker == worker)

    def may_monitor(self, user: str | None) -> bool:
        """Whether a peer may read the statistics."""
        return user is None or self.role(user) == Role.MONITOR


def workers_of(grants: Iterable[Grant]) -> set[str]:
    """The workers that keys with these grants could be."""
    return {grant.worker for grant in grants if grant.role is Role.WORKER}


def _same_door(before: Grant, after: Grant | None) -> bool:
    return after is not None and (after.role, after.worker) == (before.role, before.worker)

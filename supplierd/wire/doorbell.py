"""The doorbell of an inbox: by which a publisher on the daemon's machine puts a reference to shared memory.

It is a place for one message: a pair of connected Unix sockets of packets, whose taking end the publisher has, too.
Before it gives a message it takes back what the daemon has not fetched, so that the newest replaces the one before, as
it does in a conflated socket. The messages are those of supplierd.wire.frame, up to bell.MAX_PACKET bytes long; what is
longer, as a frame with much metadata is, goes over ZeroMQ.

Who connects to the doorbell's path is sent GREETING, and with it both ends: the taking one, then the giving one. The
connection says nothing more; as long as it lasts, the daemon does.
"""

import os
from typing import Final

from supplierd.wire.endpoints import MAX_IPC_PATH_BYTES
from supplierd.wire.frame import MAGIC, VERSION

GREETING: Final = MAGIC + bytes([VERSION])
_IPC: Final = "ipc://"
_SUFFIX: Final = ".bell"


def doorbell_path(inbox: str) -> str:
    """Where the doorbell of an inbox is, by its endpoint; "" for one that can have none: it is not on this machine, or
    its path leaves no room for another."""
    path = inbox.removeprefix(_IPC) + _SUFFIX
    return path if inbox.startswith(_IPC) and len(os.fsencode(path)) <= MAX_IPC_PATH_BYTES else ""

"""Puts messages behind a doorbell: writes one over the other, and tells the daemon of each.

Nearly each frame comes through here, so there is the same in C, `putter.pyx`, which is imported in place of this file
where it was compiled.
"""

import os
import select

from supplierd.wire.bell import MAX_PACKET
from supplierd.wire.doorbell import NOTHING, encode_put


class Putter:
    """What a daemon's greeting brought.

    Args:
        line: descriptor of the connection, by which is seen that the daemon is there.
        file: of where messages are put.
        event: of the eventfd.
    """

    def __init__(self, line: int, file: int, event: int) -> None:
        self._look = select.poll()
        self._look.register(line, select.POLLIN)
        self._file, self._event = file, event
        self._number = 0

    def put(self, message: bytes) -> bool:
        """Put a message in the place of the one before; False where the daemon is gone, or gave what is none.

        Raises:
            ValueError: it is longer than MAX_PACKET bytes.
        """
        if len(message) > MAX_PACKET:
            raise ValueError(f"a message of {len(message)} bytes: expected at most {MAX_PACKET}")
        self._number += 1
        try:
            if not self._write(encode_put(self._number, message)):
                return False
            os.eventfd_write(self._event, 1)
        except OSError:
            return False
        return True

    def take_back(self) -> bool:
        """Leave nothing to be taken; False as `put` says it."""
        try:
            return self._write(NOTHING)
        except OSError:
            return False

    def _write(self, content: bytes) -> bool:
        return not self._look.poll(0) and os.pwrite(self._file, content, 0) == len(content)

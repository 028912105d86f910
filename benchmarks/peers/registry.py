"""The systems that can be measured, by name, in the order of the tables."""

from typing import Final

from peers.system import System
from peers.with_supplierd import SUPPLIERD
from peers.with_zmq import ZMQ

SYSTEMS: Final[dict[str, System]] = {system.name: system for system in (*SUPPLIERD, *ZMQ)}

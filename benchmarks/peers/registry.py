"""The systems that can be measured, by name, in the order of the tables."""

from typing import Final

from peers.system import System
from peers.with_ecal import ECAL
from peers.with_gstreamer import GSTREAMER
from peers.with_iceoryx2 import ICEORYX2
from peers.with_imagezmq import IMAGEZMQ
from peers.with_netgear import NETGEAR
from peers.with_redis import REDIS
from peers.with_supplierd import SUPPLIERD
from peers.with_zenoh import ZENOH
from peers.with_zmq import ZMQ

SYSTEMS: Final[dict[str, System]] = {
    system.name: system
    for system in (*SUPPLIERD, *ZMQ, *IMAGEZMQ, *NETGEAR, *ZENOH, *ICEORYX2, *ECAL, *GSTREAMER, *REDIS)
}

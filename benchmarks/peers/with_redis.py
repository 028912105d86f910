"""Redis: SET of the newest frame and PUBLISH of a notice, in one pipeline; a worker that is told GETs the newest.

So nothing queues but notices of a few bytes, which a worker drains before it fetches. Over a Unix socket, no
persistence. (Frames as stream entries or published themselves are queued, and slower: see the project's notes.)
"""

import importlib.metadata
import os
import subprocess
from typing import Any

import numpy as np
from rig import until

from peers.system import Broker, CopyingSender, Picture, Place, Receiver, Sender, System, lacks_module, lacks_program

KEY = "cam-1"
WAIT = 0.25


class Server(Broker):
    """A redis-server of its own."""

    def __init__(self, place: Place) -> None:
        path = _socket(place)
        command = ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            [*command, "--dir", os.fspath(place.folder), "--maxclients", "1000"], stdout=subprocess.DEVNULL
        )
        until(lambda: os.path.exists(path), "redis-server", 10.0)

    def pids(self) -> list[int]:
        """Its process."""
        return [self._process.pid]

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(10.0)


class RedisSender(CopyingSender):
    """SET and PUBLISH."""

    def __init__(self, place: Place) -> None:
        self._redis = _client(place)

    def publish(self, picture: Picture) -> None:
        """In one pipeline, one round trip."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.set(KEY, memoryview(picture.reshape(-1)))
        pipeline.publish(KEY, b"")
        pipeline.execute()


class RedisReceiver(Receiver):
    """Subscribes to notices, fetches the newest."""

    def __init__(self, place: Place) -> None:
        self._shape = place.shape
        self._redis = _client(place)
        self._notices = self._redis.pubsub(ignore_subscribe_messages=True)
        self._notices.subscribe(KEY)
        self._last = b""

    def receive(self) -> Picture | None:
        """The newest frame, once."""
        if self._notices.get_message(timeout=WAIT) is None:
            return None
        while self._notices.get_message(timeout=0) is not None:
            pass
        content = self._redis.get(KEY)
        if not content or content[:16] == self._last:
            return None
        self._last = content[:16]
        return np.frombuffer(content, np.uint8).reshape(self._shape)


class Redis(System):
    """Redis."""

    name = "redis"
    settings = "SET and PUBLISH in a pipeline, GET of the newest; Unix socket, hiredis parser, no persistence"

    def missing(self) -> str | None:
        """Its module and server."""
        return lacks_module("redis") or lacks_program("redis-server")

    def version(self) -> str:
        """Of server and client."""
        words = subprocess.run(
            ["redis-server", "--version"], capture_output=True, text=True, check=False
        ).stdout.split()
        server = next((word[2:] for word in words if word.startswith("v=")), "")
        return f"redis-server {server}, redis-py {importlib.metadata.version('redis')}"

    def warm(self) -> None:
        """Import it."""
        import redis  # noqa: F401

    def broker(self, place: Place) -> Broker:
        """The server."""
        return Server(place)

    def sender(self, place: Place) -> Sender:
        """A client."""
        return RedisSender(place)

    def receiver(self, place: Place, index: int) -> Receiver:
        """A client."""
        del index
        return RedisReceiver(place)


def _socket(place: Place) -> str:
    return os.fspath(place.folder / "redis.sock")


def _client(place: Place) -> Any:
    import redis

    return redis.Redis(unix_socket_path=_socket(place))


REDIS = (Redis(),)

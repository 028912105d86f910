"""A daemon that asks for keys on tcp, and those who come to it with the right keys, wrong ones, or none."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import zmq
from supplierd_client import Publisher, Worker

from supplierd.transport.curve import new_pair, present
from supplierd.transport.monitor import Monitor
from supplierd.wire import control
from supplierd.wire.keys import ClientKeys, KeyPair, write
from tests.support.daemon import Daemon, free_port
from tests.support.peers import PlainSocket
from tests.support.waiting import DEADLINE, wait_for

CAST: Final = (
    ("publisher", "cam-1"),
    ("publisher", "cam-2"),
    ("worker", "pose"),
    ("worker", "flow"),
    ("worker", "plain"),
    ("monitor", "ops"),
)
"""Whom the configuration names at first: role and name."""


class Keys:
    """Key files in a folder, and the tables that name them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pairs: dict[str, KeyPair] = {}
        self._tables: dict[str, str] = {}
        self._context: zmq.Context[PlainSocket] = zmq.Context()
        self.make("server")
        self.public = folder / "server.public"
        write(self.public, f'public = "{self._pairs["server"].public}"\n', 0o644)

    def make(self, name: str) -> KeyPair:
        """A key pair that the configuration does not name."""
        pair = self._pairs[name] = new_pair()
        self.secret(name).unlink(missing_ok=True)
        write(self.secret(name), f'public = "{pair.public}"\nsecret = "{pair.secret}"\n', 0o600)
        return pair

    def add(self, role: str, name: str, more: str = "") -> None:
        """A key pair that the configuration names; `more` are further lines of its table."""
        pair = self._pairs.get(name) or self.make(name)
        self._tables[name] = f'[keys.{name}]\nrole = "{role}"\npublic = "{pair.public}"\n{more}\n'

    def remove(self, name: str) -> None:
        """The configuration names it no longer."""
        del self._tables[name]

    def reset(self) -> None:
        """The configuration names CAST and nobody else."""
        self._tables.clear()
        for role, name in CAST:
            self.add(role, name)

    def secret(self, name: str) -> Path:
        return self._folder / f"{name}.secret"

    def of(self, name: str) -> ClientKeys:
        return ClientKeys(self._pairs[name], self._pairs["server"].public)

    @property
    def document(self) -> str:
        return f'[security]\nserver_key = "{self.secret("server")}"\n' + "".join(self._tables.values())

    @contextmanager
    def socket(self, kind: int, endpoint: str, name: str | None, server: str = "") -> Iterator[PlainSocket]:
        """A connecting socket that shows a key, or none; to a daemon with this public key, by default the right one."""
        with self._context.socket(kind) as made:
            made.set(zmq.LINGER, 0)
            made.set(zmq.IMMEDIATE, int(kind != zmq.PULL))
            if name is not None:
                present(made, self.of(name)._replace(server=server or self._pairs["server"].public))
            made.connect(endpoint)
            yield made

    def close(self) -> None:
        self._context.term()


class Stage:
    """The daemon and its doors."""

    def __init__(self, home: Path) -> None:
        self._place = home / "d"
        self._place.mkdir()
        self.keys = Keys(home)
        self.inbox, self.control, self.push = (f"tcp://127.0.0.1:{free_port()}" for _ in range(3))
        self.more = ""
        self.keys.reset()
        self.daemon: Daemon

    @property
    def document(self) -> str:
        return f"""
            [inbox]
            endpoints = ["ipc", "{self.inbox}"]
            [control]
            endpoints = ["ipc", "{self.control}"]
            [workers.plain]
            delivery = "push"
            endpoint = "{self.push}"
            {self.more}
            {self.keys.document}
            """

    def start(self) -> None:
        self.daemon = Daemon(self._place, self.document).start()

    def close(self) -> None:
        self.daemon.close()
        self.keys.close()

    def begin(self) -> None:
        """A test begins: what was counted and logged before is not its own."""
        self._rejected = dict(self.daemon.snapshot().rejected)
        self._logged = len(self.daemon.log())

    def end(self) -> None:
        """A test ends: the keys are as at first."""
        self.keys.reset()
        self.more = ""
        self.reload()

    def wait_for_denied(self, role: str) -> None:
        """Wait until a key of this role is denied something."""
        reason = f"denied_{role}"
        self.daemon.wait_for_rejected(reason, self._rejected.get(reason, 0) + 1)

    def logged(self, text: str) -> list[str]:
        """The lines that contain `text`, since the test began."""
        return [line for line in self.daemon.log()[self._logged :].splitlines() if text in line]

    def received(self, stream: str) -> int:
        """Frames of a stream that have come in."""
        found = self.daemon.stream(stream)
        return found.received if found else 0

    @contextmanager
    def refuses(self, reason: str, count: int = 1) -> Iterator[Callable[[], None]]:
        """What is done meanwhile is refused so often for this reason, exactly; the call waits for it."""
        before = self.daemon.rejected(reason)

        def refused() -> None:
            self.daemon.wait_for_rejected(reason, before + count)

        yield refused
        refused()
        assert self.daemon.rejected(reason) == before + count

    def reload(self, document: str | None = None) -> str:
        """Write the configuration and send SIGHUP; what the log says of it."""
        (self._place / "supplierd.toml").write_text(self.document if document is None else document)
        before = len(self.daemon.logged(" reload"))
        self.daemon.process.send_signal(signal.SIGHUP)
        return wait_for(lambda: self.daemon.logged(" reload")[before:], "the reload")[-1]

    def publisher(self, name: str, stream: str | None = None) -> Publisher:
        return Publisher(stream or name, self.inbox, key=self.keys.secret(name), server_key=self.keys.public)

    def worker(self, name: str, worker: str | None = None) -> Worker:
        """A worker on cam-1."""
        return Worker(worker or name, ["cam-1"], self.control, key=self.keys.secret(name), server_key=self.keys.public)

    def monitor(self, name: str) -> Monitor:
        return Monitor(self.control, self.keys.of(name))

    @contextmanager
    def talk(self, name: str | None) -> Iterator[Callable[..., control.FromDaemon | None]]:
        """A peer of the tcp control channel that says what it is told to, and hears the answers."""
        with self.keys.socket(zmq.DEALER, self.control, name) as socket:
            connected(socket)

            def ask(message: control.FromClient, answered: bool = True) -> control.FromDaemon | None:
                socket.send(control.encode(message))
                if not answered:
                    return None
                assert socket.poll(round(DEADLINE * 1e3)), "the daemon says nothing"
                return control.decode_from_daemon(socket.recv())

            yield ask


def connected(socket: PlainSocket) -> PlainSocket:
    """The socket, once it has shaken hands."""
    assert socket.poll(round(DEADLINE * 1e3), zmq.POLLOUT), "no connection"
    return socket


def join(worker: str, streams: list[str] | None = None, attempt: int = 1) -> control.Join:
    return control.Join(worker, worker.encode().ljust(16, b"\0")[:16], attempt, [control.VERSION], "", streams or ["*"])

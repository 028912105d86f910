"""supplierd's own lanes: inline over ipc, shared memory, shared memory with loans, tcp, and push to plain sockets."""

import os
from pathlib import Path
from typing import Any, Final

import numpy as np
import zmq
from rig import Rig
from supplierd_client import Publisher, Worker

import supplierd
from peers.system import Broker, CopyingSender, Picture, Place, Receiver, Sender, System, free_ports
from supplierd.wire import frame as wire

STREAM: Final = "cam-1"
WAIT: Final = 0.25


class Daemon(Broker):
    """A daemon of its own, and its exporter."""

    def __init__(self, document: str) -> None:
        self.rig = Rig(__file__, document)

    def pids(self) -> list[int]:
        """Of both."""
        return self.rig.daemon_pids()

    def drops(self) -> int | None:
        """Of all ledgers: on the way to the inbox, and of each worker."""
        snapshot = self.rig.snapshot()
        missed = sum(sum(m.dropped.values()) for w in snapshot.workers for m in w.mailboxes)
        workers = max(1, len(snapshot.workers))
        return missed + workers * sum(sum(stream.dropped.values()) for stream in snapshot.streams)

    def close(self) -> None:
        """End it."""
        self.rig.__exit__(None, None, None)


class CopySender(CopyingSender):
    """`publish(array)`: copied into a slot, or into the message."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def publish(self, picture: Picture) -> None:
        """Once."""
        self._publisher.publish(picture)

    def close(self) -> None:
        """End it."""
        self._publisher.close()


class LoanSender(CopySender):
    """`publish(loan)`: the picture is written into shared memory."""

    _loan: Any = None

    def picture(self, place: Place) -> Picture:
        """A loan."""
        self._loan = self._publisher.loan(place.shape, np.uint8)
        return self._loan.array  # type: ignore[no-any-return]

    def publish(self, picture: Picture) -> None:
        """What was lent."""
        del picture
        loan, self._loan = self._loan, None
        self._publisher.publish(loan)


class JoinedReceiver(Receiver):
    """A worker with the client library."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def receive(self) -> Picture | None:
        """The freshest frame."""
        frame = self._worker.read(timeout=WAIT)
        return None if frame is None else frame.array

    def close(self) -> None:
        """Take leave."""
        self._worker.close()


class PlainReceiver(Receiver):
    """A plain PULL socket, that the daemon pushes to; the header is read as docs/wire.md says."""

    def __init__(self, endpoint: str) -> None:
        self._socket = zmq.Context.instance().socket(zmq.PULL)
        self._socket.setsockopt(zmq.CONFLATE, 1)
        self._socket.setsockopt(zmq.RCVTIMEO, round(WAIT * 1e3))
        self._socket.connect(endpoint)

    def receive(self) -> Picture | None:
        """The newest frame."""
        try:
            message = self._socket.recv(copy=False).buffer
        except zmq.Again:
            return None
        header = wire.decode(message)
        return np.frombuffer(message, header.dtype, offset=header.payload_offset).reshape(header.shape)

    def close(self) -> None:
        """End it."""
        self._socket.close(linger=0)


class Supplierd(System):
    """A daemon with one stream."""

    def __init__(self, name: str, settings: str, shared_memory: str, *, loan: bool = False, tcp: bool = False) -> None:
        self.name, self.settings = name, settings
        self._shared_memory, self._loan, self._tcp = shared_memory, loan, tcp

    def version(self) -> str:
        """Its own."""
        return f"supplierd {supplierd.__version__}"

    def document(self, place: Place) -> str:
        """The daemon's configuration."""
        del place
        return ""

    def broker(self, place: Place) -> Broker:
        """The daemon."""
        text = "[daemon]\nmax_workers = 128\n"
        if self._tcp:
            ports = free_ports(2)
            place.address = {
                "inbox": f"tcp://127.0.0.1:{ports[0]}",
                "control": f"tcp://127.0.0.1:{ports[1]}",
            }
            text += f'[inbox]\nendpoints = ["{place.address["inbox"]}"]\n'
            text += f'[control]\nendpoints = ["ipc", "{place.address["control"]}"]\n'
        daemon = Daemon(text + self.document(place))
        place.address["runtime_dir"] = str(daemon.rig.runtime_dir)
        return daemon

    def sender(self, place: Place) -> Sender:
        """A Publisher."""
        address = place.address
        publisher = Publisher(
            STREAM,
            address.get("inbox"),
            shared_memory=self._shared_memory,  # type: ignore[arg-type]
            runtime_dir=address["runtime_dir"],
        )
        return LoanSender(publisher) if self._loan else CopySender(publisher)

    def receiver(self, place: Place, index: int) -> Receiver:
        """A Worker."""
        address = place.address
        return JoinedReceiver(
            Worker(f"worker-{index}", [STREAM], address.get("control"), runtime_dir=address["runtime_dir"])
        )


class Push(Supplierd):
    """Workers that are plain sockets."""

    def document(self, place: Place) -> str:
        """An endpoint for each worker."""
        return "\n".join(
            f'[workers.worker-{index}]\ndelivery = "push"\nendpoint = "{_push_endpoint(place.folder, index)}"\n'
            for index in range(place.workers)
        )

    def receiver(self, place: Place, index: int) -> Receiver:
        """A PULL socket."""
        return PlainReceiver(_push_endpoint(place.folder, index))


def _push_endpoint(folder: Path, index: int) -> str:
    return f"ipc://{os.fspath(folder)}/push-{index}.sock"


SUPPLIERD = (
    Supplierd("supplierd-loan", "ipc; the picture is written into a loan", "on", loan=True),
    Supplierd("supplierd-shm", "ipc; shared memory, publish(array)", "on"),
    Supplierd("supplierd-inline", "ipc; shared_memory=off", "off"),
    Supplierd("supplierd-tcp", "tcp on loopback, without keys", "off", tcp=True),
    Push("supplierd-push", "ipc; delivery=push to plain PULL sockets", "off"),
)

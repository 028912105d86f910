"""The context, and what every socket of the daemon has in common.

LINGER 0, since the default hangs the end of the process; MAXMSGSIZE, since by default a header of nine bytes reserves
any memory; a short HANDSHAKE_IVL, which drops silent clients; ZAP_DOMAIN, without which peers of ZMTP/1.0 inject
messages with no handshake at all.
"""

import ctypes
import os
import resource
import select
import struct
from typing import Any, Final

import zmq

WORKERS_PER_IO_THREAD: Final = 8
"""The user's threshold: a proof of concept has up to 5 workers, an expansion up to 10, a full deployment 64."""
HANDSHAKE_MS: Final = 2_000
"""A local handshake takes well under a millisecond, one over a bad link some round trips."""
TCP_BUFFER_BYTES: Final = 64 * 1024
"""Default buffers hide dozens of 100 KB frames, seconds old on a slow link; ipc ignores the option."""
TCP_DEAD_AFTER_MS: Final = 5_000
"""How long sent data may stay unacknowledged before the kernel gives a connection up."""
ZAP_DOMAIN: Final = b"supplierd"
DESCRIPTORS_PER_WORKER: Final = 9
"""Its socket, listener, connection, monitor, control connection and bell, with what libzmq adds for its threads."""

EVENTS_AT_ONCE: Final = 64
"""Events of connections that are read before the caller looks at something else: a flood makes them as fast as one can
read, and meanwhile takes the descriptors. They take one to two milliseconds."""
TICK: Final = 0.05
"""Seconds: how late a frame that became due without another's arrival, or could not be sent, may go out."""
LONG_TICK: Final = 0.1
"""The same while no rate is promised and nothing is to be sent again: then no frame becomes due by time alone, and the
loop is woken by nearly nothing but frames and demands."""
STOOD_STILL: Final = 0.1
"""Seconds by which a wait ends too late where the process was stopped, or the machine asleep or overwhelmed. What then
lies in the kernel's buffers is old, and arrives before what is newer."""
CATCH_UP: Final = 0.01
"""Seconds that libzmq's threads are then given to fetch it all, so that the newest of it is taken."""
GATHER_MS: Final = 1
"""Milliseconds for which demands are gathered just after a frame went out to several workers, where no other frame
waits for anybody. They ask for the next one now, which will take most of an interval to come: hearing them together
costs a fifth less (`python benchmarks/where.py`)."""
SERVED_LATELY: Final = 0.005
"""Seconds for which that holds."""
BURST: Final = 256
"""Messages that one turn takes from one socket, so that a flood on one does not silence the others."""
HEAR_AT_MOST: Final = 0.005
"""Seconds after which a turn takes no more from a socket: a JOIN opens sockets, a header can take milliseconds to read,
and frames must not wait for hundreds of them."""

_WATCHED: Final = int(zmq.Event.ACCEPTED | zmq.Event.HANDSHAKE_SUCCEEDED | zmq.Event.DISCONNECTED)

_EVENT: Final = struct.Struct("=Hi")
"""A monitor's message: event and descriptor. pyzmq can read it, too, but by a module that has all of asyncio with it,
which is a sixth of the daemon's memory."""
_POLLIN: Final = int(zmq.POLLIN)  # a plain number: the enumeration's & costs a microsecond
LIBZMQ: Final = zmq.zmq_version()
TransportError = zmq.ZMQError
"""What binding raises; its strerror says why."""
Message = zmq.Frame
"""One message part. Sending it to many sockets copies nothing."""
Context = zmq.Context["zmq.Socket[bytes]"]
Socket = zmq.Socket[bytes]


def make_context(max_workers: int) -> Context:
    """The daemon's context: one I/O thread for each eight workers, not more than cores.

    A ROUTER names its nameless peers by numbers, from one of C's rand() on, and aborts the process where a peer has
    given itself such a name. Nobody else seeds rand(), so the number would be known.
    """
    ctypes.CDLL(None).srand(ctypes.c_uint(int.from_bytes(os.urandom(4))))
    context = zmq.Context(io_threads(max_workers))
    context.set(zmq.MAX_SOCKETS, 64 + 4 * max_workers)
    return context


def io_threads(max_workers: int) -> int:
    """Number of I/O threads for so many workers."""
    return max(1, min(os.cpu_count() or 1, -(-max_workers // WORKERS_PER_IO_THREAD)))


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open files to the hard one: out of descriptors, libzmq's ipc listener aborts the process.
    Returns the limit in force."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def open_socket(context: Context, kind: int, max_message: int) -> Socket:
    """A socket with the options that all have in common. `max_message` is in bytes."""
    socket = context.socket(kind)
    options: dict[int, Any] = {
        zmq.LINGER: 0,
        zmq.MAXMSGSIZE: max_message,
        zmq.HANDSHAKE_IVL: HANDSHAKE_MS,
        zmq.ZAP_DOMAIN: ZAP_DOMAIN,
        zmq.TCP_MAXRT: TCP_DEAD_AFTER_MS,
        zmq.TCP_KEEPALIVE: 1,
        zmq.TCP_KEEPALIVE_IDLE: 1,
        zmq.TCP_KEEPALIVE_INTVL: 1,
        zmq.TCP_KEEPALIVE_CNT: TCP_DEAD_AFTER_MS // 1_000,
    }
    for option, value in options.items():
        socket.set(option, value)
    return socket


def readable(socket: Socket) -> bool:
    """Whether a message can be received: cheaper to ask than to catch the exception of a receive that cannot.

    That must be caught all the same: when its sender disconnects in between, the message may be gone.
    """
    return bool(int(socket.get(zmq.EVENTS)) & _POLLIN)


class Waiter:
    """Waits until something can be read: by descriptors, since zmq_poll costs several system calls for each socket.

    libzmq's descriptors tell of changes only. So whoever is told must receive until nothing is left, or say `again`;
    and when the time is over every socket is looked at: a send may have swallowed what its descriptor had to tell.

    Attributes:
        sources: what is waited for, by descriptor.
        left: where something was left.
        changes: how often that has changed.
    """

    def __init__(self) -> None:
        self._poll = select.poll()
        self._urgent = select.poll()
        self.sources: dict[int, Socket | int] = {}
        self.changes = 0
        self._patient: set[Socket | int] = set()
        self.left: set[Socket | int] = set()

    def add(self, source: Socket | int, patient: bool = False) -> None:
        """Wait for this socket or file descriptor, too; a patient one may be left alone for a moment by `gather`."""
        descriptor = source if isinstance(source, int) else int(source.get(zmq.FD))
        self.sources[descriptor] = source
        self.changes += 1
        self._poll.register(descriptor, select.POLLIN)
        if patient:
            self._patient.add(source)
        else:
            self._urgent.register(descriptor, select.POLLIN)
        self.left.add(source)

    def remove(self, source: Socket | int) -> None:
        """Wait for it no longer; it may have been closed."""
        for descriptor in [d for d, known in self.sources.items() if known is source]:
            del self.sources[descriptor]
            self.changes += 1
            self._poll.unregister(descriptor)
            if source not in self._patient:
                self._urgent.unregister(descriptor)
        self._patient.discard(source)
        self.left.discard(source)

    def again(self, source: Socket | int) -> None:
        """Something was left: the next wait is none."""
        self.left.add(source)

    def wait(self, seconds: float) -> set[Socket | int]:
        """What may be read, as soon as something may; empty, but for what a send has hidden, when the time is over."""
        ready, self.left = self.left, set()
        signalled = self._poll.poll(0 if ready else max(0.0, seconds * 1e3))
        if not signalled and not ready:
            return {s for s in self.sources.values() if not isinstance(s, int) and readable(s)}
        ready.update(self.sources[descriptor] for descriptor, _ in signalled)
        return ready

    def gather(self, ready: set[Socket | int], milliseconds: int) -> None:
        """Where nothing but patient sources is ready, let more come to them, until the time is over or another is."""
        if ready and ready <= self._patient:
            ready.update(self.sources[descriptor] for descriptor, _ in self._urgent.poll(milliseconds))


class StrangerCount:
    """Counts the connections to a listening socket that ended without a handshake: random bytes, a wrong key or socket
    type, somebody who only knocked.

    libzmq does not say which connection a finished handshake belongs to: it is taken for the longest waiting one.
    Where several greet at once a stranger may thus be counted early (for a peer that came and went meanwhile) or late,
    but is counted once. The I/O threads may tell of a connection's handshake or end before they tell of its beginning.
    """

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self.monitor = _unbounded_monitor(socket)
        self._greeting: dict[int, None] = {}  # descriptors, longest waiting first
        self._established: set[int] = set()
        self._ended_early: set[int] = set()
        self._greeted_early = 0
        self.handshakes = 0

    def take(self, most: int = EVENTS_AT_ONCE) -> int:
        """How many, by the next events, `most` at most. To be called often: what is unread takes memory."""
        strangers = 0
        for _ in range(most):
            told = self._next()
            if told is None:
                break
            event, descriptor = told
            if event == zmq.EVENT_ACCEPTED:
                strangers += self._accepted(descriptor)
            elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.handshakes += 1
                self._shook_hands()
            else:
                strangers += self._ended(descriptor)
        return strangers

    def _accepted(self, descriptor: int) -> bool:
        greeted = self._greeted_early > 0
        self._greeted_early -= greeted
        if descriptor in self._ended_early:
            self._ended_early.remove(descriptor)
            return not greeted
        self._greeting[descriptor] = None
        if greeted:
            self._shook_hands()
        return False

    def _shook_hands(self) -> None:
        if self._greeting:
            first = next(iter(self._greeting))
            del self._greeting[first]
            self._established.add(first)
        else:
            self._greeted_early += 1

    def _ended(self, descriptor: int) -> bool:
        if descriptor in self._greeting:
            del self._greeting[descriptor]
            return True
        if descriptor in self._established:
            self._established.remove(descriptor)
        else:
            self._ended_early.add(descriptor)
        return False

    def forget(self) -> None:
        """The endpoint is no longer bound: libzmq has ended its connections, and tells of none of them."""
        self._greeting.clear()
        self._established.clear()
        self._ended_early.clear()
        self._greeted_early = 0

    def skip(self) -> None:
        """Pass over all that is unread, but for `handshakes`: it tells of connections that have ended since."""
        while (told := self._next()) is not None:
            self.handshakes += told[0] == zmq.EVENT_HANDSHAKE_SUCCEEDED

    def _next(self) -> tuple[int, int] | None:
        """The next event and its descriptor; None where none is unread."""
        if not readable(self.monitor):
            return None
        event, descriptor = _EVENT.unpack(self.monitor.recv_multipart(zmq.NOBLOCK)[0])
        return event, descriptor

    @property
    def connections(self) -> int:
        """How many there are, as far as `take` has been told."""
        return len(self._greeting) + len(self._established)

    def close(self) -> None:
        """Stop counting."""
        self._socket.monitor(None, 0)
        self.monitor.close(linger=0)


def _unbounded_monitor(socket: Socket) -> Socket:
    """The socket at which a socket's events are received.

    As pyzmq makes it, it holds 2000 events. At the next one libzmq's I/O thread waits, and with it all sockets that it
    serves; and who then ends the monitoring waits for that thread, for ever, if nobody else reads them.
    """
    endpoint = f"inproc://events-of-{int(socket.get(zmq.FD))}"
    socket.monitor(endpoint, _WATCHED)
    monitor: Socket = socket.context.socket(zmq.PAIR)
    monitor.set(zmq.RCVHWM, 0)
    monitor.connect(endpoint)
    return monitor

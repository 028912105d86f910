"""How old are frames at the end of a slow link? supplierd beside plain ZeroMQ sockets, in one run. Needs root.

    python benchmarks/slow_link.py                                 all ways in turn, a minute
    python benchmarks/slow_link.py --size 50000 --fps 15 --ways supplierd push

Two hosts (network namespaces) are joined by a cable that carries 1 Mbit/s (tc's tbf); a camera that makes more is on
the one, a receiver on the other. `supplierd`: publisher, daemon, worker. The others are a pair of sockets over tcp:
`push` is PUSH to PULL and `pubsub` PUB to SUB, both with pyzmq's default options; `conflate` is PUSH to PULL with
CONFLATE on both ends, `hwm1` with high-water marks of 1. Age is from capture to the receiver's hands, by the machine's
monotonic clock, in the second half of each run. The bound is two transmission times and one interval between frames.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import zmq
from rig import Part, Rig, play, say, told, until, when_ended
from supplierd_client import Publisher, Worker

from tests.support import hosts

RATE_KBIT: Final = 1_000
CONTROL: Final = f"tcp://{hosts.HERE}:5601"
PLAIN: Final = f"tcp://{hosts.HERE}:5602"
DOCUMENT: Final = f'[daemon]\ninsecure = true\n[control]\nendpoints = ["ipc", "{CONTROL}"]\n'
STREAM: Final = "cam-1"
STAMP: Final = 8
"""Bytes: capture time, ns, at the beginning of a plain socket's frame."""
SOCKETS: Final[dict[str, tuple[int, int, dict[int, int]]]] = {
    "push": (zmq.PUSH, zmq.PULL, {}),
    "pubsub": (zmq.PUB, zmq.SUB, {}),
    "conflate": (zmq.PUSH, zmq.PULL, {zmq.CONFLATE: 1}),
    "hwm1": (zmq.PUSH, zmq.PULL, {zmq.SNDHWM: 1, zmq.RCVHWM: 1}),
}
WAYS: Final = ("supplierd", *SOCKETS)


# --- parts ------------------------------------------------------------------------------------------------------------


def paced(fps: float, step: Callable[[], None]) -> None:
    """Do something at a pace until told to end."""
    due = time.monotonic()
    while not told():
        step()
        due += 1.0 / fps
        time.sleep(max(0.0, due - time.monotonic()))


def publish(runtime_dir: str, size: int, fps: float) -> None:
    """The camera of supplierd."""
    payload = bytes(size)
    with Publisher(STREAM, runtime_dir=runtime_dir) as publisher:
        paced(fps, lambda: say(seq=publisher.publish(payload)))


def work(control: str) -> None:
    """The receiver of supplierd."""
    worker = Worker("far", [STREAM], control)
    when_ended(worker.close)
    for frame in worker:
        say(at=time.monotonic(), age=frame.age)


def plain_socket(context: "zmq.Context[zmq.Socket[bytes]]", way: str, end: int) -> "zmq.Socket[bytes]":
    """A socket of a way: end 0 sends, end 1 receives."""
    *kinds, options = SOCKETS[way]
    socket = context.socket(int(kinds[end]))  # type: ignore[call-overload]
    socket.set(zmq.LINGER, 0)
    for option, value in options.items():
        socket.set(option, value)
    return socket


def send(way: str, size: int, fps: float) -> None:
    """The camera of a pair of plain sockets; it does not wait, either."""
    with zmq.Context() as context, plain_socket(context, way, 0) as socket:
        socket.bind(PLAIN)
        filling = bytes(size - STAMP)
        socket.poll(round(1e3 * 10), zmq.POLLOUT)

        def step() -> None:
            try:
                socket.send(time.monotonic_ns().to_bytes(STAMP, "little") + filling, zmq.NOBLOCK)
            except zmq.Again:
                say(refused=True)

        paced(fps, step)


def receive(way: str) -> None:
    """The receiver of a pair of plain sockets."""
    with zmq.Context() as context, plain_socket(context, way, 1) as socket:
        if SOCKETS[way][1] == zmq.SUB:
            socket.set(zmq.SUBSCRIBE, b"")
        socket.connect(PLAIN)
        while not told():
            if socket.poll(100):
                captured = int.from_bytes(socket.recv()[:STAMP], "little")
                say(at=time.monotonic(), age=(time.monotonic_ns() - captured) / 1e9)


# --- one run ----------------------------------------------------------------------------------------------------------


def measure(way: str, cable: hosts.Cable, size: int, fps: float, seconds: float) -> dict[str, float]:
    """Ages in the second half of a run, in seconds, and frames delivered each second in it."""
    with Rig(__file__, DOCUMENT) as rig:
        if way == "supplierd":
            receiver = Part(__file__, "work", {"control": CONTROL}, prefix=cable.there)
            rig.parts.append(receiver)
            rig.wait_for_workers(1)
            rig.start("publish", size=size, fps=fps)
        else:
            receiver = Part(__file__, "receive", {"way": way}, prefix=cable.there)
            rig.parts += [receiver, Part(__file__, "send", {"way": way, "size": size, "fps": fps})]
        until(lambda: receiver.words, "the first frame")
        cable.narrow(f"{RATE_KBIT}kbit")
        try:
            began = time.monotonic()
            time.sleep(seconds)
            end = time.monotonic()
        finally:
            cable.widen()
        half = began + (end - began) / 2
        ages = [word["age"] for word in list(receiver.words) if half <= word["at"] < end]
    return {
        "age_p50_s": statistics.median(ages),
        "age_worst_s": max(ages),
        "fps": len(ages) / (end - half),
    }


def bound(size: int, fps: float) -> float:
    """Two transmission times and one interval, in seconds."""
    return 2 * size * 8 / (RATE_KBIT * 1e3) + 1 / fps


def table(results: dict[str, dict[str, float]], limit: float) -> str:
    """The ages in Markdown."""
    lines = ["| way | age, median | age, worst | frames/s | within the bound |", "|---|---|---|---|---|"]
    for way, found in results.items():
        kept = "yes" if found["age_worst_s"] <= limit else "no"
        lines.append(
            f"| {way} | {found['age_p50_s']:.2f} s | {found['age_worst_s']:.2f} s | {found['fps']:.1f} | {kept} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Measure what the command line asks for; the exit status says whether supplierd kept to the bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=25_000, help="of a frame, bytes (default 25000)")
    parser.add_argument("--fps", type=float, default=10.0, help="of the camera (default 10)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run; half are measured (default 10)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    reason = hosts.why_not()
    if reason:
        parser.error(reason)
    hosts.go_apart(sys.argv)
    with hosts.Cable() as cable:
        results: dict[str, Any] = {
            way: measure(way, cable, options.size, options.fps, options.seconds) for way in options.ways
        }
    limit = bound(options.size, options.fps)
    text = json.dumps({"bytes": options.size, "fps": options.fps, "bound_s": limit, "ways": results}, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text)
    print(f"\n{options.size:,} bytes, {options.fps:g} fps, {RATE_KBIT / 1e3:g} Mbit/s: bound {limit:.2f} s\n")
    print(table(results, limit))
    return 0 if results.get("supplierd", {}).get("age_worst_s", 0.0) <= limit else 1


if __name__ == "__main__" and not play((publish, work, send, receive)):
    sys.exit(main())

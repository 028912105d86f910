"""`supplierd top` as its users run it: a real process on a pseudo-terminal, before real daemons and false ones."""

import os
import re
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq
from supplierd_client import Publisher, Worker

from supplierd.core.snapshot import Snapshot
from supplierd.wire import control
from tests.support.daemon import Daemon, command_line, environment
from tests.support.waiting import wait_for
from tests.top.pictures import mailbox, snapshot, stream, worker
from tests.top.typist import Typist

Start = Callable[..., Typist]


class FalseDaemon:
    """A control channel that answers each question with what `answer` is, and counts the questions."""

    def __init__(self, endpoint: str, answer: Snapshot) -> None:
        self.answer = answer
        self.asked: list[float] = []
        self._endpoint = endpoint
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._ending.set()
        self._thread.join()

    def _serve(self) -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
            router.linger = 0
            router.bind(self._endpoint)
            while not self._ending.is_set():
                if router.poll(10):
                    peer, question = router.recv_multipart()
                    assert isinstance(control.decode_from_client(question), control.Stats)
                    self.asked.append(time.monotonic())
                    router.send_multipart([peer, control.encode(control.Snapshot(self.answer.to_wire()))])


@pytest.fixture
def endpoint(home: Path) -> str:
    return f"ipc://{home}/false.sock"


@pytest.fixture
def false_daemon(endpoint: str) -> Iterator[Callable[[Snapshot], FalseDaemon]]:
    """Starts a false daemon on `endpoint`."""
    started: list[FalseDaemon] = []

    def start(answer: Snapshot) -> FalseDaemon:
        started.append(FalseDaemon(endpoint, answer))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture
def quiet(endpoint: str, false_daemon: Callable[[Snapshot], FalseDaemon]) -> str:
    """The endpoint of a false daemon where every promise is kept."""
    false_daemon(snapshot(worker("w", mailbox())))
    return endpoint


def test_it_shows_real_streams_and_workers_and_leaves_the_terminal_as_it_was(typist: Start, daemon: Daemon) -> None:
    with (
        Publisher("cam-1", daemon.inbox, shared_memory="off") as publisher,
        Worker("eye", ["cam-1"], daemon.control) as eye,
    ):
        wait_for(lambda: publisher.publish(b"x" * 100) and eye.read(0.05), "a frame")
        top = typist("--runtime-dir", daemon.runtime_dir)
        assert top.wait_for("eye  ").split()[:3] == [">", "eye", "norm"]
        assert top.wait_for("cam-1 ").split()[1] == "live"
        top.type("\r")
        top.wait_for("offered = ")
        top.wait_for("it adds up")
        top.type("q")
        assert top.end() == 0
    wait_for(lambda: top.written.endswith("\x1b[?25h\x1b[?1049l"), "the terminal to be given back")
    assert top.modes & termios.ECHO
    assert top.modes & termios.ICANON


def test_a_daemon_that_goes_is_told_and_taken_up_again_when_it_is_back(typist: Start, daemon: Daemon) -> None:
    top = typist("--runtime-dir", daemon.runtime_dir)
    top.wait_for("every promise kept")
    daemon.kill()
    top.wait_for("NO ANSWER")
    top.wait_for("no daemon answered on ")
    daemon.start()
    top.wait_for("NO ANSWER", gone=True)
    top.wait_for("every promise kept")


def test_it_waits_for_a_daemon_that_is_not_there_yet(typist: Start, daemons: Callable[..., Daemon]) -> None:
    late = daemons()
    top = typist("--runtime-dir", late.runtime_dir)
    top.wait_for("waiting for the daemon")
    late.start()
    top.wait_for("every promise kept")


def test_q_ends_it_at_once_even_while_the_daemon_does_not_answer(typist: Start, daemon: Daemon) -> None:
    top = typist("--runtime-dir", daemon.runtime_dir)
    top.wait_for("every promise kept")
    daemon.freeze()
    top.wait_for("NO ANSWER")
    began = time.monotonic()
    top.type("q")
    assert top.end() == 0
    assert time.monotonic() - began < 1.5  # s; an answer is waited for 2
    daemon.thaw()


def test_however_many_keys_are_pressed_the_daemon_is_asked_once_a_second(
    typist: Start, endpoint: str, false_daemon: Callable[[Snapshot], FalseDaemon]
) -> None:
    asked = false_daemon(snapshot(worker("w", mailbox()))).asked
    top = typist("--control", endpoint)
    top.wait_for(" w ")

    def typed_on() -> bool:
        top.type("jks?x")
        top.resize(80 + len(asked), 24)
        return len(asked) >= 4

    wait_for(typed_on, "four questions")
    # Each may arrive late, the first one, too, so that those after it seem early.
    assert all(at - asked[0] >= number - 0.5 for number, at in enumerate(asked))


def test_64_workers_on_two_streams_each_follow_the_keys(
    typist: Start, endpoint: str, false_daemon: Callable[[Snapshot], FalseDaemon]
) -> None:
    mailboxes = tuple(mailbox(f"cam-{i}", 100, 50) for i in (1, 2))
    workers = [worker(f"worker-{i:02}", *mailboxes) for i in range(64)]
    false_daemon(snapshot(*workers, streams=(stream("cam-1"), stream("cam-2"))))
    top = typist("--control", endpoint)
    top.wait_for("of 128")
    began = time.monotonic()
    top.type("j" * 100)
    top.wait_for("> worker-50")
    assert time.monotonic() - began < 1.0  # s
    top.type("/63\r")
    top.wait_for("> worker-63")


def test_hostile_text_does_not_reach_the_terminal(
    typist: Start, endpoint: str, false_daemon: Callable[[Snapshot], FalseDaemon]
) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e[bold]\r\n"
    box = mailbox(evil, 5)._replace(discarded={evil: 3})
    bad = worker(evil, box, inline_reason=evil, client=evil, service_class=evil, state=evil, leases=2)
    camera = stream(evil)._replace(inline={evil: 1}, dropped={evil: 1})
    false_daemon(snapshot(bad, streams=(camera,), rejected={evil: 1}))
    top = typist("--control", endpoint)
    top.wait_for("?]0;owned??[2J?31m?[bold]")
    top.type("\r")
    top.wait_for("offered")
    top.type("q")
    assert top.end() == 0
    assert not {"\x07", "\x9b", "\u202e", "\r", "\n"} & set(top.written)
    assert "\x1b]" not in top.written
    assert top.written.count("\x1b[2J") == 1  # its own, at the start


def test_without_colours_where_no_color_is_set(typist: Start, quiet: str) -> None:
    coloured = typist("--control", quiet)
    plain = typist("--control", quiet, environ={"NO_COLOR": "1"})
    coloured.wait_for("every promise kept")
    plain.wait_for("every promise kept")
    colour = re.compile(r"\x1b\[(?:\d+;)*[349]\d(?:;\d+)*m")
    assert colour.search(coloured.written)
    assert "\x1b[1m" in plain.written
    assert not colour.search(plain.written)


def test_a_terminal_without_blocks_and_another_encoding(
    typist: Start, endpoint: str, false_daemon: Callable[[Snapshot], FalseDaemon]
) -> None:
    false_daemon(snapshot(worker("a" * 64, mailbox("c" * 64)), streams=(stream("c" * 64),)))
    top = typist("--control", endpoint, environ={"TERM": "linux", "PYTHONIOENCODING": "latin-1"})
    top.wait_for("?aaa")
    top.type("?q")


def test_it_follows_the_terminals_size(typist: Start, quiet: str) -> None:
    top = typist("--control", quiet)
    top.wait_for("CLS")
    top.resize(140, 40)
    top.wait_for("CLASS")
    wait_for(lambda: top.lines[39].startswith("q quit"), "the foot at the bottom")
    top.resize(30, 8)
    wait_for(lambda: top.lines[7].startswith("q quit"), "the foot at the bottom")


def test_suspended_it_gives_the_terminal_back_and_takes_it_again(typist: Start, quiet: str) -> None:
    top = typist("--control", quiet)
    top.wait_for("every promise kept")
    top.suspend()
    assert top.modes & termios.ICANON
    wait_for(lambda: top.written.endswith("\x1b[?1049l"), "the terminal to be given back")
    top.resume()
    wait_for(lambda: not top.modes & termios.ICANON, "the terminal to be taken")
    top.type("?")
    top.wait_for("its terms, process and ledger")


@pytest.mark.parametrize("key", ["\x03", "q"])
def test_it_can_be_ended(typist: Start, quiet: str, key: str) -> None:
    top = typist("--control", quiet)
    top.wait_for("every promise kept")
    top.type(key)
    assert top.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_order(typist: Start, quiet: str, number: signal.Signals) -> None:
    top = typist("--control", quiet)
    top.wait_for("every promise kept")
    os.kill(top.pid, number)
    assert top.end() == 0
    wait_for(lambda: top.written.endswith("\x1b[?25h\x1b[?1049l"), "the terminal to be given back")


def test_it_ends_with_its_terminal(typist: Start, quiet: str) -> None:
    top = typist("--control", quiet)
    top.wait_for("every promise kept")
    top.type("/")
    top.wait_for("Enter keeps it")
    top.hang_up()
    assert top.end() == 0


FAULT = """
from supplierd.top.screen import Screen

def answer(*_):
    raise ZeroDivisionError("a defect")

Screen.answer = answer
"""


def test_a_fault_of_its_own_leaves_the_terminal_as_it_was_too(typist: Start, quiet: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(FAULT)
    search = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    top = typist("--control", quiet, environ={"PYTHONPATH": search})
    assert top.end() == 1
    wait_for(lambda: "Error" in top.written, "the traceback")
    assert "Traceback" in top.written.split("\x1b[?25h\x1b[?1049l")[1]
    assert top.modes & termios.ICANON


# --- where it cannot run ----------------------------------------------------------------------------------------------


def test_without_a_terminal_it_says_what_to_use() -> None:
    done = subprocess.run(
        command_line("top"), stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 1
    assert "supplierd stats --watch" in done.stderr


def test_without_rich_it_says_what_to_install() -> None:
    program = "import sys; sys.modules['rich'] = None; from supplierd.cli import main; main(['top'])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 1
    assert done.stderr == 'Error: top needs Rich: pip install "supplierd[top]"\n'


def test_a_control_endpoint_that_is_none_is_refused(typist: Start) -> None:
    top = typist("--control", "nonsense")
    assert top.end() == 2
    wait_for(lambda: "endpoint 'nonsense' cannot be used: give one like ipc://" in top.written, "the error")

"""What is refused: each rule with a document, the key that the error names, and what its text says."""

import re
from pathlib import Path

import pytest

from supplierd.config import Config, ConfigError, load, resolve


def refused(tmp_path: Path, document: str | bytes, **overrides: object) -> dict[str, str]:
    """The problems of `document`, text by key."""
    path = tmp_path / "supplierd.toml"
    path.write_bytes(document if isinstance(document, bytes) else document.encode())
    with pytest.raises(ConfigError) as caught:
        load(path, overrides)
    assert str(caught.value).startswith(f"{path}: ")
    assert all(str(problem) in str(caught.value) for problem in caught.value.problems)
    return dict(caught.value.problems)


LONG = "ipc:///" + "a" * 107
REFUSALS = [
    # wrong types
    ("daemon = 3", "daemon", "found 3 (integer), allowed: a table"),
    ("workers = [1]", "workers", "found [1] (array), allowed: a table"),
    ("[workers]\nw = 1", "workers.w", "found 1 (integer), allowed: a table"),
    ("[streams]\ns = true", "streams.s", "found true (boolean), allowed: a table"),
    ("[classes]\nhigh = 0.1", "classes.high", "found 0.1 (float), allowed: a table"),
    ("[daemon]\nmax_workers = true", "daemon.max_workers", "found true (boolean), allowed: an integer from 1 to 1024"),
    ("[daemon]\nmax_workers = 8.0", "daemon.max_workers", "found 8.0 (float), allowed: an integer"),
    ('[daemon]\nmax_workers = "8"', "daemon.max_workers", 'found "8" (string), allowed: an integer'),
    ("[daemon]\ninsecure = 1", "daemon.insecure", "found 1 (integer), allowed: true or false"),
    ("[daemon]\ndrop_window = false", "daemon.drop_window", "found false (boolean), allowed: a number from 1 to 3600"),
    ("[log]\nlevel = 1979-05-27T07:32:00Z", "log.level", "(date-time), allowed: "),
    ("[inbox]\nendpoints = 'ipc'", "inbox.endpoints", 'found "ipc" (string), allowed: an array'),
    ("[inbox]\nendpoints = [7]", "inbox.endpoints[0]", "found 7 (integer), allowed: "),
    ("[workers.w]\nstreams = 'cam-1'", "workers.w.streams", 'found "cam-1" (string), allowed: ["*"]'),
    # out of range
    ("[daemon]\nmax_workers = 0", "daemon.max_workers", "found 0 (integer), allowed: an integer from 1 to 1024 (w"),
    ("[daemon]\nmax_streams = 257", "daemon.max_streams", "found 257 (integer), allowed: an integer from 1 to 256"),
    ("[daemon]\nstream_timeout = 0", "daemon.stream_timeout", "a number from 0.1 to 3600 (seconds)"),
    ("[inbox]\nmax_message_bytes = 1023", "inbox.max_message_bytes", "from 1024 to 1073741824 (bytes)"),
    ("[classes.high]\ndrop_budget = 1.01", "classes.high.drop_budget", "found 1.01 (float), allowed: a number from 0"),
    ("[workers.w]\ntarget_fps = 0", "workers.w.target_fps", "found 0 (integer), allowed: a number above 0, at most 10"),
    ("[workers.w]\ntarget_fps = nan", "workers.w.target_fps", "found nan (float), allowed: a number above 0"),
    ("[workers.w]\ntarget_fps = inf", "workers.w.target_fps", "found inf (float)"),
    ("[workers.w]\nidle_after = -inf", "workers.w.idle_after", "found -inf (float)"),
    (f"[workers.w]\nidle_after = 0x{'f' * 5000}", "workers.w.idle_after", "found 0xfff"),
    # unknown keys
    ("[metrics]\nadress = 1", "metrics.adress", "unknown key, found 1 (integer); did you mean metrics.address?"),
    ("[metric]", "metric", "unknown key, found {} (table); did you mean metrics?"),
    ("max_workers = 3", "max_workers", "did you mean daemon.max_workers?"),
    ("[log]\nzzz = 1", "log.zzz", "known here: level, format"),
    ("[streams.s]\nfps = 1", "streams.s.fps", "known here: none"),
    ("[workers.w]\ntarget_fsp = 1", "workers.w.target_fsp", "did you mean workers.w.target_fps?"),
    ("[inbox]\nendpoints = [{endpoint='ipc', conflat=true}]", "inbox.endpoints[0].conflat", "did you mean conflate?"),
    ('[log]\n"a b\\n" = 1', 'log."a b\\n"', "unknown key"),
    # classes
    ("[classes.hihg]", "classes.hihg", "did you mean classes.high?"),
    ("[daemon]\ndefault_class = 'urgent'", "daemon.default_class", '"critical", "high", "normal" or "best_effort"'),
    ("[workers.w]\nclass = 'Critical'", "workers.w.class", 'found "Critical" (string), allowed: "critical", "high"'),
    # names
    ("[workers.'a b']", 'workers."a b"', "worker name 'a b' is not allowed: use 1 to 64 of"),
    (f"[streams.{'s' * 65}]", f"streams.{'s' * 59}…", "stream name 'sss"),
    ("[workers.w]\nstreams = ['-cam']", "workers.w.streams[0]", "stream name '-cam' is not allowed"),
    ("[workers.w]\nstreams = []", "workers.w.streams", "found [] (array), allowed: "),
    ("[workers.w]\nstreams = ['*', 'a']", "workers.w.streams", '"*" stands alone'),
    ("[workers.w]\nstreams = ['a', 'a']", "workers.w.streams", "one is named twice"),
    (
        "[daemon]\naccept_unknown_streams = false\n[streams.a]\n[workers.w]\nstreams = ['a', 'b']",
        "workers.w.streams[1]",
        'found "b" (string), allowed: a stream with a [streams.b], because daemon.accept_unknown_streams = false',
    ),
    (
        "[daemon]\nmax_streams = 1\n[streams]\na = {}\nb = {}",
        "streams",
        "found 2 streams, allowed: at most daemon.max_",
    ),
    (
        "[daemon]\nmax_workers = 1\n[workers]\na = {}\nb = {}",
        "workers",
        "found 2 workers, allowed: at most daemon.max_",
    ),
    # endpoints
    ("[inbox]\nendpoints = []", "inbox.endpoints", "found [] (array), allowed: an array of one or more"),
    ("[inbox]\nendpoints = ['udp://1.2.3.4:5']", "inbox.endpoints[0]", 'allowed: "ipc" (in the runtime directory), "i'),
    ("[inbox]\nendpoints = ['ipc://relative']", "inbox.endpoints[0]", '"ipc:///PATH"'),
    ("[inbox]\nendpoints = ['ipc://@abstract']", "inbox.endpoints[0]", "an abstract socket has no file permissions"),
    ("[inbox]\nendpoints = ['tcp://127.0.0.1:65536']", "inbox.endpoints[0]", "ports end at 65535"),
    ("[inbox]\nendpoints = ['tcp://127.0.0.1:0']", "inbox.endpoints[0]", '"tcp://ADDRESS:PORT"'),
    ("[inbox]\nendpoints = ['tcp://127.0.0.1']", "inbox.endpoints[0]", '"tcp://ADDRESS:PORT"'),
    ("[inbox]\nendpoints = ['tcp://127.1:5601']", "inbox.endpoints[0]", "Expected 4 octets"),
    ("[inbox]\nendpoints = ['tcp://[::1]:5601']", "inbox.endpoints[0]", "speak IPv4 only"),
    ("[inbox]\nendpoints = [{endpoint = 'x'}]", "inbox.endpoints[0].endpoint", 'found "x" (string), allowed: "ipc"'),
    ("[inbox]\nendpoints = [{conflate = 1}]", "inbox.endpoints[0].conflate", 'allowed: "auto", true or false'),
    (
        f"[inbox]\nendpoints = ['{LONG}']",
        "inbox.endpoints[0]",
        "with a path of 108 bytes, allowed: a path of at most 107",
    ),
    (f"[daemon]\nruntime_dir = '/{'a' * 94}'", "control.endpoints[0]", "with a path of 108 bytes"),
    ("[control]\nendpoints = ['ipc', 'ipc']", "control.endpoints[1]", "which control.endpoints[0] has already"),
    (
        "[inbox]\nendpoints = ['tcp://127.0.0.1:5601']\n[control]\nendpoints = ['ipc', 'tcp://localhost:5601']",
        "control.endpoints[1]",
        'found "tcp://localhost:5601" (string), which inbox.endpoints[0] has already',
    ),
    ("[inbox]\nendpoints = ['tcp://127.0.0.1:9108']", "inbox.endpoints[0]", "which metrics.address has already"),
    (
        "[daemon]\nruntime_dir = '/r'\n[workers.w]\ndelivery = 'push'\nendpoint = 'ipc:///r//control.sock'",
        "workers.w.endpoint",
        "which control.endpoints[0] has already",
    ),
    *(
        (f"[control]\nendpoints = ['tcp://{host}:5602']", "control.endpoints[0]", "nothing listens to strangers")
        for host in ("*", "0.0.0.0", "192.168.1.5", "eth0")
    ),
    ("[inbox]\nendpoints = ['tcp://*:5602']", "inbox.endpoints[0]", "tcp needs CURVE or daemon.insecure = true"),
    (
        "[workers.w]\ndelivery = 'push'\nendpoint = 'tcp://*:5700'",
        "workers.w.endpoint",
        "allowed: loopback, because nothing listens to strangers",
    ),
    # delivery
    ("[workers.w]\ndelivery = 'push'", "workers.w.endpoint", 'missing; delivery = "push" needs the endpoint'),
    ("[workers.w]\nendpoint = 'tcp://127.0.0.1:5700'", "workers.w.endpoint", 'only with delivery = "push"'),
    ("[workers.w]\ndelivery = 'push'\nendpoint = 'ipc'", "workers.w.endpoint", 'allowed: "ipc:///PATH" or "tcp://ADD'),
    ("[workers.w]\ndelivery = 'pull'\nendpoint = 'tcp://127.0.0.1:1'", "workers.w.delivery", '"on_demand" or "push"'),
    # addresses, ports, paths
    ("[metrics]\naddress = '127.0.0.1'", "metrics.address", 'found "127.0.0.1" (string), allowed: "HOST:PORT"'),
    ("[metrics]\naddress = ':9108'", "metrics.address", 'allowed: "HOST:PORT"'),
    ("[metrics]\naddress = '*:9108'", "metrics.address", "all IPv4 interfaces are 0.0.0.0"),
    ("[metrics]\naddress = '::1:9108'", "metrics.address", "Expected 4 octets"),
    ("[metrics]\naddress = '[::g]:9108'", "metrics.address", 'allowed: "HOST:PORT"'),
    ("[metrics]\naddress = 'localhost:70000'", "metrics.address", "ports end at 65535"),
    ("[metrics]\naddress = 'localhost:٣'", "metrics.address", 'allowed: "HOST:PORT"'),
    ("[control]\nworker_ports = '60000-50000'", "control.worker_ports", '"FIRST-LAST" within 1 to 65535'),
    ("[control]\nworker_ports = 50000", "control.worker_ports", 'found 50000 (integer), allowed: "FIRST-LAST"'),
    ("[daemon]\nruntime_dir = 'run'", "daemon.runtime_dir", 'found "run" (string), allowed: an absolute path'),
    ("[daemon]\nruntime_dir = '/a\tb'", "daemon.runtime_dir", 'found "/a\\tb" (string), allowed: an absolute path'),
    ("[log]\nformat = 'xml'", "log.format", 'found "xml" (string), allowed: "auto", "text", "journal" or "json"'),
    # TOML itself
    ("[daemon]\nmax_workers 3", "TOML", "line 2, column 13"),
    ("[daemon]\nmax_workers = [1,", "TOML", "at line 2, column 18: the end of the file"),
    ("[daemon]\n[daemon]", "TOML", "line 2, column 8"),
    (f"a = {'9' * 5000}", "TOML", "Exceeds the limit"),
    (f"a = {'[' * 100_000}", "TOML", "nested too deeply"),
    (b"# \xc3\xa4\na = '\xff'", "TOML", "not UTF-8 (at line 2, column 6)"),
    (b"\xef\xbb\xbf[daemon]\n\xff", "TOML", "not UTF-8 (at line 2, column 1)"),
]


@pytest.mark.parametrize(
    ("document", "key", "text"), REFUSALS, ids=[f"{number}-{key}" for number, (_, key, _) in enumerate(REFUSALS)]
)
def test_a_mistake_is_one_problem_that_names_the_key_and_what_is_allowed(
    tmp_path: Path, document: str | bytes, key: str, text: str
) -> None:
    problems = refused(tmp_path, document)
    assert list(problems) == [key]
    assert text in problems[key]


def test_all_problems_are_listed_in_one_text(tmp_path: Path) -> None:
    document = """
        [daemon]
        max_wrokers = 3
        drop_window = "long"
        [workers.person-detector]
        target_fps = "10"
        class = "vital"
        delivery = "push"
        [inbox]
        endpoints = ["nonsense", "ipc", {endpoint = "tcp://*:1", conflate = "no", x = 1}]
    """
    path = tmp_path / "broken.toml"
    path.write_text(document)
    with pytest.raises(ConfigError) as caught:
        load(path)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{path}: 8 problems"
    assert sorted(line.strip().partition(": ")[0] for line in lines[1:]) == [
        "daemon.drop_window",
        "daemon.max_wrokers",
        "inbox.endpoints[0]",
        "inbox.endpoints[2].conflate",
        "inbox.endpoints[2].x",
        "workers.person-detector.class",
        "workers.person-detector.endpoint",
        "workers.person-detector.target_fps",
    ]
    assert (
        '  workers.person-detector.target_fps: found "10" (string), '
        "allowed: a number above 0, at most 1000 (frames per second of each stream)"
    ) in lines


def test_a_value_is_shown_on_one_line_of_readable_length(tmp_path: Path) -> None:
    document = f"[log]\nlevel = '{'x' * 1000}'\nformat = '''a\n\x1b[2J'''".replace("\x1b", "\\u001b").replace(
        "'''", '"""'
    )
    problems = refused(tmp_path, document)
    assert all(len(text) < 200 and "\n" not in text and "\x1b" not in text for text in problems.values())
    assert 'found "a\\n\\u001b[2J" (string)' in problems["log.format"]


def test_unreadable_files_say_why(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.toml", "No such file"), (tmp_path, "Is a directory"), (Path("\0"), "null")):
        with pytest.raises(ConfigError, match=rf"1 problem\n  file: cannot be read \(.*{reason}.*\); name a TOML file"):
            load(path)


def test_a_file_without_end_is_not_read() -> None:
    with pytest.raises(ConfigError, match="1 problem\n  file: longer than 1048576 bytes"):
        load(Path("/dev/zero"))


@pytest.mark.parametrize("document", ["a{}=1", "[a{}]", "a={{b{}=1}}"])
def test_a_dotted_key_whose_parsing_would_take_hours_is_refused(tmp_path: Path, document: str) -> None:
    problems = refused(tmp_path, "[log]\n" + document.format(".x" * 500_000))
    assert problems == {"TOML": "line 2 has 500000 dots, allowed: at most 256 in a line; spread it over several"}


def test_the_longest_line_that_is_wanted_is_read(tmp_path: Path) -> None:
    streams = ", ".join(f'"cam.{number}"' for number in range(256))
    path = tmp_path / "supplierd.toml"
    path.write_text(f"[workers.w]\nstreams = [{streams}]")
    assert len(load(path).workers["w"].streams) == 256


@pytest.mark.parametrize(
    ("key", "value", "start"),
    [
        ("metrics.address", "here", "--metrics-address or SUPPLIERD_METRICS_ADDRESS (metrics.address): found"),
        ("daemon.runtime_dir", "run", "--runtime-dir or SUPPLIERD_RUNTIME_DIR (daemon.runtime_dir): found"),
        ("log.level", "loud", "--log-level or SUPPLIERD_LOG_LEVEL (log.level): found"),
        ("log.format", 3, "--log-format or SUPPLIERD_LOG_FORMAT (log.format): found 3 (integer), allowed"),
        ("inbox.endpoints", ["x"], "--inbox-endpoints or SUPPLIERD_INBOX_ENDPOINTS (inbox.endpoints[0]): found"),
        ("log.lvel", "info", "--log-lvel or SUPPLIERD_LOG_LVEL (log.lvel): unknown key"),
    ],
)
def test_an_overrides_error_names_the_option(key: str, value: object, start: str) -> None:
    with pytest.raises(ConfigError, match=f"^configuration: 1 problem\n  {re.escape(start)}"):
        load(None, {key: value})


def test_a_runtime_directory_too_long_for_a_socket_is_refused() -> None:
    resolve(Config(), Path("/" + "a" * 93))
    with pytest.raises(ConfigError, match=r"control\.endpoints\[0\]: found ipc:///a+… with a path of 108 bytes"):
        resolve(Config(), Path("/" + "a" * 94))

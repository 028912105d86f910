"""The commands that need no daemon: configuration, overrides, versions, completion; and what a wrong word leads to."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import supplierd
from supplierd.cli import main
from tests.support.daemon import environment
from tests.support.processes import Outcome

ROOT = Path(__file__).parents[2]


def run(*arguments: object, **environ: str) -> Result:
    """The command, in this process, with no setting of supplierd's in the environment but the ones given."""
    cleared = {name: None for name in os.environ if name.startswith("SUPPLIERD_")}
    return CliRunner().invoke(main, [str(argument) for argument in arguments], env={**cleared, **environ})


def written(tmp_path: Path, document: str) -> Path:
    path = tmp_path / "supplierd.toml"
    path.write_text(document)
    return path


def test_version() -> None:
    done = run("version")
    assert done.exit_code == 0
    said = rf"supplierd {re.escape(supplierd.__version__)}, wire 1, libzmq 4\.\d+\.\d+, (compiled|pure Python)\n"
    assert re.fullmatch(said, done.output)


def test_as_a_program_and_as_a_module() -> None:
    said = Outcome("version").out
    program = shutil.which("supplierd", path=str(Path(sys.executable).parent))
    assert program is not None
    assert subprocess.run([program, "version"], check=True, capture_output=True, text=True).stdout == said


def test_every_command_explains_itself() -> None:
    overview = run("--help")
    assert overview.exit_code == 0
    for command in ("run", "check-config", "stats", "demo", "version"):
        assert f"  {command} " in overview.output
        for flag in ("-h", "--help"):
            explained = run(command, flag)
            assert explained.exit_code == 0
            assert explained.output.startswith("Usage: ")


@pytest.mark.parametrize("name", ["supplierd.toml", "minimal.toml"])
def test_the_shipped_configurations_are_fine(name: str) -> None:
    done = run("check-config", "--config", ROOT / "config" / name)
    assert done.exit_code == 0, done.output
    assert "is fine" in done.output


def test_no_configuration_is_fine() -> None:
    assert run("check-config").output == "the default configuration is fine: 0 workers configured\n"


def test_a_configuration_is_refused_with_every_problem_and_its_place(tmp_path: Path) -> None:
    path = written(tmp_path, "[daemon]\nmax_worker = 3\n[workers.w]\ntarget_fps = -1\n")
    for command in ("check-config", "run"):
        done = run(command, "--config", path)
        assert done.exit_code == 1
        assert f"{path}: 2 problems" in done.output
        assert "daemon.max_worker" in done.output
        assert "workers.w.target_fps" in done.output


def test_a_file_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    done = run("check-config", "--config", tmp_path / "nothing.toml")
    assert done.exit_code == 1
    assert "nothing.toml" in done.output
    assert "Traceback" not in done.output


def test_explain_lists_every_key() -> None:
    done = run("check-config", "--explain")
    assert done.exit_code == 0
    for key in ("daemon.max_workers", "inbox.max_message_bytes", "workers.NAME.target_fps"):
        assert key in done.output


def test_schema_is_json_schema() -> None:
    schema = json.loads(run("check-config", "--schema").output)
    assert schema["$schema"].startswith("https://json-schema.org/")
    sections = {"daemon", "inbox", "control", "metrics", "log", "classes", "streams", "workers"}
    assert sections <= schema["properties"].keys()


OVERRIDES = {
    "--runtime-dir": ("SUPPLIERD_RUNTIME_DIR", "relative/path"),
    "--metrics-address": ("SUPPLIERD_METRICS_ADDRESS", "nonsense"),
    "--log-level": ("SUPPLIERD_LOG_LEVEL", "loud"),
    "--log-format": ("SUPPLIERD_LOG_FORMAT", "yaml"),
}


@pytest.mark.parametrize("option", OVERRIDES)
def test_a_bad_override_is_named_whether_option_or_variable(option: str) -> None:
    variable, value = OVERRIDES[option]
    for done in (run("check-config", option, value), run("check-config", **{variable: value})):
        assert done.exit_code == 1
        assert f"{option} or {variable}" in done.output
        assert value in done.output


def test_options_go_before_variables_and_both_before_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, '[log]\nlevel = "loud"')
    assert run("check-config", "--config", path).exit_code == 1
    assert run("check-config", SUPPLIERD_CONFIG=str(path)).exit_code == 1
    assert run("check-config", "--config", path, SUPPLIERD_LOG_LEVEL="debug").exit_code == 0
    assert run("check-config", "--log-level", "debug", SUPPLIERD_LOG_LEVEL="loud").exit_code == 0
    assert run("check-config", SUPPLIERD_LOG_LEVEL="").exit_code == 0  # empty is as good as not set


@pytest.mark.parametrize(
    "arguments",
    [
        ["stats", "--control", "nonsense"],
        ["stats", "--control", "tcp://nowhere"],
        ["stats", "--control", "tcp://nowhere:65536"],
        ["stats", "--timeout", "nan"],
        ["stats", "--runtime-dir", "relative"],
        ["stats", "--runtime-dir", "/" + "long/" * 40],
        ["stats", "--timeout", "-1"],
        ["stats", "--timeout", "soon"],
        ["run", "--loud"],
        ["fly"],
        ["demo", "--seconds", "-1"],
        ["demo", "--seconds", "nan"],
        ["demo", "--source", "/nowhere.mp4"],
    ],
    ids=" ".join,
)
def test_a_wrong_word_is_a_message_and_status_2(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    assert isinstance(done.exception, SystemExit)
    assert "Error: " in done.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(shell: str) -> None:
    program = shutil.which("supplierd", path=str(Path(sys.executable).parent))
    assert program is not None

    def said(**variables: str) -> str:
        return subprocess.run([program], check=True, capture_output=True, text=True, env=environment(variables)).stdout

    assert "_SUPPLIERD_COMPLETE" in said(_SUPPLIERD_COMPLETE=f"{shell}_source")
    word = "st" if shell == "fish" else "1"  # fish tells the word itself, others its number
    assert "stats" in said(_SUPPLIERD_COMPLETE=f"{shell}_complete", COMP_WORDS="supplierd st", COMP_CWORD=word)

"""The compiled modules: in the wheel and beside the sources where there is a compiler, nowhere where there is none, and
never older than their sources.

The other tests run what is installed: the compiled modules, where the machine has a compiler. So those of the modules
that have a compiled twin are run once more here, in a copy of the tree without extensions.
"""

import os
import shutil
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

import hatch_build
from tests.package.building import BUILD, ROOT, attempt, build_wheel, run
from tests.support.daemon import environment

PURE: Final = "-py3-none-any.whl"
NO_COMPILER: Final = {"CC": "/nonexistent/cc"}
PURE_TESTS: Final = (
    ("client/test_session_*.py", "client/test_worker.py", "client/test_payloads.py", "arena", "core"),
    ("client/test_doorbell.py", "daemon/test_bells.py", "daemon/test_express.py", "daemon/test_express_waits.py"),
    ("e2e/test_bells.py",),
)
"""Each group in a run of its own, all at once: most of the time they wait for something."""
ONLY_IN_C: Final = {"supplierd/daemon/known"}
"""Imported by compiled modules only, whose twins do without."""
WHERE: Final = "import supplierd_client.express as e, supplierd.arena.holding as h; print(e.__file__, h.__file__)"
SMALL: Final = {
    "supplierd/__init__.py": '__version__ = "1.0"\n',
    "supplierd/small.py": "def twice(value):\n    return 2 * value\n",
    "supplierd/small.pxd": "cpdef long long twice(long long value)\n",
}

pytestmark = [pytest.mark.package, pytest.mark.timeout(120)]


def compiler_is_missing() -> str:
    """What this machine has not that it would take to compile, if anything."""
    try:
        hatch_build.find_compiler()
    except hatch_build.CannotCompileError as error:
        return str(error)
    return ""


needs_a_compiler = pytest.mark.skipif(bool(compiler_is_missing()), reason=compiler_is_missing())


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A tree that is built like this one, with one module to compile."""
    tree = tmp_path / "small"
    (tree / "clients" / "python" / "examples").mkdir(parents=True)
    for name, text in SMALL.items():
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text(text)
    for name in ("pyproject.toml", "hatch_build.py", "README.md"):
        shutil.copy(ROOT / name, tree)
    return tree


def build_in_place(tree: Path, **environ: str) -> tuple[int, str]:
    return attempt(sys.executable, "hatch_build.py", cwd=tree, env=environment(environ))


def extension(tree: Path, suffix: str = hatch_build.SUFFIX) -> Path:
    return tree / "supplierd" / f"small{suffix}"


def test_the_extensions_of_this_tree_are_those_of_its_sources() -> None:
    found = hatch_build.extensions_in_place()
    stale = [str(path) for path in found if hatch_build.is_stale(path)]
    assert not stale, f"older than their sources, which they hide: {', '.join(stale)}. Run: make venv"
    ours = {path.name.partition(".")[0] for path in found if path.name.endswith(hatch_build.SUFFIX)}
    assert ours in (set(), {path.stem for path in hatch_build.modules()}), (
        "some are missing. Run: python hatch_build.py"
    )


def test_what_is_compiled() -> None:
    found = {path.as_posix() for path in hatch_build.modules()}
    assert {"supplierd/arena/holding.pyx", "clients/python/supplierd_client/turn.py"} <= found
    without = {path.removesuffix(".pyx") for path in found if not (ROOT / path).with_suffix(".py").exists()}
    assert without == ONLY_IN_C, "each must work in pure Python, too"


@needs_a_compiler
def test_the_wheel_has_the_extensions_and_a_platform(wheel: Path) -> None:
    modules = [path.with_suffix("").as_posix().removeprefix(hatch_build.CLIENT) for path in hatch_build.modules()]
    found = contents(wheel)
    assert {name for name in found if name.endswith(".so")} == {module + hatch_build.SUFFIX for module in modules}
    assert {f"{module}.py" for module in modules if module not in ONLY_IN_C} <= found
    assert not [name for name in found if name.endswith((".c", ".pyx", ".pxd"))]
    version = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert wheel.name.partition("-")[2].split("-")[1] == version
    assert not wheel.name.endswith("-any.whl")


def test_a_pure_wheel_works(tmp_path: Path) -> None:
    wheel, said = build_wheel(tmp_path, SUPPLIERD_COMPILE="0")
    assert wheel.name.endswith(PURE)
    assert "pure Python, since SUPPLIERD_COMPILE is 0" in said
    assert not [name for name in contents(wheel) if name.endswith((".so", ".c", ".pyx", ".pxd"))]
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "there")
    environ = environment({"PYTHONPATH": str(tmp_path / "there")})
    assert run(sys.executable, "-m", "supplierd", "version", cwd=tmp_path, env=environ).endswith(", pure Python\n")
    express, holding = run(sys.executable, "-c", WHERE, cwd=tmp_path, env=environ).split()
    assert express == str(tmp_path / "there" / "supplierd_client" / "express.py")
    assert holding == str(tmp_path / "there" / "supplierd" / "arena" / "holding.py")


def test_without_a_compiler_the_wheel_is_pure_and_says_why(tmp_path: Path) -> None:
    wheel, said = build_wheel(tmp_path, **NO_COMPILER)
    assert wheel.name.endswith(PURE)
    (line,) = [line for line in said.splitlines() if line.startswith("supplierd:")]
    assert "all works, but takes more CPU" in line
    assert "no C compiler (/nonexistent/cc)" in line
    assert "apt-get install gcc python3-dev" in line


def test_where_it_must_be_compiled_the_build_fails_and_says_what_to_do(tmp_path: Path) -> None:
    environ = environment({**NO_COMPILER, "SUPPLIERD_COMPILE": "1"})
    status, said = attempt(*BUILD, "--outdir", tmp_path, ROOT, cwd=tmp_path, env=environ)
    assert status != 0
    assert "no C compiler (/nonexistent/cc); on Debian: apt-get install gcc python3-dev" in said
    assert "SUPPLIERD_COMPILE=1 asks for it" in said
    assert not list(tmp_path.glob("*.whl"))


def test_a_machine_without_compilers(small: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    status, said = build_in_place(small, PATH=str(tmp_path / "bin"), CC="")
    assert status == 0
    assert said.startswith("supplierd: pure Python: all works, but takes more CPU. Not compiled: no C compiler (")
    assert said.count("\n") == 1


def test_another_wish_is_refused(small: Path) -> None:
    status, said = build_in_place(small, SUPPLIERD_COMPILE="yes")
    assert (status, said) == (
        1,
        "error: SUPPLIERD_COMPILE is 'yes'; it can be 0 (never compile) or 1 (fail where that fails)\n",
    )


@needs_a_compiler
def test_an_editable_installation_compiles_beside_the_sources(small: Path) -> None:
    editable = "import hatchling.build; hatchling.build.build_editable('dist')"
    run(sys.executable, "-c", editable, cwd=small, env=environment({"SUPPLIERD_COMPILE": "1"}))
    code = "import supplierd.small as s; print(s.__file__, s.twice(21))"
    assert run(sys.executable, "-P", "-c", code, cwd=small, env=environment({"PYTHONPATH": str(small)})).split() == [
        str(extension(small)),
        "42",
    ]
    assert sorted(path.name for path in (small / "supplierd").iterdir() if path.name != "__pycache__") == sorted(
        [*(Path(name).name for name in SMALL), extension(small).name]
    )
    stale = "import hatch_build as h; print(*map(h.is_stale, h.extensions_in_place()))"
    assert run(sys.executable, "-c", stale, cwd=small).split() == ["False"]
    later = extension(small).stat().st_mtime + 1
    os.utime(small / "supplierd" / "small.pxd", (later, later))
    assert run(sys.executable, "-c", stale, cwd=small).split() == ["True"]


def test_what_cannot_be_compiled_any_more_leaves_no_old_extension(small: Path) -> None:
    extension(small).write_bytes(b"an older one")
    (small / "supplierd" / "small.pxd").write_text("this is no Cython\n")
    status, said = build_in_place(small)
    assert status == 0
    assert "Not compiled: " in said
    assert not extension(small).exists()


def test_what_old_extensions_are_removed(small: Path) -> None:
    fresh, old = extension(small, ".cpython-399-x.so"), extension(small, ".cpython-398-x.so")
    without_source = fresh.with_name("gone.cpython-399-x.so")
    for path in (extension(small), fresh, old, without_source):
        path.touch()
    os.utime(old, (1, 1))
    status, _ = build_in_place(small, SUPPLIERD_COMPILE="0")
    assert status == 0
    assert list(small.rglob("*.so")) == [fresh], "it belongs to another environment that shares the tree"


@needs_a_compiler
def test_the_tests_of_the_compiled_modules_pass_in_pure_python(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    left_out = shutil.ignore_patterns("*.so", "__pycache__", "node_modules")
    for name in ("supplierd", "clients/python", "tests", "config"):
        shutil.copytree(ROOT / name, tree / name, ignore=left_out)
    shutil.copy(ROOT / "pyproject.toml", tree)
    environ = environment({"PYTHONPATH": f"{tree}:{tree / 'clients' / 'python'}"})
    places = run(sys.executable, "-c", WHERE, cwd=tree, env=environ).split()
    assert all(place.startswith(str(tree)) and place.endswith(".py") for place in places), places

    def run_group(patterns: tuple[str, ...]) -> str:
        tests = [path for pattern in patterns for path in sorted((tree / "tests").glob(pattern))]
        assert len(tests) >= len(patterns)
        return run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, cwd=tree, env=environ)

    with ThreadPoolExecutor() as pool:
        assert all(" passed" in said for said in pool.map(run_group, PURE_TESTS))

"""Compiles the modules on a frame's way, where the machine can; hatchling runs it as a build hook.

A module is compiled where NAME.pyx (its twin in Cython) or NAME.pxd (C types for NAME.py itself) lies beside NAME.py:
adding that file is all. Its extension is imported in place of NAME.py. All of them are built in a scratch folder, then
go into the wheel, or beside their sources for an editable installation; or none does, and Python runs NAME.py.

SUPPLIERD_COMPILE says when: 0 never, 1 always (where it fails, so does the build), unset: where it works. pip keeps to
itself what a hook prints, so `python hatch_build.py` does what an editable installation does, and says what came of it.
"""

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT: Final = Path(__file__).resolve().parent
CLIENT: Final = "clients/python/"
"""The part of a path in the tree that is none in a wheel."""
PACKAGES: Final = ("supplierd", f"{CLIENT}supplierd_client")
VARIABLE: Final = "SUPPLIERD_COMPILE"
SUFFIX: Final = str(sysconfig.get_config_var("EXT_SUFFIX"))
CYTHON: Final = ("-3", "-X", "annotation_typing=False", "-I", ".", "-I", CLIENT)
FLAGS: Final = ("-O2", "-DNDEBUG", "-fwrapv", "-fPIC", "-shared", "-s")
LONGEST: Final = 300
"""Seconds for one step of one module; it takes less than 10."""
INSTALL: Final = "on Debian: apt-get install gcc python3-dev"


class CannotCompileError(Exception):
    """What is missing, or what a compiler said."""


class BuildHook(BuildHookInterface[Any]):
    """What hatchling calls before and after it makes a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; put the extensions beside their sources, or hand them to the wheel."""
        if version == "editable":
            self.app.display_info(build_in_place())
            return
        self.scratch = tempfile.TemporaryDirectory(prefix="supplierd-")
        extensions, outcome = build(Path(self.scratch.name))
        self.app.display_info(outcome)
        if extensions:
            build_data.update(pure_python=False, infer_tag=True)
        for extension in extensions:
            place = extension.as_posix().removeprefix(CLIENT)
            build_data["force_include"][f"{self.scratch.name}/{extension}"] = place

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is made: the scratch folder goes."""
        if version != "editable":
            self.scratch.cleanup()


def sources() -> list[Path]:
    """Every file that an extension is made from, and its twin, below ROOT."""
    typed = [path for package in PACKAGES for path in (ROOT / package).rglob("*.p[yx][xd]")]
    twins = {path.with_suffix(".py") for path in typed}
    return sorted(path.relative_to(ROOT) for path in (*typed, *filter(Path.exists, twins)))


def modules() -> list[Path]:
    """What Cython compiles, below ROOT: NAME.pyx, or else NAME.py. A .pxd on its own is for others to include."""
    found = {path.with_suffix(""): path for path in sources() if path.suffix != ".pxd"}  # .pyx comes after .py
    return list(found.values())


def extensions_in_place() -> list[Path]:
    """The extensions beside the sources, of any Python, below ROOT."""
    return sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.so"))


def newest_source() -> int:
    """When a source, or how it is compiled, was last changed: nanoseconds since 1970. Extensions bear this time."""
    return max((ROOT / path).stat().st_mtime_ns for path in (*sources(), Path(__file__)))


def is_stale(extension: Path) -> bool:
    """Whether an extension is older than what it would be made from now, or is made from nothing any more."""
    made = {path.with_suffix("") for path in modules()}
    name = extension.name.partition(".")[0]
    return extension.with_name(name) not in made or (ROOT / extension).stat().st_mtime_ns < newest_source()


def build_in_place() -> str:
    """Replace the extensions beside the sources; what came of it, as a line for the user.

    Those of another Python stay, unless they are stale: two environments can share a tree.

    Raises:
        CannotCompileError: SUPPLIERD_COMPILE is 1, and it failed; or an old extension cannot be removed.
    """
    try:
        clear(lambda old: old.name.endswith(SUFFIX) or is_stale(old))
    except OSError as error:  # an old one that stays would hide newer sources
        raise CannotCompileError(f"extensions of before cannot be removed: {error}") from None
    with tempfile.TemporaryDirectory(prefix="supplierd-") as scratch:
        extensions, outcome = build(Path(scratch))
        try:
            for extension in extensions:
                install(Path(scratch, extension), ROOT / extension)
        except OSError as error:
            clear(lambda placed: placed.name.endswith(SUFFIX))
            return pure(f"extensions cannot be put beside their sources: {error}")
    return outcome


def clear(chosen: Callable[[Path], bool]) -> None:
    """Remove the extensions in place that are chosen. Raises OSError: one of them cannot be."""
    for old in filter(chosen, extensions_in_place()):
        (ROOT / old).unlink()


def install(extension: Path, place: Path) -> None:
    """Put an extension beside its sources, whole or not at all. Raises OSError."""
    time, unseen = newest_source(), place.with_name(f".{place.name}")
    try:
        shutil.copyfile(extension, unseen)
        os.utime(unseen, ns=(time, time))
        unseen.replace(place)
    finally:
        unseen.unlink(missing_ok=True)


def build(scratch: Path) -> tuple[list[Path], str]:
    """The extensions made, below `scratch` as their sources are below ROOT, and a line for the user.

    Raises:
        CannotCompileError: SUPPLIERD_COMPILE is 1, and it failed, or is neither 0 nor 1.
    """
    wish = os.environ.get(VARIABLE, "")
    if wish not in {"", "0", "1"}:
        raise CannotCompileError(f"{VARIABLE} is {wish!r}; it can be 0 (never compile) or 1 (fail where that fails)")
    if wish == "0":
        return [], f"supplierd: pure Python, since {VARIABLE} is 0"
    try:
        compiler = find_compiler()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            extensions = list(pool.map(lambda module: compile_one(module, scratch, compiler), modules()))
    except CannotCompileError as error:
        return [], pure(str(error))
    return extensions, f"supplierd: compiled {', '.join(path.stem for path in modules())}"


def pure(problem: str) -> str:
    """It goes on in pure Python: a line for the user.

    Raises:
        CannotCompileError: SUPPLIERD_COMPILE is 1.
    """
    if os.environ.get(VARIABLE) == "1":
        text = f"{problem}. {VARIABLE}=1 asks for it; without it, supplierd is installed in pure Python"
        raise CannotCompileError(text) from None
    return f"supplierd: pure Python: all works, but takes more CPU. Not compiled: {problem}"


def find_compiler() -> list[str]:
    """The command of a C compiler that can compile for this Python: $CC, or what Python was made with, or another.

    Raises:
        CannotCompileError: something is missing.
    """
    if sys.byteorder != "little":
        raise CannotCompileError("this machine is not little-endian, and the compiled modules read packets as they are")
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise CannotCompileError("this Python has no global lock, which the compiled modules count under")
    for module, package in (("Cython", "cython"), ("numpy", "numpy")):
        if importlib.util.find_spec(module) is None:
            raise CannotCompileError(f"no {module}; pip install {package}")
    wanted = [os.environ["CC"]] if os.environ.get("CC") else [str(sysconfig.get_config_var("CC")), "cc", "gcc", "clang"]
    command = next((words for words in map(shlex.split, wanted) if words and shutil.which(words[0])), None)
    if command is None:
        raise CannotCompileError(f"no C compiler ({', '.join(wanted)}); {INSTALL}")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        raise CannotCompileError(f"no Python.h in {sysconfig.get_path('include')}; {INSTALL}")
    return command


def compile_one(module: Path, scratch: Path, compiler: list[str]) -> Path:
    """Make the extension of one module; its path below `scratch`.

    Each name is relative, so that the same sources make the same bytes: deploy/install.sh tells releases by them.

    Raises:
        CannotCompileError: Cython or the compiler failed.
    """
    code, extension = module.with_suffix(".c"), module.with_name(module.stem + SUFFIX)
    (scratch / code).parent.mkdir(parents=True, exist_ok=True)
    run(module, [sys.executable, "-m", "cython", *CYTHON, str(module), "-o", str(scratch / code)], ROOT)
    numpy = importlib.import_module("numpy")  # to build in pure Python needs none
    include = [f"-I{path}" for path in (sysconfig.get_path("include"), numpy.get_include())]
    given = shlex.split(f"{os.environ.get('CFLAGS', '')} {os.environ.get('LDFLAGS', '')}")
    run(module, [*compiler, *FLAGS, *include, *given, str(code), "-o", str(extension)], scratch)
    return extension


def run(module: Path, command: list[str], folder: Path) -> None:
    """Run a step of compiling a module in a folder.

    Raises:
        CannotCompileError: it failed; all that it said is on stderr.
    """
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=LONGEST)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotCompileError(f"{module}: {error}") from None
    if done.returncode != 0:
        print(done.stderr, file=sys.stderr)
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"status {done.returncode}"]
        line = next((line for line in lines if "error:" in line), lines[-1])
        raise CannotCompileError(f"{module}: {line.strip()}")


if __name__ == "__main__":
    try:
        print(build_in_place())
    except CannotCompileError as error:
        sys.exit(f"error: {error}")

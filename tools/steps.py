"""Steps that are done once and never half: stamps, locks between makes, and files that appear by a rename."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Callable, Iterable, Iterator

from .paths import STAMPS, TEMPORARY

# The account that PostgreSQL runs as is not always the one that builds, and must be able to read what is built.
os.umask(0o022)


def step(name: str, key: str, product: Path, make: Callable[[], None]) -> None:
    """Runs `make` unless `product` is there and was made with the same `key`."""
    stamp = STAMPS / name
    with lock(name):
        if product.exists() and stamp.exists() and stamp.read_text() == key:
            return
        stamp.unlink(missing_ok=True)
        make()
        write(stamp, key)


@contextlib.contextmanager
def lock(name: str) -> Iterator[None]:
    """Two makes at once wait for each other, step by step."""
    STAMPS.mkdir(parents=True, exist_ok=True)
    with open(STAMPS / f"{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A directory on the same file system as everything else in build/, so that a rename ends a step."""
    TEMPORARY.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(dir=TEMPORARY))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def replace(new: Path, old: Path) -> None:
    """Puts the file or directory `new` where `old` may be; `old` is never half there."""
    old.parent.mkdir(parents=True, exist_ok=True)
    if old.is_dir():
        with scratch() as aside:
            old.rename(aside / old.name)
            new.rename(old)
    else:
        new.replace(old)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + f".{os.getpid()}")
    partial.write_text(text)
    partial.replace(path)


def digest(paths: Iterable[Path]) -> str:
    """One checksum of several files' names and contents."""
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()

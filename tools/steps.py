"""Build steps that run once and never leave half a result: stamps, locks, and files that are renamed into place."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Callable, Iterable, Iterator

from .console import say
from .paths import STAMPS, TEMPORARY

# PostgreSQL may run under another account than the build, and must be able to read its results.
os.umask(0o022)


def step(name: str, key: str, product: Path, make: Callable[[], None]) -> None:
    """Runs `make` unless `product` exists and was made with the same `key`."""
    stamp = STAMPS / name
    with lock(name):
        if product.exists() and stamp.exists() and stamp.read_text() == key:
            return
        stamp.unlink(missing_ok=True)
        make()
        write(stamp, key)


@contextlib.contextmanager
def lock(name: str) -> Iterator[None]:
    """Keeps another `make` from running the same step at the same time, and says so where it has to wait for one."""
    STAMPS.mkdir(parents=True, exist_ok=True)
    # Opened to append, because the holder has written its process id into the file.
    with open(STAMPS / f"{name}.lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip()
            # Threads of one process wait for each other, too.
            if holder != str(os.getpid()):
                say(f"waiting for another make{f' (process {holder})' if holder else ''}, which is at this step: {name}")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A temporary directory on the file system of build/, from which results can be renamed into place."""
    TEMPORARY.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(dir=TEMPORARY))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def replace(new: Path, old: Path) -> None:
    """Puts the file or directory `new` in place of `old`, which is never there in part."""
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


def digest(paths: Iterable[Path], root: Path | None = None) -> str:
    """One checksum of the names, or the paths below `root`, and the contents of several files."""
    total = hashlib.sha256()
    for path in sorted(paths):
        name = str(path.relative_to(root)) if root else path.name
        total.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()

"""The operating system's view: which processes of a cluster live."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Callable


def servers(data_dir: Path) -> list[int]:
    """The living susx-server processes that work in a cluster's data directory."""
    return [pid for pid in _processes() if _program(pid) == "susx-server" and _works_in(pid, data_dir)]


def supervisors(data_dir: Path) -> list[int]:
    """A cluster's background workers that watch over susx-server."""
    return [pid for pid in _processes() if "susx supervisor" in _command(pid) and _works_in(pid, data_dir)]


def is_alive(pid: int) -> bool:
    """A process that has ended but was not buried yet is not alive."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def eventually(what: Callable[[], object], seconds: float = 10.0) -> bool:
    """Whether it becomes true in time."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _processes() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and is_alive(int(entry))]


def _program(pid: int) -> str:
    return Path(_command(pid).split("\0")[0]).name


def _command(pid: int) -> str:
    try:
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return ""


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return os.path.samefile(f"/proc/{pid}/cwd", folder)
    except OSError:
        return False

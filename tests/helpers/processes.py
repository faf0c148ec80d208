"""The operating system's view: which processes of a cluster live."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import Callable


def servers(data_dir: Path) -> list[int]:
    """The living susx-server processes that work in a cluster's data directory."""
    return [pid for pid in _processes() if _program(pid) == "susx-server" and _works_in(pid, data_dir)]


def supervisors(data_dir: Path) -> list[int]:
    """A cluster's background workers that watch over susx-server."""
    return [pid for pid in _processes() if "susx supervisor" in _command(pid) and _works_in(pid, data_dir)]


def one_of_each(data_dir: Path) -> bool:
    """One server, which belongs to the one supervisor."""
    children, parents = servers(data_dir), supervisors(data_dir)
    return len(children) == len(parents) == 1 and _parent(children[0]) == parents[0]


def sockets(data_dir: Path) -> list[str]:
    """The sockets of servers, listening or left behind."""
    return sorted(path.name for path in (data_dir / "susx").glob("*") if path.is_socket())


def limit(pid: int, what: int, value: int) -> None:
    """Sets a limit of a running process (resource.RLIMIT_...), as its own account."""
    as_owner_of(pid, lambda: resource.prlimit(pid, what, (value, value)))


def as_owner_of(pid: int, act: Callable[[], object]) -> None:
    """Does something as the account that a process runs as."""
    with open(f"/proc/{pid}/status") as file:
        parts = (line.partition(":") for line in file)
        owner = {name: int(ids.split()[0]) for name, _, ids in parts if name in ("Uid", "Gid")}
    # In a child, which can become that account: that root may do it all is not a matter of course in a container.
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0 and owner["Uid"] != 0:
                os.setgroups([])
                os.setresgid(*[owner["Gid"]] * 3)
                os.setresuid(*[owner["Uid"]] * 3)
            act()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0, "it cannot be done as the owner of the process"


def is_alive(pid: int) -> bool:
    """A process that has ended but was not buried yet is not alive."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


# What a client may wait, in seconds, until its cancelled statement ends, on a machine that is busy: whatever is cancelled
# would by itself go on for far longer.
PROMPTLY = 5.0


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


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return os.path.samefile(f"/proc/{pid}/cwd", folder)
    except OSError:
        return False

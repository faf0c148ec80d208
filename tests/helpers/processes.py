"""The operating system's view: which processes of a cluster live, and what memory they have."""

from __future__ import annotations

import os
import re
import resource
import time
from pathlib import Path
from typing import Callable


def servers(data_dir: Path) -> list[int]:
    """The running susx-server processes of a cluster."""
    return [pid for pid in _processes() if _program(pid) == "susx-server" and _works_in(pid, data_dir)]


def supervisors(data_dir: Path) -> list[int]:
    """The background workers of a cluster that supervise susx-server."""
    return [pid for pid in _processes() if "susx supervisor" in _command(pid) and _works_in(pid, data_dir)]


def one_of_each(data_dir: Path) -> bool:
    """Whether there is one server, and it is the child of the one supervisor."""
    children, parents = servers(data_dir), supervisors(data_dir)
    return len(children) == len(parents) == 1 and _parent(children[0]) == parents[0]


def has_started(program: str, data_dir: Path) -> bool:
    """Whether the supervisor of a cluster has started a program, which is not susx-server, as its server."""
    parents = supervisors(data_dir)
    return any(_parent(pid) in parents and _program(pid) == program for pid in _processes())


def sockets(data_dir: Path) -> list[str]:
    """The sockets of a cluster's servers, both in use and left behind."""
    return sorted(path.name for path in (data_dir / "susx").glob("*") if path.is_socket())


def resident(pid: int) -> int:
    """Bytes of resident memory; 0 once the process is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0


def private(pid: int) -> int:
    """Bytes of memory that belong to this process alone; 0 once it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 1024 * sum(map(int, re.findall(r"^Private_(?:Clean|Dirty): *(\d+) kB$", text, re.MULTILINE)))


def limit(pid: int, what: int, value: int) -> None:
    """Sets a limit (resource.RLIMIT_...) of a running process."""
    as_owner_of(pid, lambda: resource.prlimit(pid, what, (value, value)))


def as_owner_of(pid: int, act: Callable[[], object]) -> None:
    """Does something under the account that a process runs as."""
    with open(f"/proc/{pid}/status") as file:
        parts = (line.partition(":") for line in file)
        owner = {name: int(ids.split()[0]) for name, _, ids in parts if name in ("Uid", "Gid")}
    # A child can change to that account. In a container, root cannot always do it itself.
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
    assert os.waitpid(child, 0)[1] == 0, "the account of the process may not do that"


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


# Seconds after which a call counts as hanging. It judges no speed: without the cancel, refusal or limit under test, the
# call would take longer still.
PROMPTLY = 60.0


def sleeps(pid: int) -> int:
    """How many times a process has gone to sleep to wait for something."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, count = line.partition(":")
        if name == "voluntary_ctxt_switches":
            return int(count)
    raise AssertionError("the kernel does not count them")


def eventually(what: Callable[[], object], seconds: float = 120.0) -> bool:
    """Whether it becomes true within so many seconds."""
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

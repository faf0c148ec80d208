"""The account that PostgreSQL runs under. It refuses root, so root uses another account, or a user namespace."""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

from .console import Failure


@dataclass(frozen=True)
class Identity:
    """An account: the `prefix` of its command lines, and the `uid` and `gid` that must own PostgreSQL's files."""

    prefix: tuple[str, ...]
    uid: int
    gid: int

    def own(self, path: Path) -> None:
        """Gives `path` and everything below it to this account. Only root can, and only root needs to."""
        if os.geteuid() != 0 or not path.exists() or path.stat().st_uid == self.uid:
            return
        for folder, _, files in os.walk(path):
            for entry in (folder, *(os.path.join(folder, file) for file in files)):
                os.chown(entry, self.uid, self.gid, follow_symlinks=False)


def choose(program: Path, directory: Path) -> Identity:
    """An identity that can run `program` and reach `directory`."""
    if os.geteuid() != 0 and _has_name(os.geteuid()):
        return Identity((), os.geteuid(), os.getegid())
    return _other(program, directory)


@functools.lru_cache(maxsize=None)
def _other(program: Path, directory: Path) -> Identity:
    if os.geteuid() == 0:
        for account in _accounts("postgres", "nobody"):
            prefix = ("setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups")
            # A trial is more reliable than file modes: the path may lead through /root, an ACL or an unusual mount.
            if _succeeds(*prefix, "sh", "-c", '"$0" --version && test -x "$1"', program, directory):
                return Identity(prefix, account.pw_uid, account.pw_gid)
    # Only root can reach the checkout, or this is a container platform's user without a name. In a user namespace we
    # keep our access to files, while PostgreSQL sees the number of an account that has a name.
    for account in _accounts("postgres", "daemon", "nobody"):
        prefix = ("unshare", "--user", f"--map-user={account.pw_uid}", f"--map-group={account.pw_gid}")
        if _succeeds(*prefix, program, "--version"):
            return Identity(prefix, os.geteuid(), os.getegid())
    raise Failure(
        "PostgreSQL cannot run as root or as a user without a name. No other account can reach "
        f"{directory}, and user namespaces are not allowed here. Use a normal account, or a directory that every "
        "account can enter, such as one in /opt."
    )


def _has_name(uid: int) -> bool:
    try:
        return bool(pwd.getpwuid(uid))
    except KeyError:
        return False


def _accounts(*names: str) -> Iterator[pwd.struct_passwd]:
    for name in names:
        with contextlib.suppress(KeyError):
            yield pwd.getpwnam(name)


def _succeeds(*argv: object) -> bool:
    try:
        return subprocess.run([str(word) for word in argv], cwd="/", capture_output=True).returncode == 0
    except FileNotFoundError:
        return False

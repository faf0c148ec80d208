"""A PostgreSQL cluster of our own: initdb, start, stop. Used for the embedded clusters and by the tests.

    with Cluster.throwaway("18", {"susx.model": "demo"}) as cluster:
        subprocess.run([cluster.psql, cluster.url()])
"""

from __future__ import annotations

import contextlib
import hashlib
import locale
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Iterator, Mapping
from urllib.parse import quote

from . import identity
from .console import Failure, say
from .paths import pg_home
from .steps import write

# Not "susx": the tables of a user of that name would go to the extension's schema, by the search_path "$user", public.
SUPERUSER = "postgres"

# The longest path of a Unix socket is 107 bytes, and PostgreSQL adds its file's name.
_LONGEST_SOCKET_FOLDER = 85

# Why a start may fail and the next one not: somebody took the port between our look and PostgreSQL's; or the last
# postmaster was killed, and the system has not buried it yet, or its last backend is still ending.
_PASSING = ("could not bind", "lock file", "pre-existing shared memory block")


# What a shell may have and a service has not: settings of clients, and an order to Rust to trace every error, for which
# a backend reads PostgreSQL's debug information at its first one, a tenth of a second.
_NOT_OF_A_SERVICE = ("PG", "RUST_BACKTRACE", "RUST_LIB_BACKTRACE")


class Cluster:
    """`directory` holds everything of one cluster: data/, log, port and usually the socket.

    `home` is the PostgreSQL installation if it is not the one below build/pg.
    """

    def __init__(
        self,
        pg: str,
        directory: Path,
        settings: Mapping[str, object] | None = None,
        sync: bool = True,
        home: Path | None = None,
    ):
        self.pg = pg
        self.home = home or pg_home(pg)
        self.directory = Path(directory).resolve()
        self.settings = dict(settings or {})
        self.sync = sync
        self.data_dir = self.directory / "data"
        self.log_file = self.directory / "log"
        self.port_file = self.directory / "port"
        self.psql = self.bin("psql")

    def bin(self, program: str) -> Path:
        return self.home / "bin" / program

    @classmethod
    @contextlib.contextmanager
    def throwaway(
        cls, pg: str, settings: Mapping[str, object] | None = None, home: Path | None = None
    ) -> Iterator[Cluster]:
        """A running cluster in /tmp, which every account can reach, that is gone afterwards."""
        folder = Path(tempfile.mkdtemp(prefix="susx-", dir="/tmp"))
        folder.chmod(0o711)
        cluster = cls(pg, folder / "cluster", {"fsync": "off", **(settings or {})}, sync=False, home=home)
        try:
            cluster.init()
            cluster.start()
            yield cluster
        finally:
            cluster.stop("immediate")
            # A child of the postmaster may still be writing as it dies.
            shutil.rmtree(folder, ignore_errors=True)

    def init(self) -> None:
        """Makes the data directory unless it is there."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._identity().own(self.directory)
        if self.data_dir.exists():
            return
        # Under another name first: an interrupted initdb leaves a directory that looks finished.
        partial = self.directory / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        self.program(
            *("initdb", "-D", partial, "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8", f"--locale={_locale()}"),
            *(() if self.sync else ("--no-sync",)),
        )
        with open(partial / "postgresql.conf", "a") as file:
            file.write("\ninclude 'managed.conf'\n")
        partial.rename(self.data_dir)

    def start(self) -> None:
        if self.is_running():
            return
        self._identity().own(self.directory)
        for attempt in range(10):
            self._choose_port()
            self.configure()
            written = self.log_file.stat().st_size if self.log_file.exists() else 0
            try:
                self.program("pg_ctl", "start", "-D", self.data_dir, "-l", self.log_file, "-w", "-t", "120")
                return
            except Failure:
                log = self.log_file.read_bytes()[written:].decode(errors="replace") if self.log_file.exists() else ""
                if attempt == 9 or not any(reason in log for reason in _PASSING):
                    raise Failure(f"PostgreSQL {self.pg} did not start. {self.log_file} says:\n{log[-4000:]}")
                time.sleep(1)

    def stop(self, mode: str = "fast") -> None:
        if self.is_running():
            self.program("pg_ctl", "stop", "-D", self.data_dir, "-m", mode, "-w", "-t", "120")
        if self._socket_folder() != self.directory:
            shutil.rmtree(self._socket_folder(), ignore_errors=True)

    def restart(self, mode: str = "fast") -> None:
        self.stop(mode)
        self.start()

    def is_running(self) -> bool:
        return self.postmaster() is not None

    def postmaster(self) -> int | None:
        """The postmaster's process id, if it is alive."""
        try:
            pid = int((self.data_dir / "postmaster.pid").read_text().split("\n")[0])
            # After a crash of the machine another program may have the number.
            alive = os.path.samefile(f"/proc/{pid}/cwd", self.data_dir)
        except (FileNotFoundError, PermissionError, ValueError):
            return None
        return pid if alive else None

    def url(self, dbname: str = "susx") -> str:
        if not self.port_file.exists():
            raise Failure(f"there is no PostgreSQL {self.pg} cluster yet: run `make up PG={self.pg}`")
        return f"postgresql://{SUPERUSER}@127.0.0.1:{self.port_file.read_text().strip()}/{quote(dbname, safe='')}"

    def create_database(self, name: str) -> None:
        exists = f"SELECT 1 FROM pg_database WHERE datname = '{name}'"
        if not self.program("psql", "-XAt", "-d", self.url("postgres"), "-c", exists):
            self.program("psql", "-Xq", "-d", self.url("postgres"), "-c", f'CREATE DATABASE "{name}"')

    def update_extension(self, name: str) -> None:
        """ALTER EXTENSION UPDATE in every database that has an older version of the extension."""
        ask = "SELECT datname FROM pg_database WHERE datallowconn"
        for database in self.program("psql", "-XAt", "-d", self.url("postgres"), "-c", ask).splitlines():
            older = (
                "SELECT 1 FROM pg_available_extensions "
                f"WHERE name = '{name}' AND installed_version <> default_version"
            )
            if self.program("psql", "-XAt", "-d", self.url(database), "-c", older):
                say(f"updating the extension {name} in database {database}")
                self.program("psql", "-Xq", "-d", self.url(database), "-c", f'ALTER EXTENSION "{name}" UPDATE')

    def configure(self) -> bool:
        """Writes our settings beside postgresql.conf; ALTER SYSTEM still wins over them. True if they changed."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port_file.read_text().strip(),
            "unix_socket_directories": self._socket_folder(),
            **self.settings,
        }
        text = "# Written anew at every start: use ALTER SYSTEM for settings that are to stay.\n"
        for name, value in settings.items():
            quoted = str(value).replace("\\", "\\\\").replace("'", "''")
            text += f"{name} = '{quoted}'\n"
        path = self.data_dir / "managed.conf"
        if path.exists() and path.read_text() == text:
            return False
        write(path, text)
        self._give(path)
        return True

    def program(self, name: str, *arguments: object) -> str:
        """Runs one of PostgreSQL's programs as the cluster's account; returns what it prints."""
        argv = [*self._identity().prefix, self.bin(name), *arguments]
        # No PGDATA or PGOPTIONS of the user's own clusters. And not in a directory that the account cannot enter.
        env = {key: value for key, value in os.environ.items() if not key.startswith(_NOT_OF_A_SERVICE)}
        result = subprocess.run(
            [str(word) for word in argv], cwd=self.directory, env=env, capture_output=True, text=True, errors="replace"
        )
        if result.returncode != 0:
            raise Failure(f"{name} failed:\n{result.stdout}{result.stderr}")
        return result.stdout

    def _identity(self) -> identity.Identity:
        return identity.choose(self.bin("postgres"), self.directory.parent)

    def _give(self, path: Path) -> None:
        os.chown(path, self._identity().uid, self._identity().gid)

    def _choose_port(self) -> None:
        """The remembered port if it is free, else another one."""
        port = int(self.port_file.read_text()) if self.port_file.exists() else 0
        while not port or not _is_free(port):
            # Below the range from which systems take the ports of outgoing connections.
            port = random.randrange(20000, 32000)
        write(self.port_file, f"{port}\n")

    def _socket_folder(self) -> Path:
        folder = os.fsencode(self.directory)
        if len(folder) <= _LONGEST_SOCKET_FOLDER:
            return self.directory
        short = Path("/tmp") / f"susx-{hashlib.sha256(folder).hexdigest()[:12]}"
        short.mkdir(mode=0o700, exist_ok=True)
        # Anybody can make names in /tmp, a symbolic link to something of ours included.
        if short.is_symlink() or short.lstat().st_uid not in (os.geteuid(), self._identity().uid):
            raise Failure(f"{short} belongs to somebody else, and the cluster's socket must go there")
        self._give(short)
        return short


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _locale() -> str:
    """C.UTF-8 sorts by code point and knows letters outside ASCII; systems without it have C."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        return locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    except locale.Error:
        return "C"
    finally:
        locale.setlocale(locale.LC_CTYPE, before)

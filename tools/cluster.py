"""Creates, starts and stops PostgreSQL clusters: the embedded ones, and those of tests and benchmarks.

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

# Not "susx": with the default search_path "$user", public, that user's tables would land in the extension's schema.
SUPERUSER = "postgres"

# The path of a Unix socket has at most 107 bytes, including the file name that PostgreSQL appends.
_LONGEST_SOCKET_FOLDER = 85

# Reasons to try a start again: another process took the port after we found it free; or the previous postmaster was
# killed and is still a zombie, or its last backend is still exiting.
_TRANSIENT = ("could not bind", "lock file", "pre-existing shared memory block")


# Variables that a service would not inherit: client settings, and Rust's backtraces, for which a backend spends a tenth
# of a second on PostgreSQL's debug information at its first error.
_CLIENT_VARIABLES = ("PG", "RUST_BACKTRACE", "RUST_LIB_BACKTRACE")


class Cluster:
    """One cluster. `directory` holds all its files: data/, log, port and usually the socket.

    `home` is the PostgreSQL installation, by default the one below build/pg.
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
        """A running cluster in /tmp, which every account can reach; it is removed afterwards."""
        folder = Path(tempfile.mkdtemp(prefix="susx-", dir="/tmp"))
        folder.chmod(0o711)
        cluster = cls(pg, folder / "cluster", {"fsync": "off", **(settings or {})}, sync=False, home=home)
        try:
            cluster.init()
            cluster.start()
            yield cluster
        finally:
            cluster.stop("immediate")
            # A child of the postmaster may still write a file while it exits.
            shutil.rmtree(folder, ignore_errors=True)

    def init(self) -> None:
        """Creates the data directory unless it exists."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._identity().own(self.directory)
        if self.data_dir.exists():
            return
        # An interrupted initdb leaves a directory that looks complete, so it works under another name.
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
                if attempt == 9 or not any(reason in log for reason in _TRANSIENT):
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
        """The postmaster's process id, if it runs."""
        try:
            pid = int((self.data_dir / "postmaster.pid").read_text().split("\n")[0])
            # After a crash of the machine, the number may belong to another program.
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
        """Writes the settings beside postgresql.conf; True if they changed. ALTER SYSTEM overrides them."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port_file.read_text().strip(),
            "unix_socket_directories": self._socket_folder(),
            **self.settings,
        }
        text = "# Rewritten at every start. For lasting settings, use ALTER SYSTEM.\n"
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
        """Runs one of PostgreSQL's programs under the cluster's account, and returns its output."""
        argv = [*self._identity().prefix, self.bin(name), *arguments]
        # PGDATA and PGOPTIONS belong to the user's own clusters. The working directory must be open to the account.
        env = {key: value for key, value in os.environ.items() if not key.startswith(_CLIENT_VARIABLES)}
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
        """Takes the port of the last start if it is free, or else a new one."""
        port = int(self.port_file.read_text()) if self.port_file.exists() else 0
        while not port or not _is_free(port):
            # Below the range that systems use for outgoing connections.
            port = random.randrange(20000, 32000)
        write(self.port_file, f"{port}\n")

    def _socket_folder(self) -> Path:
        folder = os.fsencode(self.directory)
        if len(folder) <= _LONGEST_SOCKET_FOLDER:
            return self.directory
        short = Path("/tmp") / f"susx-{hashlib.sha256(folder).hexdigest()[:12]}"
        short.mkdir(mode=0o700, exist_ok=True)
        # Anyone can create a file in /tmp, even a symbolic link to one of our folders.
        if short.is_symlink() or short.lstat().st_uid not in (os.geteuid(), self._identity().uid):
            raise Failure(f"{short} belongs to another account, but the cluster's socket must be there")
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
    """C.UTF-8, which sorts by code point and knows letters outside ASCII, or C where that is missing."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        return locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    except locale.Error:
        return "C"
    finally:
        locale.setlocale(locale.LC_CTYPE, before)

"""A session that finishes its work even if processes are killed meanwhile."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Callable, TypeVar

import psycopg

from tools.cluster import Cluster

# The server was lost repeatedly, or not ready in time; the session was terminated; the cluster recovers from a crash.
TRANSIENT = {"08006", "57P03", "57P01", "57P02", None}

Result = TypeVar("Result")


class Worker:
    """Runs `work(worker)` in a thread; `error` is the exception that ended it, if any."""

    def __init__(self, cluster: Cluster, database: str, setup: str, work: Callable[[Worker], None], patience: float = 150):
        self.cluster, self.database, self.setup, self.work, self.patience = cluster, database, setup, work, patience
        self.connection: psycopg.Connection | None = None
        self.error: Exception | None = None
        self.retries = 0
        self.thread = threading.Thread(target=self._run, daemon=True)

    @property
    def pid(self) -> int | None:
        """The backend's process id, while connected."""
        connection = self.connection
        return connection.info.backend_pid if connection is not None and not connection.closed else None

    def rows(self, query: str, *arguments: object) -> list[tuple]:
        return self.until_done(lambda connection: connection.execute(query, arguments or None).fetchall())

    def run(self, query: str, *arguments: object) -> None:
        self.until_done(lambda connection: connection.execute(query, arguments or None))

    def one(self, query: str, *arguments: object):
        """The only value of the only row."""
        ((value,),) = self.rows(query, *arguments)
        return value

    def until_done(self, statement: Callable[[psycopg.Connection], Result]) -> Result:
        """The statement's result. Repeats the statement if a kill made it fail or ended its session."""
        end = time.monotonic() + self.patience
        while True:
            try:
                if self.connection is None:
                    self.connection = psycopg.connect(self.cluster.url(self.database), autocommit=True)
                    self.connection.execute(self.setup)
                return statement(self.connection)
            except psycopg.Error as error:
                # Other errors are not explained by the kills.
                if error.sqlstate not in TRANSIENT or time.monotonic() > end:
                    raise
                self.retries += 1
                if self.connection is not None and self.connection.closed:
                    self._close()
                time.sleep(0.1)

    def _run(self) -> None:
        try:
            self.work(self)
        except Exception as error:  # Whoever started the worker judges it.
            self.error = error
        finally:
            self._close()

    def _close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()

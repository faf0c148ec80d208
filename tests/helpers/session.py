"""A client's session, and the errors that it gets."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import Iterator, Sequence

import numpy as np
import psycopg
from psycopg import sql
from psycopg.rows import dict_row


@dataclass(frozen=True)
class Refusal:
    """An error as a client sees it."""

    sqlstate: str
    message: str
    hint: str


class Session:
    """A connection in autocommit mode. Queries have %s where the arguments go."""

    def __init__(self, url: str, user: str | None = None):
        self.connection = psycopg.connect(url, autocommit=True, **({"user": user} if user else {}))
        self.notices: list[str] = []
        self.connection.add_notice_handler(lambda notice: self.notices.append(notice.message_primary or ""))

    @property
    def pid(self) -> int:
        return self.connection.info.backend_pid

    def run(self, query: str, *arguments: object) -> None:
        # Without arguments a query may hold several statements and a plain %.
        self.connection.execute(query, arguments or None)

    def rows(self, query: str, *arguments: object) -> list[tuple]:
        return self.connection.execute(query, arguments or None).fetchall()

    def dicts(self, query: str, *arguments: object) -> list[dict]:
        with self.connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, arguments or None).fetchall()

    def column(self, query: str, *arguments: object) -> list:
        return [row[0] for row in self.rows(query, *arguments)]

    def one(self, query: str, *arguments: object):
        """The only value of the only row."""
        ((value,),) = self.rows(query, *arguments)
        return value

    def fails(self, query: str, *arguments: object) -> Refusal:
        """Runs a statement that must fail, and returns its error."""
        try:
            self.connection.execute(query, arguments or None)
        except psycopg.Error as error:
            assert error.sqlstate is not None, f"the session was lost: {error}"
            return Refusal(error.sqlstate, error.diag.message_primary or "", error.diag.message_hint or "")
        raise AssertionError(f"this was expected to fail: {query}")

    def fits(self) -> list[str]:
        """The classifiers that were fitted since the last call. Needs client_min_messages = debug1."""
        found = [notice.split('"')[1] for notice in self.notices if notice.startswith("fitted classifier")]
        self.notices.clear()
        return found

    def copy(self, table: str, columns: Sequence[str], rows: Iterator[Sequence[object]]) -> None:
        target = sql.SQL("COPY {} ({}) FROM STDIN").format(
            sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
        )
        with self.connection.cursor() as cursor, cursor.copy(target) as copy:
            for row in rows:
                copy.write_row(row)

    def close(self) -> None:
        self.connection.close()


@contextlib.contextmanager
def session_of(cluster, database: str = "susx") -> Iterator[Session]:
    with contextlib.closing(Session(cluster.url(database))) as session:
        yield session


def vector(values: object) -> str:
    """pgvector's text for an array, exact to the last bit of a float32."""
    return "[" + ",".join(repr(float(x)) for x in np.asarray(values, np.float32)) + "]"


def array(text: str) -> np.ndarray:
    """The numbers of a vector that psycopg returned as text."""
    return np.array(text[1:-1].split(","), np.float64)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@contextlib.contextmanager
def in_background(*calls) -> Iterator[list]:
    """Runs the calls in threads while the block runs; afterwards the list holds what each returned or raised."""
    results: list = [None] * len(calls)

    def work(place: int) -> None:
        try:
            results[place] = calls[place]()
        except Exception as error:  # The test judges it.
            results[place] = error

    threads = [threading.Thread(target=work, args=(place,), daemon=True) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    yield results
    for thread in threads:
        thread.join(timeout=300)
        assert not thread.is_alive(), "a query did not end"

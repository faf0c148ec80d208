"""Tables that susx labels, and what their labels have to be: susx.label() row by row."""

from __future__ import annotations

import re

import numpy as np

from helpers.session import Session, vector
from helpers.toy import create_random

DIMENSIONS = 12


def create_kinds(sql: Session, name: str = "kinds", **options) -> None:
    create_random(sql, name, **{"categories": 5, "dimensions": DIMENSIONS, "per_class": 6, **options})


def create_photos(sql: Session, rows: int = 300, name: str = "photos", seed: int = 1) -> None:
    """photos(id, embedding, label, probability, known) with random vectors in a column that takes any dimensions."""
    random = np.random.default_rng(seed)
    sql.run(f"CREATE TABLE {name} (id int PRIMARY KEY, embedding vector, label text, probability real, known float8)")
    sql.copy(
        name, ["id", "embedding"], ((i, vector(random.normal(size=DIMENSIONS))) for i in range(rows))
    )


def call(sql: Session, table: str = "photos", classifier: str = "kinds", **options: object) -> str:
    """CALL susx.label_table; returns what it reports, but for how long it took."""
    named = "".join(f", {name} => {value!r}" for name, value in options.items())
    sql.run("SET client_min_messages = notice")
    sql.notices.clear()
    sql.run(f"CALL susx.label_table('{table}', '{classifier}'{named})")
    sql.run("SET client_min_messages = warning")
    (notice,) = [notice for notice in sql.notices if notice.startswith('"')]
    return re.sub(r" in \d+\.\d s", "", notice)


def wrong(sql: Session, table: str = "photos", classifier: str = "kinds", where: str = "true") -> int:
    """Rows whose label is not what susx.label() says of their embedding."""
    return sql.one(
        f"SELECT count(*) FROM {table} WHERE label IS DISTINCT FROM susx.label('{classifier}', embedding) AND {where}"
    )


def writers(sql: Session, table: str = "photos") -> dict:
    """Which transaction wrote each row."""
    return dict(sql.rows(f"SELECT id, xmin::text FROM {table}"))


def rewritten(sql: Session, before: dict, table: str = "photos") -> set:
    """The rows that were written since."""
    return {key for key, writer in writers(sql, table).items() if before.get(key) != writer}


def records(sql: Session, table: str = "photos") -> list[tuple]:
    """What susx has recorded; only a superuser sees it."""
    return sql.rows(
        "SELECT r.key, r.label, r.is_corrected FROM susx.row_label r JOIN susx.labelling l ON l.id = r.labelling "
        "WHERE l.relation = %s::regclass ORDER BY r.key", table
    )


def counts(sql: Session, table: str = "photos") -> tuple:
    """labelled, outdated, rejected, corrected, unlabelled"""
    (row,) = sql.rows(
        "SELECT labelled, outdated, rejected, corrected, unlabelled FROM susx.label_column WHERE relation = %s::regclass",
        table,
    )
    return row

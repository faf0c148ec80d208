"""What `build_support_set` gains by passing over near-duplicates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np
import psycopg

from .measure import CLASSIFIER, create, select
from .report import table, title
from .scenarios import Scenario
from .sets import Set

TITLE = "Near-duplicates"
INTRODUCTION = f"""## {TITLE}

This compares `build_support_set` with its default against `skip_duplicates => 0`, which accepts copies. The pool is the set
itself, or the set with each image repeated 1 to 16 times (mean over draws). The default method labels the images of the set:
accuracy in per cent, for 8 and 32 images per category."""
DRAWS, MOST = 3, 16
SIZES = (8, 32)
COLUMNS = ("set", "images per category", "plain: with copies", "default", "copied: with copies", "**default**")


@dataclass(frozen=True)
class Run:
    data: Set
    per_class: int
    # Plain and copied pool, with copies taken and passed over.
    plain: tuple[float, float]
    copied: tuple[float, float]


def measure(sql: psycopg.Connection, data: Set, draws: int = DRAWS) -> list[Run]:
    ids = data.ids()
    runs = []
    with sql.transaction(force_rollback=True):
        create(sql, data, Scenario("copies", list(range(len(data.categories))), np.array([], int), ids), data.categories)
        sql.execute(f"CREATE TABLE judged AS {select(data, ids)}")
        for per_class in SIZES:
            plain = _both(sql, data, np.ones(len(ids), int), per_class)
            drawn = [np.random.default_rng(40 + draw).integers(1, MOST + 1, len(ids)) for draw in range(draws)]
            copied = np.mean([_both(sql, data, times, per_class) for times in drawn], axis=0)
            runs.append(Run(data, per_class, plain, tuple(copied)))
    return runs


def _both(sql: psycopg.Connection, data: Set, times: np.ndarray, per_class: int) -> tuple[float, float]:
    with sql.transaction(force_rollback=True):
        sql.execute("CREATE TABLE times (id int, times int)")
        with sql.cursor().copy("COPY times FROM STDIN") as stream:
            for row in zip(data.ids().tolist(), times.tolist()):
                stream.write_row(row)
        sql.execute(
            "CREATE TABLE pool AS SELECT row_number() OVER () AS id, embedding FROM judged JOIN times USING (id), "
            "generate_series(1, times.times); ALTER TABLE pool ADD PRIMARY KEY (id)"
        )
        return _accuracy(sql, data, per_class, ", skip_duplicates => 0"), _accuracy(sql, data, per_class, "")


def _accuracy(sql: psycopg.Connection, data: Set, per_class: int, argument: str) -> float:
    sql.execute(f"SELECT count(*) FROM susx.build_support_set('{CLASSIFIER}', 'pool', {per_class}{argument})")
    rows = sql.execute(
        "SELECT key, category FROM susx.classify_rows(%s, 'SELECT id, embedding FROM judged', key => NULL::int)", [CLASSIFIER]
    ).fetchall()
    return 100 * float(np.mean([category == data.categories[data.truth[id]] for id, category in rows]))


def section(runs: Sequence[Run]) -> str:
    """The table of docs/methods.md."""
    rows = []
    for run in runs:
        shares = [f"{share:.1f}" for share in (*run.plain, *run.copied)]
        rows.append([title(run.data), str(run.per_class), *shares[:3], f"**{shares[3]}**"])
    return table(COLUMNS, rows)

"""Twenty labels of `review_queue`, against twenty of random rows and against plain few-shot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np
import psycopg

from .measure import CLASSIFIER, create, select
from .report import table, title
from .scenarios import Scenario
from .sets import Set

TITLE = "Twenty corrections"
INTRODUCTION = f"""## {TITLE}

Each set is split five times into a table (60 % of the images) and held-out images (40 %). The support set is retrieved from the
table. Then 20 of its rows get their true label with `correct`, and the default method labels the rest of the table and the
held-out images. The table shows the accuracy before, and the gains in points with the standard error over the splits. *Queue*:
the first rows of `review_queue`. *Random*: the mean of five draws per split. *Few-shot*: the first of these draws, with the 20
labelled images as the only support set. The corrected rows are not counted afterwards. Since the queue selects difficult rows,
this alone raises the accuracy on the table, but not on the held-out images."""
SPLITS, DRAWS, CORRECTED = 5, 5, 20
COLUMNS = ("set", "before: table", "held out", "queue: table", "held out", "random: table", "held out", "few-shot: table",
           "held out")  # fmt: skip


@dataclass(frozen=True)
class Run:
    """Accuracies on the rest of the table and on the held-out rows, one pair per split."""

    data: Set
    before: np.ndarray
    queue: np.ndarray
    random: np.ndarray
    few_shot: np.ndarray


def measure(sql: psycopg.Connection, data: Set, splits: int = SPLITS, draws: int = DRAWS) -> Run:
    found: dict[str, list] = {"before": [], "queue": [], "random": [], "few_shot": []}
    for split in range(splits):
        random = np.random.default_rng(100 + split)
        ids = random.permutation(data.ids())
        of_table, held_out = np.sort(ids[: 6 * len(ids) // 10]), np.sort(ids[6 * len(ids) // 10 :])
        everything = list(range(len(data.categories)))
        with sql.transaction(force_rollback=True):
            create(sql, data, Scenario("queue", everything, of_table, held_out), data.categories)
            sql.execute("ALTER TABLE pool ADD label text")
            found["before"].append(_accuracies(sql, data, of_table, held_out))
            rows = sql.execute(
                "SELECT key FROM susx.review_queue(%s, 'SELECT id, embedding FROM pool ORDER BY id', n => %s)",
                [CLASSIFIER, CORRECTED],
            ).fetchall()
            found["queue"].append(_corrected(sql, data, of_table, held_out, [row[0] for row in rows]))
            drawn = [random.choice(of_table, CORRECTED, replace=False) for _ in range(draws)]
            found["random"].append(np.mean([_corrected(sql, data, of_table, held_out, chosen) for chosen in drawn], axis=0))
            with sql.transaction(force_rollback=True):
                sql.execute(f"DELETE FROM {CLASSIFIER} WHERE kind = 'image'")
                found["few_shot"].append(_corrected(sql, data, of_table, held_out, drawn[0]))
    return Run(data, **{name: np.array(values) for name, values in found.items()})


def _corrected(sql: psycopg.Connection, data: Set, of_table, held_out, chosen: Sequence[int]) -> tuple[float, float]:
    """The accuracies once these rows have their true labels."""
    chosen = [int(i) for i in chosen]
    with sql.transaction(force_rollback=True):
        sql.execute(
            "SELECT susx.correct(%s, 'pool', row.key, row.category) FROM unnest(%s::text[], %s::text[]) row (key, category)",
            [CLASSIFIER, list(map(str, chosen)), [data.categories[data.truth[i]] for i in chosen]],
        )
        return _accuracies(sql, data, np.setdiff1d(of_table, chosen), held_out)


def _accuracies(sql: psycopg.Connection, data: Set, *parts: np.ndarray) -> tuple[float, ...]:
    query = "SELECT key, category FROM susx.classify_rows(%s, %s, key => NULL::int)"
    shares = []
    for ids in parts:
        rows = sql.execute(query, [CLASSIFIER, select(data, ids)]).fetchall()
        if len(rows) != len(ids):
            raise ValueError(f"{len(rows)} answers for {len(ids)} rows")
        shares.append(100 * float(np.mean([category == data.categories[data.truth[id]] for id, category in rows])))
    return tuple(shares)


def section(runs: Sequence[Run]) -> str:
    """The table of docs/methods.md."""
    return table(COLUMNS, [_cells(run) for run in runs])


def _cells(run: Run) -> list[str]:
    cells = [title(run.data), *(f"{share:.1f}" for share in run.before.mean(axis=0))]
    for after in (run.queue, run.random, run.few_shot):
        gains = after - run.before
        for part in range(2):
            of_part = gains[:, part]
            error = of_part.std(ddof=1) / len(of_part) ** 0.5 if len(of_part) > 1 else 0.0
            cells.append(f"{of_part.mean():+.1f} ± {error:.1f}")
    return cells

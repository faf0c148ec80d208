"""Images of no category: how well `known` tells them from the others, and what rejecting by it costs and brings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Sequence

import numpy as np
import psycopg

from .measure import CLASSIFIER, create, select
from .report import table, title
from .scenarios import Scenario
from .sets import DISTRACTOR, Set

INTRODUCTION = """## None of these

Half of the labelled images and half of the distractors are classified. The support set is retrieved from the other half of
the labelled images, without or with the other half of the distractors. The first columns are AUROC and FPR95 of `known`,
followed by those of `probability`. Then images are rejected whose `known` is below the threshold that `suggest_reject` returns
for the pool. The last columns are the accuracy on the labelled images before and after, the share of labelled images that is
kept, and the share of distractors that is rejected. All figures except the threshold are in per cent."""
COLUMNS = ("set", "pool", "labelled, distractors", "AUROC", "FPR95", "of `probability`", "threshold", "accuracy",
           "of those kept", "labelled kept", "distractors rejected")  # fmt: skip


@dataclass(frozen=True)
class Answers:
    """What `classify_rows` says of some images."""

    right: np.ndarray
    probability: np.ndarray
    known: np.ndarray


@dataclass(frozen=True)
class Run:
    data: Set
    pool: str
    # The judged images of a category, and the others.
    labelled: Answers
    distractors: Answers
    threshold: float


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """How often an image of a category has the larger score than one of none; a tie counts half."""
    order = np.sort(unknown)
    smaller, not_larger = (np.searchsorted(order, known, side) for side in ("left", "right"))
    return float((smaller + not_larger).mean() / 2 / len(unknown))


def fpr95(known: np.ndarray, unknown: np.ndarray) -> float:
    """The share of images of no category that pass a threshold which lets 95 % of the others pass."""
    threshold = np.sort(known)[::-1][math.ceil(0.95 * len(known)) - 1]
    return float((unknown >= threshold).mean())


def measure(sql: psycopg.Connection, data: Set) -> list[Run]:
    """Judges one half of a set's images and distractors, with pools from the other half; [] without distractors.

    Both pools have the same images to judge: what the support set holds must not be what is asked about.
    """
    distractors = data.ids(DISTRACTOR)
    if not len(distractors):
        return []
    random = np.random.default_rng(9)
    ids, others = random.permutation(data.ids()), random.permutation(distractors)
    judged = np.concatenate([ids[::2], others[::2]])
    pools = {"without distractors": ids[1::2], "with distractors": np.concatenate([ids[1::2], others[1::2]])}
    return [_measure(sql, data, name, pool, judged) for name, pool in pools.items()]


def _measure(sql: psycopg.Connection, data: Set, name: str, pool: np.ndarray, judged: np.ndarray) -> Run:
    scenario = Scenario("none of these", list(range(len(data.categories))), pool, judged)
    with sql.transaction():
        create(sql, data, scenario, data.categories)
        rows = sql.execute(
            "SELECT key, category, probability, known, error FROM susx.classify_rows(%s, %s, key => NULL::int)",
            [CLASSIFIER, select(data, judged)],
        ).fetchall()
        (threshold,) = sql.execute("SELECT susx.suggest_reject(%s, 'pool')", [CLASSIFIER]).fetchone()
        sql.execute(f"DROP TABLE {CLASSIFIER}, pool")
    if failed := [error for *_, error in rows if error]:
        raise ValueError(f"{len(failed)} images got no label: {failed[0]}")
    inside = [row for row in rows if data.truth[row[0]] >= 0]
    outside = [row for row in rows if data.truth[row[0]] < 0]
    return Run(data, name, _answers(data, inside), _answers(data, outside), threshold)


def _answers(data: Set, rows: Sequence[tuple]) -> Answers:
    truths = [data.truth[id] for id, *_ in rows]
    right = [truth >= 0 and data.categories[truth] == category for truth, (_, category, *_) in zip(truths, rows)]
    return Answers(np.array(right), np.array([row[2] for row in rows]), np.array([row[3] for row in rows]))


def section(runs: Sequence[Run]) -> str:
    """The table of docs/methods.md."""
    return table(COLUMNS, [_cells(run) for run in runs])


def _cells(run: Run) -> list[str]:
    labelled, distractors = run.labelled, run.distractors
    kept, passed = labelled.known >= run.threshold, distractors.known >= run.threshold
    probability = labelled.probability, distractors.probability
    return [
        title(run.data),
        run.pool,
        f"{len(kept)}, {len(passed)}",
        _percent(auroc(labelled.known, distractors.known)),
        _percent(fpr95(labelled.known, distractors.known)),
        f"{_percent(auroc(*probability))}, {_percent(fpr95(*probability))}",
        f"{run.threshold:.3f}",
        _percent(labelled.right.mean()),
        _percent(labelled.right[kept].mean()) if kept.any() else "–",
        _percent(kept.mean()),
        _percent(1 - passed.mean()),
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"

"""Measures one scenario in SQL: creates a classifier, builds its support set, and labels images by every method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import psycopg

from .scenarios import Scenario
from .sets import OTHER, Set

# The default once there is a support set, and where its images have likeness vectors.
DEFAULT = "gated-tip-x"
LIKENESS = "likeness"
METHODS = ("zero-shot", "tip-adapter", "tip-x", "gda", DEFAULT)
# Of images with two vectors: all but the last see the embeddings alone.
OF_PAIRS = ("zero-shot", DEFAULT, LIKENESS)
# The method and the parameters that `tune` found on other labelled images than those that it labels.
TUNED = "tuned"
CLASSIFIER = "study"


@dataclass(frozen=True)
class Labels:
    """The labels of the judged images, in the order of their ids."""

    right: np.ndarray
    probability: np.ndarray

    @property
    def accuracy(self) -> float:
        return 100 * float(self.right.mean())


@dataclass(frozen=True)
class Measured:
    data: Set
    scenario: Scenario
    labels: dict[str, Labels]

    def gain(self, method: str) -> float:
        return self.labels[method].accuracy - self.labels["zero-shot"].accuracy


def measure(sql: psycopg.Connection, data: Set, scenario: Scenario) -> Measured:
    names = [data.categories[c] for c in scenario.categories]
    with sql.transaction():
        create(sql, data, scenario, names)
        judged = select(data, scenario.judged)
        sql.execute(f"CREATE TABLE judged AS {judged}")
        methods = OF_PAIRS if data.is_paired else METHODS
        labels = {method: _labels(sql, data, scenario, "judged", method, names) for method in methods}
        if scenario.tuned:
            labels[TUNED] = _tuned(sql, data, scenario, names)
        sql.execute(f"DROP TABLE judged, {CLASSIFIER}; DROP TABLE IF EXISTS pool")
    return Measured(data, scenario, labels)


def create(sql: psycopg.Connection, data: Set, scenario: Scenario, names: list[str]) -> None:
    """Creates the scenario's classifier with its support set, and the table `pool` if that is retrieved."""
    if data.prototypes is None:
        sql.execute("SELECT susx.create_classifier(%s, %s)", [CLASSIFIER, names])
    else:
        vectors = [_vector(data.prototypes[c]) for c in scenario.categories]
        sql.execute(
            "SELECT susx.create_classifier(%s, %s, text_embeddings => %s::vector[])", [CLASSIFIER, names, vectors]
        )
    if len(scenario.labelled):
        support = "array_agg(embedding)" + (", array_agg(likeness)" if data.is_paired else "")
        place = {c: name for c, name in zip(scenario.categories, names)}
        for c, name in place.items():
            own = [int(i) for i in scenario.labelled if data.truth[int(i)] == c]
            sql.execute(
                f"SELECT susx.add_support(%s, %s, {support}) FROM {data.table} WHERE id = ANY(%s)",
                [CLASSIFIER, name, own],
            )
    if len(scenario.pool):
        sql.execute(f"CREATE TABLE pool AS {select(data, scenario.pool)}; ALTER TABLE pool ADD PRIMARY KEY (id)")
        per_class = "" if scenario.per_class is None else f", per_class => {scenario.per_class}"
        likeness = ", likeness_column => 'likeness'" if data.is_paired else ""
        sql.execute(f"SELECT count(*) FROM susx.build_support_set('{CLASSIFIER}', 'pool'{per_class}{likeness})")


def _labels(sql, data: Set, scenario: Scenario, table: str, method: str | None, names: list[str]) -> Labels:
    place = {name: c for name, c in zip(names, scenario.categories)}
    # The classifier's own method is that of both vectors.
    is_paired = data.is_paired and method in (None, LIKENESS)
    columns = "id, embedding, likeness" if is_paired else "id, embedding"
    rows = sql.execute(
        "SELECT key, category, probability, error FROM susx.classify_rows(%s, %s, key => NULL::int, method => %s)",
        [CLASSIFIER, f"SELECT {columns} FROM {table} ORDER BY id", method],
    ).fetchall()
    if failed := [error for *_, error in rows if error]:
        raise ValueError(f"{len(failed)} images got no label: {failed[0]}")
    rows.sort()
    right = np.array([place[category] == data.truth[id] for id, category, *_ in rows])
    return Labels(right, np.array([probability for _, _, probability, _ in rows]))


def _tuned(sql, data: Set, scenario: Scenario, names: list[str]) -> Labels:
    """Tunes on the set's other labelled images or, without any, on one half of the judged images for the other half."""
    # Nobody who has a table that shows few of the names would label images of the others.
    shown = {data.truth[int(i)] for i in scenario.judged}
    others = np.array([i for i in data.ids(OTHER) if data.truth[int(i)] in shown], int)
    if len(others):
        _tune(sql, data, others)
        return _labels(sql, data, scenario, "judged", None, names)
    mixed = np.random.default_rng(11).permutation(scenario.judged)
    halves = mixed[::2], mixed[1::2]
    right, probability, ids = [], [], []
    for own, other in (halves, halves[::-1]):
        # The other half is tuned from the defaults, too.
        with sql.transaction(force_rollback=True):
            _tune(sql, data, other)
            sql.execute(f"CREATE TABLE own AS {select(data, own)}")
            labels = _labels(sql, data, scenario, "own", None, names)
        right.append(labels.right), probability.append(labels.probability), ids.append(np.sort(own))
    order = np.argsort(np.concatenate(ids))
    return Labels(np.concatenate(right)[order], np.concatenate(probability)[order])


def _tune(sql, data: Set, ids: np.ndarray) -> None:
    truth = [[int(i), data.categories[data.truth[int(i)]]] for i in ids]
    sql.execute("CREATE TABLE truth (id int, category text)")
    with sql.cursor().copy("COPY truth FROM STDIN") as stream:
        for row in truth:
            stream.write_row(row)
    likeness = ", t.likeness" if data.is_paired else ""
    query = f"SELECT t.embedding, truth.category{likeness} FROM {data.table} t JOIN truth USING (id)"
    sql.execute("SELECT * FROM susx.tune(%s, %s)", [CLASSIFIER, query])
    sql.execute("DROP TABLE truth")


def select(data: Set, ids: np.ndarray) -> str:
    """The query for some images of a set."""
    columns = "id, embedding, likeness" if data.is_paired else "id, embedding"
    return f"SELECT {columns} FROM {data.table} WHERE id = ANY('{{{','.join(map(str, ids))}}}'::int[])"


def _vector(values: np.ndarray) -> str:
    return "[" + ",".join(map(str, values.tolist())) + "]"

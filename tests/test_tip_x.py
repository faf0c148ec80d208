"""The logits of SQL are those of the formula, computed literally and in float64."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.caltech import Caltech
from helpers.session import vector

pytestmark = pytest.mark.same_everywhere

METHODS = ("zero-shot", "tip-adapter", "tip-x")

# (alpha, beta, gamma) and the accuracies, in per cent, of the shared folder's README.
PUBLISHED = {
    (1, 5.5, 1): (95.57, 96.32, 96.17),
    (1, 5.5, 5): (95.57, 96.32, 96.40),
    (10, 20, 0.1): (95.57, 96.17, 96.25),
}

LOGITS = """
    SELECT array_agg(c.score ORDER BY c.category COLLATE "C"), count(*)
    FROM test_vectors t, susx.classify('caltech', t.embedding, k => 55, method => %s) c
    GROUP BY t.id ORDER BY t.id"""

ACCURACY = """
    SELECT round(100 * avg((susx.label('caltech', embedding, %s) = truth)::int), 2) FROM test_vectors"""


@pytest.fixture(scope="module")
def caltech():
    return Caltech()


def logits(sql, caltech, method):
    """N x C, with the columns in the order of the categories."""
    rows = sql.rows(LOGITS, method)
    assert {count for _, count in rows} == {55}
    by_name = np.array([scores for scores, _ in rows])
    return by_name[:, np.argsort(np.argsort(caltech.categories))]


def check(sql, caltech, parameters, rows=None):
    sql.run("SELECT susx.alter_classifier('caltech', %s::real, %s::real, %s::real)", *parameters)
    expected = caltech.terms(*parameters, rows=rows)
    for method in METHODS:
        found = logits(sql, caltech, method)
        assert found.shape == (1333, 55)
        assert np.abs(found - expected[method]).max() <= 1e-3, method


@pytest.mark.parametrize("parameters", PUBLISHED)
def test_every_logit_and_the_accuracies(sql, caltech, parameters):
    caltech.load_queries(sql)
    caltech.create_classifier(sql, "caltech")
    check(sql, caltech, parameters)
    for method, accuracy in zip(METHODS, PUBLISHED[parameters]):
        assert float(sql.one(ACCURACY, method)) == accuracy


@pytest.mark.parametrize("seed", [1, 2])
def test_unequal_support(sql, caltech, seed):
    """Categories of 1 to 16 images: each counts alike, by the factor of the mean over its own number."""
    random = np.random.default_rng(seed)
    kept = []
    for place in range(55):
        own = np.flatnonzero(caltech.support_labels == place)
        kept.extend(random.choice(own, random.integers(1, len(own) + 1), replace=False))
    rows = np.sort(kept)
    sizes = np.bincount(caltech.support_labels[rows])
    assert sizes.min() == 1 and sizes.max() > 10
    caltech.load_queries(sql)
    caltech.create_classifier(sql, "caltech", rows)
    check(sql, caltech, (1, 5.5, 5), rows)


def test_default_method(sql, caltech):
    """Zero-shot without a support set, TIP-X with one, and whatever alter_classifier says."""
    caltech.load_queries(sql)
    caltech.create_classifier(sql, "caltech", rows=np.arange(880))
    default = (
        "SELECT array_agg(c.score ORDER BY t.id) FROM test_vectors t, "
        "susx.classify('caltech', t.embedding) c WHERE t.id < 50"
    )
    chosen = default.replace("t.embedding)", "t.embedding, method => %s)")
    scores = {method: sql.one(chosen, method) for method in METHODS}
    assert len({tuple(values) for values in scores.values()}) == 3
    assert sql.one(default) == scores["tip-x"]
    for method in METHODS:
        sql.run("SELECT susx.alter_classifier('caltech', method => %s)", method)
        assert sql.one(default) == scores[method]
    sql.run("SELECT susx.alter_classifier('caltech', method => 'auto')")
    assert sql.one(default) == scores["tip-x"]
    sql.run("DELETE FROM caltech WHERE kind = 'image'")
    assert sql.one(default) == scores["zero-shot"]


def test_ranks_and_probabilities(sql, caltech):
    caltech.load_queries(sql)
    caltech.create_classifier(sql, "caltech")
    expected = caltech.terms(1, 5.5, 1)
    sql.run("SELECT susx.alter_classifier('caltech', 1, 5.5, 1)")
    for method in METHODS:
        rows = sql.rows(
            """
            SELECT t.id, c.rank, c.category, c.score, c.probability
            FROM test_vectors t, susx.classify('caltech', t.embedding, 55, %s) c
            WHERE t.id < 40 ORDER BY t.id, c.rank""",
            method,
        )
        assert len(rows) == 40 * 55
        for query in range(40):
            own = rows[55 * query : 55 * query + 55]
            assert [row[1] for row in own] == list(range(1, 56))
            scores = [row[3] for row in own]
            assert scores == sorted(scores, reverse=True)
            e = np.exp(expected[method][query] - expected[method][query].max())
            softmax = dict(zip(caltech.categories, e / e.sum()))
            assert all(row[4] == pytest.approx(softmax[row[2]], abs=2e-3) for row in own)
            assert sum(row[4] for row in own) == pytest.approx(1, abs=1e-4)


def test_k(sql, caltech):
    """The k best categories; a larger k gives all."""
    caltech.create_classifier(sql, "caltech")
    query = vector(caltech.queries[0])
    classify = "SELECT * FROM susx.classify('caltech', %s::vector, %s)"
    everything = sql.rows(classify, query, 1000)
    assert len(everything) == 55
    for k in (1, 2, 54, 55):
        assert sql.rows(classify, query, k) == everything[:k]
    assert sql.rows("SELECT * FROM susx.classify('caltech', %s::vector)", query) == everything[:1]
    assert sql.one("SELECT susx.label('caltech', %s::vector)", query) == everything[0][1]


def test_the_length_of_a_vector_does_not_matter(sql, caltech):
    caltech.load_queries(sql)
    caltech.create_classifier(sql, "caltech")
    rows = sql.rows(
        """
        SELECT a.category, b.category, a.score, b.score FROM test_vectors t,
        susx.classify('caltech', t.embedding) a,
        susx.classify('caltech', t.embedding * array_fill(7.5, '{512}')::vector) b"""
    )
    assert len(rows) == 1333
    for a, b, score_a, score_b in rows:
        assert a == b and score_a == pytest.approx(score_b, abs=1e-3)

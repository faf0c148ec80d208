"""Whether probabilities come true: `evaluate` and `susx.calibration` against numpy, and the default method's promise."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.caltech import Caltech
from helpers.toy import create_compass

QUERY = "SELECT embedding, truth FROM test_vectors"
BINS = "SELECT bin, low, high, n, probability, accuracy FROM susx.calibration('caltech', %s, bins => %s)"

pytestmark = pytest.mark.same_everywhere


@pytest.fixture(scope="module")
def caltech():
    return Caltech()


@pytest.fixture
def labelled(sql, caltech):
    """A classifier of real CLIP vectors, with a support set retrieved by the names."""
    caltech.load_queries(sql)
    caltech.create_classifier(sql, "caltech", np.array([], int))
    sql.run("SELECT susx.build_support_set('caltech', 'test_vectors')")
    return sql


def answers(sql, method=None) -> tuple[np.ndarray, np.ndarray]:
    """Whether every label is right, and its probability."""
    rows = sql.rows(
        "SELECT c.category = t.truth, c.probability FROM test_vectors t, susx.classify('caltech', t.embedding, 1, %s) c",
        method,
    )
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows])


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_the_bins_are_those_of_numpy(labelled, bins):
    right, probability = answers(labelled)
    place = np.minimum((probability * bins).astype(int), bins - 1)
    rows = labelled.rows(BINS, QUERY, bins)
    assert [row[0] for row in rows] == list(range(1, bins + 1))
    for b, (_, low, high, n, mean, share) in enumerate(rows):
        own = place == b
        assert (low, high) == (pytest.approx(b / bins), pytest.approx((b + 1) / bins))
        # A probability at the border may fall on either side in a batch.
        assert abs(n - own.sum()) <= 1
        if own.sum() > 3:
            assert mean == pytest.approx(probability[own].mean(), abs=2 / own.sum())
            assert share == pytest.approx(right[own].mean(), abs=2 / own.sum())
        if n == 0:
            assert mean is share is None
    assert sum(row[3] for row in rows) == len(right)


@pytest.mark.parametrize("method", ["zero-shot", None])
def test_the_error_is_the_mean_over_fifteen_bins(labelled, method):
    right, probability = answers(labelled, method)
    place = np.minimum((probability * 15).astype(int), 14)
    expected = sum(abs(right[place == b].sum() - probability[place == b].sum()) for b in range(15)) / len(right)
    rows = labelled.rows("SELECT category, calibration_error FROM susx.evaluate('caltech', %s, %s)", QUERY, method)
    assert rows[0] == (None, pytest.approx(expected, abs=2e-3))
    assert all(error is None for _, error in rows[1:])


@pytest.mark.parametrize("step", [1, 2])
def test_the_probabilities_of_the_default_come_true(labelled, caltech, step):
    """Without a label, with a pool of all or of half of the categories: the promise for CLIP vectors."""
    labelled.run("CREATE TABLE pool AS SELECT * FROM test_vectors WHERE truth = ANY (%s)", caltech.categories[::step])
    labelled.run("ALTER TABLE pool ADD PRIMARY KEY (id); SELECT susx.build_support_set('caltech', 'pool')")
    error = labelled.one("SELECT calibration_error FROM susx.evaluate('caltech', %s) WHERE category IS NULL", QUERY)
    assert error <= 0.05


def test_refusals_and_null(sql):
    create_compass(sql)
    one = "VALUES ('[1,0]'::vector, 'east')"
    assert sql.rows("SELECT * FROM susx.calibration(NULL, %s)", one) == []
    assert sql.rows("SELECT * FROM susx.calibration('compass', NULL)") == []
    assert len(sql.rows("SELECT * FROM susx.calibration('compass', %s, bins => NULL)", one)) == 15
    for bins in (0, -1, 1001):
        refusal = sql.fails("SELECT * FROM susx.calibration('compass', %s, bins => %s)", one, bins)
        assert refusal.sqlstate == "22023" and "bins must be at" in refusal.message
    refusal = sql.fails("SELECT * FROM susx.calibration('compass', %s, 'x')", one)
    assert refusal.sqlstate == "42704"

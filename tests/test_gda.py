"""The method `gda` in SQL: scores, terms, reliabilities and settings are those of the formula in float64."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.caltech import Caltech, Part
from helpers.gda import Gda, softmax, unit
from helpers.session import vector
from helpers.stored import stored
from helpers.toy import create_compass, create_random

SCORES = """
    SELECT array_agg(c.score ORDER BY c.category COLLATE "C"), array_agg(c.probability ORDER BY c.category COLLATE "C")
    FROM test_vectors t, susx.classify('caltech', t.embedding, k => 55, method => 'gda') c
    GROUP BY t.id ORDER BY t.id"""

pytestmark = pytest.mark.same_everywhere


@pytest.fixture(scope="module")
def caltech():
    return Caltech()


@pytest.fixture(scope="module")
def part():
    return Part()


def oracle(sql, name):
    """The discriminant of what stands in a classifier's table, and the categories in their order."""
    table = stored(sql, name)
    (settings,) = sql.rows("SELECT logit_scale, lambda, ridge FROM susx.classifier WHERE classifier = %s::regclass", name)
    return table.categories, Gda.fit(table.names, table.support, table.labels, table.labelled, *settings)


@pytest.mark.parametrize("support", ["labelled", "retrieved", "unequal"])
def test_every_score_and_probability(sql, part, support):
    part.load_queries(sql)
    if support == "unequal":
        # Of 0 to 16 images per category, half of them labelled.
        kept = [i for i in range(len(part.support)) if i % 16 < part.support_labels[i] % 17]
        part.create_classifier(sql, "caltech", np.array(kept))
        sql.run("UPDATE caltech SET origin = 'generated' WHERE kind = 'image' AND id % 2 = 0")
        sql.run("SELECT susx.alter_classifier('caltech', lambda => 1.5, ridge => 0.5)")
    else:
        part.create_classifier(sql, "caltech", None if support == "labelled" else np.array([], int))
    if support == "retrieved":
        sql.run("SELECT susx.build_support_set('caltech', 'test_vectors', per_class => 12)")
    categories, expected = oracle(sql, "caltech")
    rows = sql.rows(SCORES)
    order = sorted(range(55), key=lambda c: categories[c])
    scores = expected.scores(unit(part.queries))[:, order]
    assert np.abs(np.array([row[0] for row in rows]) - scores).max() < 1e-3
    assert np.abs(np.array([row[1] for row in rows]) - softmax(scores)).max() < 1e-3


def test_it_is_right_about_more_images_than_the_names(sql, caltech):
    caltech.load_queries(sql)
    caltech.create_classifier(sql, "caltech", np.array([], int))
    sql.run("SELECT susx.build_support_set('caltech', 'test_vectors')")
    right = "SELECT avg((susx.label('caltech', embedding, %s) = truth)::int)::float FROM test_vectors"
    assert sql.one(right, "gda") > sql.one(right, "zero-shot")
    accuracy = "SELECT top1 FROM susx.evaluate('caltech', 'SELECT embedding, truth FROM test_vectors', 'gda')"
    assert sql.one(accuracy + " WHERE category IS NULL") == pytest.approx(sql.one(right, "gda"), abs=1e-9)
    confusion = "SELECT sum(n) FROM susx.confusion_matrix('caltech', 'SELECT embedding, truth FROM test_vectors', 'gda')"
    diagonal = sql.one(confusion + " WHERE truth = predicted")
    assert diagonal == pytest.approx(1333 * sql.one(right, "gda"), abs=1e-6)


def test_terms_and_contributions(sql):
    create_random(sql, "toy", categories=5, dimensions=12, per_class=4)
    sql.run("UPDATE toy SET origin = 'retrieved' WHERE kind = 'image' AND id % 3 > 0")
    sql.run("DELETE FROM toy WHERE kind = 'image' AND category = 'c03'; SELECT susx.alter_classifier('toy', method => 'gda')")
    categories, expected = oracle(sql, "toy")
    query = np.random.default_rng(5).normal(size=12)
    names, support = expected.terms(unit(query[None]))
    rows = sql.rows("SELECT * FROM susx.explain('toy', %s::vector, 5, support_rows => 100)", vector(query))
    assert [row[1] for row in rows] == sum(([c] * (4 if c != "c03" else 1) for c in dict.fromkeys(row[1] for row in rows)), [])
    for category in categories:
        own = [row for row in rows if row[1] == category]
        c = categories.index(category)
        _, _, zero_shot, cache, kl, total, *_ = own[0]
        discriminant, reliability = own[0][10:12]
        assert (cache, kl) == (0, 0)
        assert zero_shot == pytest.approx(names[0, c], abs=1e-3)
        assert discriminant == pytest.approx(support[0, c], abs=1e-3)
        assert total == pytest.approx(zero_shot + discriminant, abs=1e-4)
        assert reliability == pytest.approx(expected.reliability[c], abs=1e-5)
        if category == "c03":
            assert own[0][6:10] == (None,) * 4 and reliability == 0
        else:
            assert sum(row[9] for row in own) == pytest.approx(discriminant, abs=1e-3)
            assert all(row[7] == category for row in own)
    # Of the other methods the new columns say nothing.
    assert all(row[10:12] == (0, None) for row in sql.rows("SELECT * FROM susx.explain('toy', %s::vector, 5, 'tip-x')", vector(query)))


def test_the_settings_count(sql):
    create_random(sql, "toy", categories=5, dimensions=12)
    classify = "SELECT array_agg(score ORDER BY category), array_agg(category ORDER BY rank) FROM susx.classify('toy', %s::vector, 5, %s)"
    query = vector(np.random.default_rng(5).normal(size=12))
    first = sql.rows(classify, query, "gda")
    sql.run("SELECT susx.alter_classifier('toy', ridge => 0.1)")
    second = sql.rows(classify, query, "gda")
    sql.run("SELECT susx.alter_classifier('toy', lambda => 30)")
    third = sql.rows(classify, query, "gda")
    assert len({tuple(rows[0][0]) for rows in (first, second, third)}) == 3
    sql.run("SELECT susx.alter_classifier('toy', lambda => 0)")
    assert sql.rows(classify, query, "gda")[0][1] == sql.rows(classify, query, "zero-shot")[0][1]


def test_without_a_support_set_it_is_zero_shot(sql):
    create_compass(sql)
    classify = "SELECT * FROM susx.classify('compass', '[1,0.4]'::vector, 2, %s)"
    assert sql.rows(classify, "gda") == sql.rows(classify, "zero-shot")
    explain = "SELECT * FROM susx.explain('compass', '[1,0.4]'::vector, 2, %s)"
    assert sql.rows(explain, "gda") == sql.rows(explain, "zero-shot")


def test_a_session_sees_changes_of_its_support_set(sql):
    """It is fitted when it is first used, and again when the table has changed."""
    create_random(sql, "toy", categories=4, dimensions=8, per_class=3)
    classify = "SELECT array_agg(score ORDER BY category) FROM susx.classify('toy', %s::vector, 4, 'gda')"
    query = np.random.default_rng(1).normal(size=8)
    for change in ("", "DELETE FROM toy WHERE kind = 'image' AND id % 5 = 0", "UPDATE toy SET origin = 'generated'"
                   " WHERE kind = 'image' AND id % 2 = 0"):
        if change:
            sql.run(change)
        categories, expected = oracle(sql, "toy")
        order = sorted(range(4), key=lambda c: categories[c])
        assert sql.one(classify, vector(query)) == pytest.approx(expected.scores(unit(query[None]))[0, order], abs=1e-3)

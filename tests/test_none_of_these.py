"""Images that are of none of the categories: how that is known, and what becomes of them."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.caltech import Caltech
from helpers.gated import Gated, Params
from helpers.gda import unit
from helpers.known import OTHER, add, best_reject, create_points_around_the_compass, known, otsu, vectors
from helpers.session import vector
from helpers.toy import create_points, create_random

pytestmark = pytest.mark.same_everywhere

ROWS = "SELECT key, rank, category, score, probability, known, error FROM susx.classify_rows('compass', %s) ORDER BY key"


@pytest.fixture
def toy(sql):
    """Ten categories in 48 dimensions, and 500 points, with probabilities that are not all 0 or 1."""
    create_random(sql, "toy", categories=10, dimensions=48, per_class=2)
    create_points(sql, "points", rows=500, dimensions=48)
    sql.run("SELECT susx.alter_classifier('toy', logit_scale => 12)")
    return sql


@pytest.fixture
def compass(sql):
    create_points_around_the_compass(sql)
    return sql


@pytest.mark.parametrize("others", [0, 1, 25])
def test_known_is_the_formula(toy, others):
    sql = toy
    negatives = np.random.default_rng(3).normal(size=(others, 48)).astype(np.float32)
    if others:
        assert add(sql, "toy", [f"n{i}" for i in range(others)], negatives) == others
    names = vectors(sql, "SELECT embedding FROM toy WHERE kind = 'prompt' ORDER BY id")
    queries = vectors(sql, "SELECT embedding FROM points ORDER BY id")
    # The probability is that of the default method, and the likeness is measured by the support images.
    probability = np.array(sql.column("SELECT c.probability FROM points p, susx.classify('toy', p.embedding) c ORDER BY p.id"))
    support = vectors(sql, "SELECT embedding FROM toy WHERE kind = 'image' ORDER BY id")
    labels = np.repeat(np.arange(10), 2)
    params = Params(*sql.rows("SELECT logit_scale, alpha, beta, gamma, temperature FROM susx.classifier WHERE classifier = 'toy'::regclass")[0])
    likeness = Gated.fit(unit(names), unit(support), labels, np.ones(20, bool), params).likeness(unit(queries))
    expected = known(queries, names, negatives.astype(np.float64), 12, probability, support, likeness)
    assert expected.std() > 0.05
    alone = sql.column("SELECT susx.known('toy', embedding) FROM points ORDER BY id")
    assert alone == pytest.approx(expected, abs=1e-4)
    for method in ("zero-shot", "tip-x", "gda"):
        shown = sql.column(
            "SELECT c.known FROM points p, susx.classify('toy', p.embedding, 1, %s) c ORDER BY p.id", method
        )
        assert shown == alone, "no method changes it"
    together = sql.rows(
        "SELECT key, known FROM susx.classify_rows('toy', 'SELECT id::bigint, embedding FROM points') ORDER BY key"
    )
    assert [row[1] for row in together] == pytest.approx(expected, abs=1e-4)
    # Without a support set.
    sql.run("DELETE FROM toy WHERE kind = 'image'")
    expected = known(queries, names, negatives.astype(np.float64), 12)
    assert sql.column("SELECT susx.known('toy', embedding) FROM points ORDER BY id") == pytest.approx(expected, abs=1e-4)


def test_on_images_of_other_categories(sql):
    """CLIP's vectors: with half of the names, the images of the other half are told apart by their names."""
    caltech = Caltech()
    here = np.arange(len(caltech.categories)) % 2 == 0
    names, others = caltech.prototypes[here], caltech.prototypes[~here]
    sql.run(
        "SELECT susx.create_classifier('half', %s, text_embeddings => %s::vector[])",
        [name for name, is_here in zip(caltech.categories, here) if is_here],
        [vector(row) for row in names],
    )
    assert add(sql, "half", [name for name, is_here in zip(caltech.categories, here) if not is_here], others) == len(others)
    caltech.load_queries(sql)
    found = np.array(sql.column("SELECT susx.known('half', embedding) FROM test_vectors ORDER BY id"))
    expected = known(caltech.queries.astype(np.float64), names.astype(np.float64), others.astype(np.float64), 100)
    assert found == pytest.approx(expected, abs=1e-3)
    is_known = here[caltech.labels]
    # The area under the ROC curve.
    assert (found[is_known][:, None] > found[~is_known]).mean() > 0.9


def test_what_is_not_known_gets_no_label(compass):
    sql = compass
    assert sql.one(OTHER) == 1
    query = "SELECT id, embedding FROM points"
    labels = "SELECT susx.label('compass', embedding) FROM points ORDER BY id"
    # Nothing is rejected unless somebody has asked for it.
    assert sql.column(labels) == ["east", "east", "north", "north", "east", "east"]
    assert [row[6] for row in sql.rows(ROWS, query)] == [None] * 6
    sql.run("SELECT susx.alter_classifier('compass', reject => 0.25)")
    assert sql.column(labels) == ["east", "east", "north", "north", None, "east"]
    rows = sql.rows(ROWS, query)
    assert [row[2] for row in rows] == sql.column(labels)
    share = sql.one("SELECT susx.known('compass', embedding) FROM points WHERE id = 5")
    assert share < 0.25
    key, *answer, found, error = rows[4]
    assert (key, answer, found) == (5, [None] * 4, pytest.approx(share, rel=1e-4))
    assert error.startswith("rejected: known ") and error.endswith(" is below 0.25")
    # With k categories it is still one row; what cannot be classified has another error, and NULL has none.
    mixed = "VALUES (1::bigint, ''[1,-0.9]''::vector), (2, ''[1]''), (3, NULL), (4, ''[1,0]'')".replace("''", "'")
    rows = sql.rows(
        "SELECT key, count(category), min(known), min(error) FROM susx.classify_rows('compass', %s, k => 2) "
        "GROUP BY key ORDER BY key",
        mixed,
    )
    assert [row[1] for row in rows] == [0, 0, 0, 2]
    assert [row[2] is None for row in rows] == [False, True, True, False]
    assert "rejected" in rows[0][3] and "expects 2 dimensions" in rows[1][3] and rows[2][3] is rows[3][3] is None
    # classify is for looking: it shows all.
    shown = sql.rows("SELECT category, known FROM susx.classify('compass', '[1,-0.9]'::vector, k => 2)")
    assert shown == [("east", share), ("north", share)]


def test_the_same_verdict_however_it_is_asked_for(toy):
    """The threshold is the answer of some row, where rounding could go either way."""
    sql = toy
    add(sql, "toy", ["n"], np.random.default_rng(4).normal(size=(1, 48)))
    for share in sql.column("SELECT susx.known('toy', embedding) FROM points WHERE id % 50 = 0"):
        sql.run("SELECT susx.alter_classifier('toy', reject => %s)", share)
        alone = sql.column("SELECT susx.label('toy', embedding) FROM points ORDER BY id")
        together = sql.rows(
            "SELECT key, category FROM susx.classify_rows('toy', 'SELECT id::bigint, embedding FROM points') ORDER BY key"
        )
        assert [row[1] for row in together] == alone
        assert None in alone


@pytest.mark.parametrize("index", ["", "CREATE INDEX ON points USING hnsw (embedding vector_cosine_ops); SET enable_seqscan = off"])
def test_a_support_set_of_what_is_known(compass, index):
    """A pool that also shows other things."""
    sql = compass
    sql.run(index)

    def build():
        sql.rows("SELECT * FROM susx.build_support_set('compass', 'points', 4)")
        return sql.column("SELECT source_key FROM compass WHERE origin = 'retrieved' ORDER BY source_key")

    assert build() == ["1", "2", "3", "4", "5", "6"]
    # What is nearer to a negative than to every category is left out.
    sql.one(OTHER)
    assert build() == ["1", "2", "3", "4", "6"]
    # The negatives stay.
    assert sql.one("SELECT count(*) FROM compass WHERE kind = 'negative'") == 1


def test_a_suggestion_is_otsus_threshold(toy):
    sql = toy
    sql.run("INSERT INTO points VALUES (1000, NULL), (1001, %s::vector)", vector(np.zeros(48)))
    before = sql.rows("SELECT * FROM susx.classifier WHERE classifier = 'toy'::regclass")
    for others in (0, 8, 60):
        if others:
            add(sql, "toy", [f"{others}-{i}" for i in range(others)], np.random.default_rng(others).normal(size=(others, 48)))
        shares = sql.column("SELECT susx.known('toy', embedding) FROM points WHERE id < 1000 ORDER BY id")
        found = sql.one("SELECT susx.suggest_reject('toy', 'points')")
        assert found == pytest.approx(otsu(np.array(shares, np.float32)), abs=1e-6)
    assert sql.rows("SELECT * FROM susx.classifier WHERE classifier = 'toy'::regclass") == before


def test_a_suggestion_for_any_table(compass):
    sql = compass
    sql.one(OTHER)
    suggest = "SELECT susx.suggest_reject('compass', 'other', 'v')"
    # It needs no key.
    sql.run("CREATE TABLE other (v vector); INSERT INTO other VALUES (NULL)")
    assert sql.one(suggest) is None
    sql.run("INSERT INTO other VALUES ('[1,0]'), ('[1,-1]')")
    assert 0.1 < sql.one(suggest) < 0.9
    refusal = sql.fails("SELECT susx.suggest_reject('compass', 'other')")
    assert refusal.sqlstate == "42703"
    sql.run("INSERT INTO other VALUES ('[1,2,3]')")
    refusal = sql.fails(suggest)
    assert refusal.message == 'an image of the pool: classifier "compass" expects 2 dimensions, not 3'


def test_evaluation_counts_what_got_no_label(compass):
    sql = compass
    sql.one(OTHER)
    query = "SELECT embedding, truth FROM points"
    figures = "SELECT category, n, failed, top1, top5, precision, recall, rejected FROM susx.evaluate('compass', %s)"
    assert sql.rows(figures, query)[0] == (None, 6, 0, 1, 1, 1, 1, 0)
    sql.run("SELECT susx.alter_classifier('compass', reject => 0.5)")
    assert sql.rows(figures, query) == [
        (None, 6, 0, pytest.approx(5 / 6), pytest.approx(5 / 6), 1, pytest.approx(7 / 8), 1),
        ("east", 4, 0, 0.75, 0.75, 1, 0.75, 1),
        ("north", 2, 0, 1, 1, 1, 1, 0),
    ]
    assert sql.rows("SELECT * FROM susx.confusion_matrix('compass', %s)", query) == [
        ("east", "east", 3),
        ("east", None, 1),
        ("north", "north", 2),
    ]


@pytest.fixture
def nulls(compass):
    """The points, the last two of which are of none of the categories, and an image of none that cannot be read."""
    compass.run("UPDATE points SET truth = NULL WHERE id > 4; INSERT INTO points VALUES (7, NULL, NULL)")
    compass.one(OTHER)
    return compass


def test_images_of_none_are_right_without_a_label(nulls):
    sql = nulls
    query = "SELECT embedding, truth FROM points"
    figures = "SELECT category, n, failed, top1, top5, precision, recall, f1, rejected, none FROM susx.evaluate('compass', %s)"
    matrix = "SELECT * FROM susx.confusion_matrix('compass', %s)"
    four, five = pytest.approx(4 / 6), pytest.approx(5 / 6)
    # Both get the label east.
    assert sql.rows(figures, query) == [
        (None, 6, 1, four, four, 0.75, 1, five, 0, 2),
        ("east", 2, 0, 1, 1, 0.5, 1, four, 0, 0),
        ("north", 2, 0, 1, 1, 1, 1, 1, 0, 0),
    ]
    right = [("east", "east", 2), ("north", "north", 2)]
    assert sql.rows(matrix, query) == [*right, (None, "east", 2), (None, None, 1)]
    # One of them gets none.
    sql.run("SELECT susx.alter_classifier('compass', reject => 0.5)")
    assert sql.rows(figures, query) == [
        (None, 6, 1, five, five, five, 1, pytest.approx(0.9), 1, 2),
        ("east", 2, 0, 1, 1, four, 1, pytest.approx(0.8), 0, 0),
        ("north", 2, 0, 1, 1, 1, 1, 1, 0, 0),
    ]
    assert sql.rows(matrix, query) == [*right, (None, "east", 1), (None, None, 2)]
    # They are no part of the means over the categories.
    sql.run("SELECT susx.alter_classifier('compass', reject => 0)")
    assert sql.rows(figures, f"{query} WHERE truth IS NULL")[0] == (None, 2, 1, 0, 0, None, None, None, 0, 2)


def test_calibration_counts_the_labels_that_were_given(nulls):
    sql = nulls
    answers = "SELECT sum(n)::int, sum(n * accuracy) FROM susx.calibration('compass', 'SELECT embedding, truth FROM points')"
    # Each label of an image of none is a wrong answer.
    assert sql.rows(answers) == [(6, pytest.approx(4))]
    sql.run("SELECT susx.alter_classifier('compass', reject => 0.5)")
    assert sql.rows(answers) == [(5, pytest.approx(4))]


TUNE = "SELECT * FROM susx.tune('toy', 'SELECT embedding, truth FROM labelled WHERE {} ORDER BY truth IS NULL, id')"
REJECT = "SELECT reject FROM susx.classifier WHERE classifier = 'toy'::regclass"


@pytest.fixture
def labelled(toy):
    """Twelve images of each category, and 200 of none, some of which are not far from a category."""
    sql = toy
    random = np.random.default_rng(5)
    names = vectors(sql, "SELECT embedding FROM toy WHERE kind = 'prompt' ORDER BY id")
    images = [(f"c{i % 10:02}", names[i % 10] + 2 * random.normal(size=48)) for i in range(120)]
    images += [(None, 0.02 * (i % 20) * names[i % 10] + random.normal(size=48)) for i in range(200)]
    sql.run("CREATE TABLE labelled (id int PRIMARY KEY, embedding vector(48), truth text)")
    rows = ((i, vector(image), truth) for i, (truth, image) in enumerate(images))
    sql.copy("labelled", ["id", "embedding", "truth"], rows)
    return sql


@pytest.mark.parametrize("others", [0, 8])
def test_tune_finds_the_threshold(labelled, others):
    sql = labelled
    if others:
        add(sql, "toy", [f"n{i}" for i in range(others)], np.random.default_rng(6).normal(size=(others, 48)))
    # It does not matter how many there are of each.
    sql.run("BEGIN")
    thrice = TUNE.replace("labelled", "labelled, generate_series(1, 1 + 2 * (truth IS NULL)::int)").format("true")
    (of_more,) = (row["reject"] for row in sql.dicts(thrice))
    sql.run("ROLLBACK")
    (found,) = (row["reject"] for row in sql.dicts(TUNE.format("true")))
    assert found == pytest.approx(of_more, abs=1e-4)
    assert sql.one(REJECT) == found
    # By the classifier as it is now.
    rows = sql.rows("SELECT truth IS NULL, susx.known('toy', embedding) FROM labelled ORDER BY id")
    is_none, share = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    assert found == pytest.approx(best_reject(share[~is_none], share[is_none]), abs=1e-4)
    assert found > 0


def test_images_of_none_tune_nothing_else(labelled):
    sql = labelled
    sql.run("INSERT INTO labelled VALUES (1000, NULL, NULL); SELECT susx.alter_classifier('toy', reject => 0.125)")
    figures = []
    for part in ("truth IS NOT NULL", "true"):
        sql.run("BEGIN")
        figures += sql.dicts(TUNE.format(part))
        assert sql.one(REJECT) == figures[-1]["reject"]
        sql.run("ROLLBACK")
    without, with_none = figures
    # Without them, nothing is learnt about the threshold.
    assert without.pop("reject") == 0.125 != with_none.pop("reject")
    assert (without.pop("failed"), with_none.pop("failed")) == (0, 1)
    assert without == with_none and without["n"] == 120
    # Of images of none alone, nothing can be learnt.
    refusal = sql.fails(TUNE.format("truth IS NULL"))
    assert (refusal.sqlstate, refusal.message) == ("22023", "the query returned no image to tune on")
    assert sql.one(REJECT) == 0.125
    # Nor without a query.
    assert sql.one("SELECT reject FROM susx.tune('toy')") == sql.one(REJECT) == 0.125

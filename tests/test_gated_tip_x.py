"""The method `gated-tip-x` in SQL: scores, terms, gates and reliabilities are those of the formula in float64."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.caltech import Caltech, Part
from helpers.gated import Gated, Params
from helpers.gda import unit
from helpers.session import array, vector
from helpers.stored import stored
from helpers.toy import create_compass, create_points, create_random

CATEGORIES = 20
SCORES = """
    SELECT array_agg(c.score ORDER BY c.category COLLATE "C")
    FROM test_vectors t, susx.classify('caltech', t.embedding, k => 55, method => {}) c
    GROUP BY t.id ORDER BY t.id"""

pytestmark = pytest.mark.same_everywhere


@pytest.fixture(scope="module")
def caltech():
    return Caltech()


@pytest.fixture(scope="module")
def part():
    return Part(CATEGORIES)


def oracle(sql, name):
    """The method fitted to what stands in a classifier's table, and the categories in their order."""
    table = stored(sql, name)
    (params,) = sql.rows(
        "SELECT logit_scale, alpha, beta, gamma, temperature FROM susx.classifier WHERE classifier = %s::regclass", name
    )
    return table.categories, Gated.fit(table.names, table.support, table.labels, table.labelled, Params(*params))


@pytest.mark.parametrize("support", ["labelled", "retrieved", "half", "unequal"])
def test_every_score(sql, part, support):
    part.load_queries(sql)
    if support == "unequal":
        # Of 0 to 16 images per category, half of them labelled; and one category with too few to count.
        kept = [i for i in range(len(part.support)) if i % 16 < part.support_labels[i] % 17]
        part.create_classifier(sql, "caltech", np.array(kept))
        sql.run("UPDATE caltech SET origin = 'generated' WHERE kind = 'image' AND (id %% 2 = 0 OR category = %s)", part.categories[1])
    else:
        part.create_classifier(sql, "caltech", None if support == "labelled" else np.array([], int))
    if support == "half":
        sql.run("DELETE FROM test_vectors WHERE truth = ANY (%s)", part.categories[::2])
    if support in ("retrieved", "half"):
        sql.run("SELECT susx.build_support_set('caltech', 'test_vectors', per_class => 12)")
    categories, expected = oracle(sql, "caltech")
    rows = sql.rows(SCORES.format("'gated-tip-x'"))
    order = sorted(range(len(categories)), key=lambda c: categories[c])
    queries = unit([array(text) for (text,) in sql.rows("SELECT embedding::text FROM test_vectors ORDER BY id")])
    scores = expected.scores(queries)[:, order]
    found = np.array([row[0] for row in rows])
    assert np.abs(found - scores).max() < 5e-3
    if support == "half":
        assert expected.claimed.max() > 0.1, "nothing tests the claims"
    if support == "labelled":
        # With labels it is TIP-X.
        tip_x = np.array([row[0] for row in sql.rows(SCORES.format("'tip-x'"))])
        assert np.abs(found - tip_x).max() < 1e-3


def test_it_is_the_default_once_there_is_a_support_set(sql, part):
    part.load_queries(sql)
    part.create_classifier(sql, "caltech", np.array([], int))
    assert sql.rows(SCORES.format("NULL")) == sql.rows(SCORES.format("'zero-shot'"))
    sql.run("SELECT susx.build_support_set('caltech', 'test_vectors')")
    assert sql.rows(SCORES.format("NULL")) == sql.rows(SCORES.format("'gated-tip-x'"))
    assert sql.rows(SCORES.format("NULL")) != sql.rows(SCORES.format("'tip-x'"))


@pytest.mark.parametrize("shown", ["all", "half", "a tenth", "nothing"])
def test_it_never_loses_to_the_names(sql, caltech, shown):
    """Real CLIP vectors; the pool shows all categories, every second one, every tenth, or images of something else."""
    caltech.load_queries(sql)
    caltech.create_classifier(sql, "caltech", np.array([], int))
    step = {"all": 1, "half": 2, "a tenth": 10, "nothing": 1}[shown]
    sql.run("CREATE TABLE pool AS SELECT id, embedding, truth FROM test_vectors WHERE truth = ANY (%s)", caltech.categories[::step])
    if shown == "nothing":
        # The images of each other's categories: the pool shows only what the second classifier does not name.
        sql.run("DELETE FROM caltech WHERE category = ANY (%s)", caltech.categories[::2])
        sql.run("DELETE FROM pool WHERE truth <> ALL (%s)", caltech.categories[::2])
        sql.run("DELETE FROM test_vectors WHERE truth = ANY (%s)", caltech.categories[::2])
    sql.run("ALTER TABLE pool ADD PRIMARY KEY (id); SELECT susx.build_support_set('caltech', 'pool')")

    def right(table: str, method: str | None) -> float:
        return sql.one(f"SELECT avg((susx.label('caltech', embedding, %s) = truth)::int)::float FROM {table}", method)

    assert right("test_vectors", None) >= right("test_vectors", "zero-shot") - 0.003
    if shown == "a tenth":
        # Of six categories among the names of 55, the names have 98 % right: there is no more to gain.
        assert right("pool", None) >= right("pool", "zero-shot") + 0.015


def test_terms_gates_and_contributions(sql):
    create_random(sql, "toy", categories=5, dimensions=12, per_class=6)
    sql.run("UPDATE toy SET origin = 'retrieved' WHERE kind = 'image' AND id % 3 > 0")
    sql.run("DELETE FROM toy WHERE kind = 'image' AND category = 'c03'")
    # Terms of the size of the names', so that an error in any of them shows.
    sql.run("SELECT susx.alter_classifier('toy', logit_scale => 4, alpha => 3, beta => 2, gamma => 0.5)")
    categories, expected = oracle(sql, "toy")
    # An image near a support image, half of which the gate lets in.
    random = np.random.default_rng(5)
    near = [expected.tip_x.support[i % 24] + 0.15 * random.normal(size=12) for i in range(200)]
    query = next(q for q in near if 0.1 < expected.gates(unit(q[None]))[0][0] < 0.9 and expected.terms(unit(q[None]))["claims"].min() < -0.1)
    terms = expected.terms(unit(query[None]))
    gates = [float(value[0]) for value in expected.gates(unit(query[None]))]
    rows = sql.dicts("SELECT * FROM susx.explain('toy', %s::vector, 5, support_rows => 100)", vector(query))
    assert {row["category"] for row in rows} == set(categories)
    for row in rows:
        c = categories.index(row["category"])
        for name, expected_term in terms.items():
            assert row[name] == pytest.approx(expected_term[0, c], abs=1e-3), name
        assert row["total"] == pytest.approx(sum(term[0, c] for term in terms.values()), abs=1e-3)
        assert [row["gate"], row["familiarity"], row["trust"]] == pytest.approx(gates, abs=1e-4)
        assert row["reliability"] == pytest.approx(expected.reliability[c], abs=1e-5)
        assert row["discriminant"] == 0
    for category in categories:
        own = [row for row in rows if row["category"] == category]
        added = own[0]["cache"] + own[0]["kl"]
        if category == "c03":
            # It has the terms of the category that gains most, less 0.5 times the gate, and shows its rows.
            assert {row["support_category"] for row in own} < set(categories) - {"c03"}
            added += 0.5 * gates[0]
        else:
            assert all(row["support_category"] == category for row in own)
        assert sum(row["contribution"] for row in own) == pytest.approx(added, abs=1e-3)
    # The other methods have no gate.
    others = sql.dicts("SELECT * FROM susx.explain('toy', %s::vector, 5, 'tip-x')", vector(query))
    assert all((row["gate"], row["familiarity"], row["trust"], row["claims"]) == (None, None, None, 0) for row in others)


def test_without_a_support_set_it_is_zero_shot(sql):
    create_compass(sql)
    classify = "SELECT * FROM susx.classify('compass', '[1,0.4]'::vector, 2, %s)"
    assert sql.rows(classify, "gated-tip-x") == sql.rows(classify, "zero-shot")


def test_a_label_depends_on_its_image_alone(sql):
    """In a table, where images are multiplied together, and alone; also where no gate is open."""
    create_random(sql, "toy", categories=12, dimensions=24, per_class=5)
    sql.run("UPDATE toy SET origin = 'retrieved' WHERE kind = 'image'")
    create_points(sql, "points", 400, 24)
    together = sql.rows("SELECT key, category FROM susx.classify_rows('toy', 'SELECT id, embedding FROM points', key => NULL::int) ORDER BY 1")
    assert together == sql.rows("SELECT id, susx.label('toy', embedding) FROM points ORDER BY 1")


def test_one_image_and_one_category(sql):
    """What has no neighbour, no spread and no other category still gets a label."""
    sql.run("SELECT susx.create_classifier('one', '{only}', text_embeddings => ARRAY['[1,0]']::vector[])")
    sql.run("INSERT INTO one (category, origin, embedding) VALUES ('only', 'retrieved', '[1,0.1]')")
    assert sql.rows("SELECT category, probability FROM susx.classify('one', '[0,1]'::vector)") == [("only", 1)]
    create_compass(sql)
    sql.run("INSERT INTO compass (category, origin, embedding) VALUES ('east', 'retrieved', '[1,0.1]')")
    assert sql.one("SELECT susx.label('compass', '[0.1,1]'::vector)") == "north"


def test_build_support_set_says_what_its_images_are_worth(sql, part):
    """With a pool that shows nothing of some categories."""
    part.load_queries(sql)
    part.create_classifier(sql, "caltech", np.array([], int))
    absent = part.categories[::5]
    sql.run("DELETE FROM test_vectors WHERE truth = ANY (%s)", absent)
    build = "SELECT category, images, reliability FROM susx.build_support_set('caltech', 'test_vectors', per_class => 12)"
    rows = sql.rows(build)
    categories, expected = oracle(sql, "caltech")
    assert [row[0] for row in rows] == categories
    assert [row[2] for row in rows] == pytest.approx(expected.reliability, abs=1e-4)
    (warning,) = [notice for notice in sql.notices if "does not seem to show" in notice]
    named = {category for category, *_ in rows if f" {category} (" in warning}
    assert named == {c for c, images, reliability in rows if images == 0 or reliability < 0.2}
    # Labelled images count in full.
    sql.run("SELECT susx.add_support('caltech', %s, ARRAY[%s]::vector[])", absent[0], vector(part.support[0]))
    again = sql.rows(build)
    _, expected = oracle(sql, "caltech")
    assert [row[2] for row in again] == pytest.approx(expected.reliability, abs=1e-4)


def test_the_reliability_ranks_categories_by_what_their_images_show(sql, caltech):
    """A pool of half of the categories: the share of true images in each category's support."""
    caltech.load_queries(sql)
    caltech.create_classifier(sql, "caltech", np.array([], int))
    sql.run("DELETE FROM test_vectors WHERE truth = ANY (%s)", caltech.categories[1::2])
    rows = sql.rows("SELECT category, reliability FROM susx.build_support_set('caltech', 'test_vectors') WHERE images > 0")
    true = dict(sql.rows(
        "SELECT c.category, avg((t.truth = c.category)::int)::float FROM caltech c JOIN test_vectors t ON t.id = c.source_key::int"
        " WHERE c.kind = 'image' GROUP BY 1"
    ))  # fmt: skip
    ranks = [np.argsort(np.argsort(values)) for values in ([r for _, r in rows], [true[c] for c, _ in rows])]
    assert np.corrcoef(ranks)[0, 1] >= 0.7
    absent = [(reliability < 0.2) == (true[category] < 0.5) for category, reliability in rows]
    assert np.mean(absent) >= 0.9

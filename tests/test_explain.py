"""explain(): the terms of the oracle, and the support images that they come from."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.caltech import Caltech
from helpers.pictures import encode, picture
from helpers.session import vector
from helpers.toy import create_compass

pytestmark = pytest.mark.same_everywhere

EXPLAIN = "SELECT * FROM susx.explain({})"


@pytest.fixture(scope="module")
def caltech():
    return Caltech()


@pytest.mark.parametrize("parameters", [(1, 5.5, 1), (10, 20, 0.1)])
@pytest.mark.parametrize("rows", ["all", "some"])
def test_terms_and_support_images(sql, caltech, parameters, rows):
    """On 25 queries: every term of every category, and every support image's part."""
    alpha, beta, gamma = parameters
    everything = np.arange(len(caltech.support))
    kept = everything if rows == "all" else everything[everything % 5 < 2 + caltech.support_labels % 3]
    caltech.create_classifier(sql, "caltech", kept)
    sql.run("SELECT susx.alter_classifier('caltech', %s::real, %s::real, %s::real)", *parameters)
    unit, labels = caltech.oracle.unit, caltech.support_labels[kept]
    features = unit(caltech.support[kept])
    queries = np.arange(0, 1333, 54)
    terms = caltech.oracle.logits(
        unit(caltech.queries[queries]), features, labels, unit(caltech.prototypes), *parameters
    )
    # The support images in the order of their ids, which is by category.
    order = np.argsort(labels, kind="stable")
    ids = sql.column("SELECT id FROM caltech WHERE kind = 'image' ORDER BY id")
    of_id = dict(zip(ids, order))
    for place, query in enumerate(queries):
        text = vector(caltech.queries[query])
        found = sql.rows(EXPLAIN.format("'caltech', %s::vector, 55, 'tip-x', 100"), text)
        ranking = sql.rows("SELECT rank, category, score FROM susx.classify('caltech', %s::vector, 55)", text)
        assert sorted({(row[0], row[1], row[5]) for row in found}) == ranking
        assert len(found) == len(kept) and {row[6] for row in found} == set(ids)
        affinity = features @ unit(caltech.queries[query : query + 1])[0]
        parts = {}
        for rank, category, zero_shot, cache, kl, total, id, own, found_affinity, contribution, *_ in found:
            c = caltech.categories.index(category)
            assert [zero_shot, cache, kl] == pytest.approx([term[place, c] for term in terms], abs=1e-3)
            assert zero_shot + cache + kl == pytest.approx(total, abs=1e-4)
            i = of_id[id]
            assert own == category and labels[i] == c
            assert found_affinity == pytest.approx(affinity[i], abs=1e-5)
            parts.setdefault(rank, []).append(contribution)
        for rank, contributions in parts.items():
            assert contributions == sorted(contributions, reverse=True)
            cache, kl = next(row[3:5] for row in found if row[0] == rank)
            assert sum(contributions) == pytest.approx(cache + kl, abs=2e-3)


def test_methods_and_defaults(sql, caltech):
    caltech.create_classifier(sql, "caltech")
    query = vector(caltech.queries[7])
    explain = EXPLAIN.format("'caltech', %s::vector, method => %s")
    rows = {method: sql.rows(explain, query, method) for method in ("zero-shot", "tip-adapter", "tip-x", "gated-tip-x", None)}
    assert rows[None] == rows["gated-tip-x"] and [row[0] for row in rows["tip-x"]] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert all(row[4] == 0 and row[3] > 0 for row in rows["tip-adapter"])
    assert [row[0] for row in rows["zero-shot"]] == [1, 2, 3]
    assert all(row[2] == row[5] and row[3:5] == (0, 0) and row[6:10] == (None,) * 4 for row in rows["zero-shot"])
    plain = [method for method in rows if method not in ("gated-tip-x", None)]
    # Discriminant and reliability; claims, gate, familiarity and trust.
    assert all(row[10:] == (0, None, 0, None, None, None) for method in plain for row in rows[method])
    one = sql.rows(EXPLAIN.format("'caltech', %s::vector, k => 1, support_rows => 1"), query)
    assert one == rows["gated-tip-x"][:1]


def test_a_category_without_support_shows_whose_terms_it_has(sql):
    create_compass(sql)
    sql.run("SELECT susx.add_support('compass', 'north', ARRAY['[0.2,1]', '[0,1]']::vector[])")
    rows = sql.rows(EXPLAIN.format("'compass', '[1,0.9]'::vector, method => 'tip-x'"))
    assert [(row[1], row[7]) for row in rows] == [("east", "north")] * 2 + [("north", "north")] * 2
    assert rows[0][3:5] == rows[2][3:5] and rows[0][2] > rows[2][2]


def test_image_files(sql):
    sql.run("SET susx.model = 'tiny_split'; SELECT susx.create_classifier('kinds', '{cat,dog}')")
    image = encode(picture(3))
    sql.run("SELECT susx.add_support('kinds', 'cat', ARRAY[%s])", image)
    by_file = sql.rows(EXPLAIN.format("'kinds', %s::bytea"), image)
    assert by_file == sql.rows(EXPLAIN.format("'kinds', susx.embed_image(%s)"), image)
    assert by_file[0][8] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("call", ["NULL, '[1,0]'::vector", "'compass', NULL::vector", "'compass', NULL::bytea"])
def test_nulls(sql, call):
    create_compass(sql)
    assert sql.rows(EXPLAIN.format(call)) == []


@pytest.mark.parametrize(
    "call, sqlstate, message",
    [
        ("'compass', '[1,0]'::vector, 0", "22023", "k must be at least 1"),
        ("'compass', '[1,0]'::vector, support_rows => -1", "22023", "support_rows must be at least 1"),
        ("'compass', '[1,0]'::vector, method => 'magic'", "42704", 'unknown method "magic"'),
        ("'compass', '[1,0,0]'::vector", "22000", "expects 2 dimensions, not 3"),
        ("'compass', '[0,0]'::vector", "22000", "must not be all zeros"),
        ("'compass', '\\x00'::bytea", "55000", "has no model"),
        ("'pg_class', '[1,0]'::vector", "42704", '"pg_class" is not a classifier'),
    ],
)
def test_refusals(sql, call, sqlstate, message):
    create_compass(sql)
    refusal = sql.fails(EXPLAIN.format(call))
    assert refusal.sqlstate == sqlstate and message in refusal.message

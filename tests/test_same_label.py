"""The same row gives the same label and score alone, in any batch, in a parallel query, in any order."""

from __future__ import annotations

import json

import psycopg
import pytest

from conftest import PG
from helpers.pictures import encode, picture
from helpers.processes import servers
from helpers.toy import create_compass, create_points, create_random

pytestmark = pytest.mark.same_everywhere

PARALLEL = """
    SET max_parallel_workers_per_gather = 4; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
    SET min_parallel_table_scan_size = 0"""
SERIAL = "SET max_parallel_workers_per_gather = 0"

SCORES = "SELECT p.id, c.category, c.score, c.probability FROM points p, susx.classify('toy', p.embedding, 3{}) c"


@pytest.fixture
def toy(sql):
    create_random(sql, "toy", categories=10, dimensions=48)
    create_points(sql, "points", rows=3000, dimensions=48)


def workers(sql, query):
    """How many parallel workers ran it."""

    def launched(node):
        return node.get("Workers Launched", 0) + sum(launched(child) for child in node.get("Plans", []))

    (plan,) = sql.one("EXPLAIN (ANALYZE, FORMAT json) " + query)
    return launched(plan["Plan"])


def ordered(sql, query):
    return sorted(sql.rows(query))


@pytest.mark.parametrize("method", ["zero-shot", "tip-adapter", "tip-x", "gated-tip-x", "gda", "likeness"])
def test_vectors(sql, toy, method):
    """To the last bit: each row is computed by itself."""
    query = SCORES.format(f", '{method}'")
    sql.run(SERIAL)
    expected = ordered(sql, query)
    assert len(expected) == 9000 and len({row[1] for row in expected}) == 10

    alone = [row for i in range(0, 3000, 100) for row in ordered(sql, f"{query} WHERE p.id = {i}")]
    assert alone == [row for row in expected if row[0] % 100 == 0]
    assert ordered(sql, f"{query} WHERE p.id BETWEEN 1000 AND 1099") == [
        row for row in expected if 1000 <= row[0] <= 1099
    ]
    assert sorted(sql.rows(f"SELECT * FROM ({query}) s ORDER BY random()")) == expected

    sql.run(PARALLEL)
    assert workers(sql, query) > 0
    assert ordered(sql, query) == expected


@pytest.mark.parametrize("debug", ["on", "regress"])
def test_a_query_that_postgresql_puts_into_a_worker(sql, toy, debug):
    query = SCORES.format("") + " WHERE p.id < 200"
    expected = ordered(sql, query)
    labels = "SELECT id, susx.label('toy', embedding) FROM points WHERE id < 200"
    expected_labels = ordered(sql, labels)
    sql.run(f"SET {'debug_parallel_query' if int(PG) >= 16 else 'force_parallel_mode'} = {debug}")
    assert ordered(sql, query) == expected
    assert ordered(sql, labels) == expected_labels
    assert expected_labels == [(row[0], row[1]) for row in sorted(expected, key=lambda row: (row[0], -row[2]))[::3]]


def test_aggregates_and_new_tables_in_parallel(sql, toy):
    count = "SELECT susx.label('toy', embedding) AS label, count(*) FROM points GROUP BY 1"
    sql.run(SERIAL)
    expected = ordered(sql, count)
    sql.run(PARALLEL)
    assert workers(sql, count) > 0
    assert ordered(sql, count) == expected
    sql.run("CREATE TABLE labelled AS SELECT id, susx.label('toy', embedding) AS label FROM points")
    assert ordered(sql, "SELECT label, count(*) FROM labelled GROUP BY label") == expected


def test_what_this_transaction_did_counts_in_its_parallel_queries(sql, toy):
    label = "SELECT min(susx.label('toy2', embedding)), max(susx.label('toy2', embedding)), count(*) FROM points"
    sql.run("BEGIN")
    create_random(sql, "toy2", categories=5, dimensions=48)
    sql.run(SERIAL)
    expected = sql.rows(label)
    sql.run(PARALLEL)
    assert workers(sql, label) > 0
    assert sql.rows(label) == expected
    sql.run("UPDATE toy2 SET category = 'renamed ' || category; SAVEPOINT s; DELETE FROM toy2 WHERE category LIKE '%3'")
    assert workers(sql, label) > 0
    assert sql.rows(label) == [("renamed c00", "renamed c04", 3000)]
    assert sql.one("SELECT count(DISTINCT susx.label('toy2', embedding)) FROM points") == 4
    sql.run("ROLLBACK TO s")
    assert sql.one("SELECT count(DISTINCT susx.label('toy2', embedding)) FROM points") == 5
    sql.run("COMMIT")


def test_a_temporary_classifier(sql, toy):
    """A worker cannot read this session's temporary tables: refused, or labels in parallel queries too."""
    try:
        create_compass(sql, "pg_temp.compass")
    except psycopg.errors.FeatureNotSupported as error:
        assert "temporary" in str(error)
        return
    sql.run("CREATE TABLE plane AS SELECT id, subvector(embedding, 1, 2) AS embedding FROM points; ANALYZE plane")
    label = "SELECT susx.label('compass', embedding), count(*) FROM plane GROUP BY 1"
    sql.run(SERIAL)
    expected = ordered(sql, label)
    sql.run(PARALLEL)
    assert workers(sql, label) > 0
    assert ordered(sql, label) == expected


@pytest.fixture
def pictures(sql):
    sql.run("CREATE TABLE pictures (id int PRIMARY KEY, image bytea)")
    sql.copy("pictures", ["id", "image"], ((i, encode(picture(i, (90, 70)))) for i in range(120)))
    sql.run("ANALYZE pictures")
    sql.run("SELECT susx.create_classifier('kinds', '{cat,dog,bird,house}', model => 'tiny_split')")
    sql.run(
        "SELECT susx.add_support('kinds', 'dog', array_agg(susx.embed_image(image, 'tiny_split'))) "
        "FROM pictures WHERE id < 4"
    )


def test_images(sql, cluster, pictures):
    """The model sees an image in whatever batch it comes; sums of floats may differ in the last digits."""
    query = "SELECT p.id, c.category, c.score FROM pictures p, susx.classify('kinds', p.image, 4) c"
    sql.run(SERIAL)
    expected = {(i, category): score for i, category, score in sql.rows(query)}
    assert len(expected) == 480

    def check(rows):
        assert {row[:2] for row in rows} == set(expected)
        assert all(score == pytest.approx(expected[i, category], abs=1e-3) for i, category, score in rows)

    sql.run(PARALLEL)
    assert workers(sql, query) > 0
    check(sql.rows(query))
    assert len(servers(cluster.data_dir)) == 1
    check(
        sql.rows(
            """
        SELECT e.ord - 1, c.category, c.score
        FROM susx.embed_images((SELECT array_agg(image ORDER BY id) FROM pictures), 'tiny_split') e,
             susx.classify('kinds', e.embedding, 4) c"""
        )
    )


def test_explain_does_not_run_anything(sql, pictures):
    """A plan is made without a single image embedded: the functions are not folded into constants."""
    plan = sql.one("EXPLAIN (FORMAT json) SELECT susx.embed_image('broken'), susx.label('kinds', 'broken'::bytea)")
    assert "Result" in json.dumps(plan)


@pytest.mark.parametrize("labelled", ["true", "false", "id % 3 = 0"])
@pytest.mark.parametrize("method", ["gated-tip-x", "tip-x", "gda"])
def test_a_label_is_the_best_category(sql, labelled, method):
    """Though a label looks only at categories that may win. Three categories are hardly in the support set."""
    create_random(sql, "toy", categories=12, dimensions=48, per_class=40)
    create_points(sql, "points", rows=600, dimensions=48)
    sql.run("DELETE FROM toy WHERE kind = 'image' AND category < 'c03' AND id % 40 > 0")
    sql.run(f"UPDATE toy SET origin = 'retrieved' WHERE kind = 'image' AND NOT ({labelled})")
    # Some points are near support images.
    sql.run(
        "INSERT INTO points SELECT 1000 + f.id, f.embedding + l2_normalize(p.embedding) "
        "FROM toy f JOIN points p ON p.id = f.id % 600 WHERE f.kind = 'image' AND f.id % 2 = 0"
    )
    expected = sql.rows(
        "SELECT id, category FROM points p, susx.classify('toy', p.embedding, 1, method => %s) ORDER BY id", method
    )
    assert len(expected) > 750 and len({category for _, category in expected}) == 12
    label = "SELECT id, susx.label('toy', embedding, %s) FROM points ORDER BY id"
    assert sql.rows(label, method) == expected
    # Many at a time, with and without numbers.
    for columns in ("", ", probability_column => 'probability'"):
        sql.run("ALTER TABLE points DROP COLUMN IF EXISTS label, ADD COLUMN label text")
        sql.run("ALTER TABLE points ADD COLUMN IF NOT EXISTS probability real")
        sql.run(f"CALL susx.label_table('points', 'toy', method => '{method}'{columns})")
        assert sql.rows("SELECT id, label FROM points ORDER BY id") == expected

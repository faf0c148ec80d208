"""Very large and empty inputs: the same answers, or an error that says what was too large."""

from __future__ import annotations

import math

import numpy as np
import pytest

from helpers.pictures import encode, picture
from helpers.session import vector
from helpers.toy import create_compass, create_points, create_random

pytestmark = pytest.mark.same_everywhere


def test_little_work_mem(sql):
    """What does not fit goes to disk, and is the same."""
    create_random(sql, "c", categories=12, dimensions=16, per_class=4)
    create_points(sql, "points", rows=4000, dimensions=16)
    queries = (
        "SELECT * FROM susx.classify_rows('c', 'SELECT id, embedding FROM points', k => 5)",
        "SELECT * FROM susx.build_support_set('c', 'points', key_column => 'id')",
        "SELECT category, source_key FROM c ORDER BY id",
        "SELECT * FROM susx.evaluate('c', 'SELECT embedding, ''c00'' FROM points')",
        "SELECT * FROM susx.tune('c')",
    )
    plenty, little = [], []
    for results, work_mem in ((plenty, "64MB"), (little, "64kB")):
        sql.run("BEGIN")
        sql.run(f"SET LOCAL work_mem = '{work_mem}'; SET LOCAL hash_mem_multiplier = 1")
        results += [sql.rows(query.replace("SELECT id,", "SELECT id::int8,")) for query in queries]
        sql.run("ROLLBACK")
    assert plenty == little
    assert len(plenty[0]) == 20_000


def test_no_room_for_temporary_files(sql):
    """The answers of a function in FROM are written down: where that is not allowed it is an error, and no more."""
    create_compass(sql)
    sql.run("SET work_mem = '64kB'; SET temp_file_limit = '512kB'")
    # In FROM, generate_series itself would be written down.
    many = "'SELECT generate_series(1::int8, 60000), ''[1,0.1]''::vector'"
    refusal = sql.fails(f"SELECT count(*) FROM susx.classify_rows('compass', {many})")
    assert refusal.sqlstate == "53400" and "temp_file_limit" in refusal.message
    # One by one they need no room.
    query = f"SELECT count((answer).key) FROM (SELECT susx.classify_rows('compass', {many}) AS answer) s"
    assert sql.one(query) == 60_000
    assert sql.one("SELECT susx.label('compass', '[1,0]'::vector)") == "east"


def test_ten_thousand_categories(sql):
    names = [f"category {i}" for i in range(10_000)]
    # On a circle each is nearest to itself.
    angles = 2 * math.pi * np.arange(10_000) / 10_000
    vectors = [vector([math.cos(a), math.sin(a)]) for a in angles]
    sql.run("SELECT susx.create_classifier('many', %s, text_embeddings => %s::vector[])", names, vectors)
    assert sql.one("SELECT count(DISTINCT category) FROM many") == 10_000
    for i in (0, 1, 4321, 9999):
        found = sql.rows("SELECT rank, category FROM susx.classify('many', %s::vector, 3)", vectors[i])
        assert found[0] == (1, names[i])
        assert {name for _, name in found} == {names[i - 1], names[i], names[(i + 1) % 10_000]}
    sql.run("SELECT susx.add_support('many', %s, %s::vector[])", names[7], [vectors[7]])
    assert sql.one("SELECT susx.label('many', %s::vector)", vectors[7]) == names[7]
    assert sql.one("SELECT count(*) FROM susx.classify('many', %s::vector, 20000)", vectors[0]) == 10_000


def test_a_long_name(sql):
    """10 kB, in letters of two bytes."""
    name = "é" * 5_000
    sql.run("SELECT susx.create_classifier('long', ARRAY[%s, 'dog'], model => 'tiny_split')", name)
    prompt = sql.one("SELECT prompt FROM long WHERE category = %s", name)
    assert prompt == f"a photo of a {name}."
    assert sql.one("SELECT susx.label('long', susx.embed_text(%s, 'tiny_split'))", prompt) == name
    sql.run("SELECT susx.add_support('long', %s, ARRAY[%s])", name, encode(picture(1)))
    sql.run("SELECT susx.add_prompts('long', jsonb_build_object(%s::text, jsonb_build_array(%s::text)))", name, prompt)
    assert sql.one("SELECT count(*) FROM long WHERE category = %s", name) == 3
    refusal = sql.fails("SELECT susx.add_support('long', %s, ARRAY[%s])", name + "!", encode(picture(1)))
    assert refusal.sqlstate == "42704"


def test_one_category(sql):
    """With a single category, the label is certain."""
    sql.run("SELECT susx.create_classifier('one', '{only}', text_embeddings => '{\"[1,0]\"}'::vector[])")
    everything = "SELECT category, probability FROM susx.classify('one', %s::vector, 5, %s)"
    for method in ("zero-shot", "tip-adapter", "tip-x", "gated-tip-x"):
        assert sql.rows(everything, "[0,1]", method) == [("only", 1)]
    sql.run("CREATE TABLE pool AS SELECT i AS id, ('[1,' || i || ']')::vector(2) AS embedding FROM generate_series(1, 9) i")
    assert sql.rows("SELECT category, images FROM susx.build_support_set('one', 'pool', 4, key_column => 'id')") == [
        ("only", 4)
    ]
    for method in ("zero-shot", "tip-adapter", "tip-x", "gated-tip-x"):
        assert sql.rows(everything, "[0,1]", method) == [("only", 1)]
    ((accuracy,),) = sql.rows("SELECT tip_x FROM susx.tune('one')")
    assert accuracy == 1
    assert sql.rows(
        "SELECT top1, f1 FROM susx.evaluate('one', 'SELECT embedding, ''only'' FROM pool') WHERE category IS NULL"
    ) == [(1, 1)]


@pytest.mark.parametrize("method", ["zero-shot", "tip-adapter", "tip-x", "gated-tip-x"])
def test_images_that_are_all_the_same(sql, method):
    """The affinities of the support images are equal, and nothing is divided by their range."""
    create_compass(sql)
    sql.run("CREATE TABLE pool (id int PRIMARY KEY, embedding vector(2))")
    sql.run("INSERT INTO pool SELECT i, '[0.9,0.1]' FROM generate_series(1, 60) i")
    sql.run("SELECT * FROM susx.build_support_set('compass', 'pool')")
    assert sql.one("SELECT count(*) FROM compass WHERE kind = 'image'") == 32
    for query, expected in (("[0.9,0.1]", "east"), ("[0.1,0.9]", "north")):
        rows = sql.rows("SELECT category, score, probability FROM susx.classify('compass', %s::vector, 2, %s)", query, method)
        assert rows[0][0] == expected
        assert all(math.isfinite(score) and 0 <= probability <= 1 for _, score, probability in rows)
        assert sum(row[2] for row in rows) == pytest.approx(1, abs=1e-5)
    ((figure,),) = sql.rows("SELECT tip_x FROM susx.tune('compass')")
    assert 0 <= figure <= 1


def test_a_bytea_of_a_gigabyte(sql, cluster):
    """More than susx.max_image_bytes: an error for this one, made before anything is sent."""
    size = 1_000_000_000
    refusal = sql.fails(f"SELECT susx.embed_image(convert_to(repeat('x', {size}), 'SQL_ASCII'), 'tiny_split')")
    assert refusal.sqlstate == "54000"
    assert str(size) in refusal.message and "susx.max_image_bytes" in refusal.hint
    assert sql.one("SELECT vector_dims(susx.embed_image(%s, 'tiny_split'))", encode(picture(1))) == 32

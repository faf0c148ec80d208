"""Search by text: ORDER BY embedding <=> susx.embed_text('…') embeds the text once per statement, and not once per row."""

from __future__ import annotations

import pytest

from helpers.pictures import encode, picture
from helpers.session import array

TEXTS, IMAGES = "texts", "images"


@pytest.fixture
def photos(sql):
    """60 rows with different embeddings."""
    sql.run(
        "CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector(32)); "
        "INSERT INTO photos SELECT i, NULL, e.embedding FROM generate_series(1, 60) i, "
        "susx.embed_texts((SELECT array_agg('picture ' || j) FROM generate_series(1, 60) j), 'tiny_split') e WHERE ord = i"
    )
    return sql


def made(sql, what: str, query: str, *arguments: object):
    """The answer, and how many inputs the inference process has embedded for it."""
    before = sql.one(f"SELECT {what} FROM susx.stat_server")
    rows = sql.rows(query, *arguments)
    return rows, sql.one(f"SELECT {what} FROM susx.stat_server") - before


def test_order_by_a_text(photos):
    plain = "SELECT id FROM photos ORDER BY embedding <=> susx.embed_text('a red car', 'tiny_split') LIMIT 5"
    once = "SELECT id FROM photos ORDER BY embedding <=> (SELECT susx.embed_text('a red car', 'tiny_split')) LIMIT 5"
    found, embedded = made(photos, TEXTS, plain)
    assert embedded == 1
    assert found == photos.rows(once) and len(found) == 5
    # Another statement asks again: nothing outlives the statement.
    assert made(photos, TEXTS, plain)[1] == 1


def test_texts_models_and_kinds_are_told_apart(photos):
    rows, embedded = made(
        photos,
        TEXTS,
        "SELECT susx.embed_text(t, m)::text, t, m FROM generate_series(1, 10), "
        "unnest(ARRAY['a', 'b', 'c']) t, unnest(ARRAY['tiny_split', 'tiny_fused']) m",
    )
    assert embedded == 6 and len(rows) == 60
    alone = {(t, m): photos.one("SELECT susx.embed_text(%s, %s)::text", t, m) for _, t, m in rows}
    assert all(found == alone[t, m] for found, t, m in rows)


def test_a_changed_default_model(photos):
    """susx.model decides what a call without a model means, also when it changes between two calls of a statement."""
    rows = photos.rows(
        "SELECT set_config('susx.model', m, false), susx.embed_text('a')::text FROM unnest(ARRAY['tiny_split', 'tiny_siglip']) m"
    )
    for model, found in rows:
        assert found == photos.one("SELECT susx.embed_text('a', %s)::text", model)
    assert rows[0][1] != rows[1][1]


def test_more_texts_than_are_kept(photos):
    rows, embedded = made(
        photos, TEXTS, "SELECT i % 40, susx.embed_text('t' || i % 40, 'tiny_split')::text FROM generate_series(0, 79) i"
    )
    assert 40 <= embedded <= 80
    for number, found in rows[::7]:
        assert found == photos.one("SELECT susx.embed_text(%s, 'tiny_split')::text", f"t{number}")


def test_an_image_in_one_query(photos):
    images = [encode(picture(seed, (40, 30))) for seed in range(3)]
    photos.copy("photos", ["id", "image"], ((100 + i, image) for i, image in enumerate(images)))
    photos.run("SELECT susx.create_classifier('kinds', '{cat,dog}', model => 'tiny_split')")
    query = """
        SELECT id, susx.label('kinds', image), susx.known('kinds', image), c.probability, susx.label('kinds', image, 'zero-shot')
        FROM photos, susx.classify('kinds', image) c WHERE image IS NOT NULL ORDER BY id"""
    rows, embedded = made(photos, IMAGES, query)
    assert embedded == 3
    for (i, label, known, probability, zero_shot), image in zip(rows, images):
        assert label == zero_shot == photos.one("SELECT susx.label('kinds', %s::bytea)", image)
        assert known == photos.one("SELECT susx.known('kinds', %s::bytea)", image)
        assert probability == photos.one("SELECT probability FROM susx.classify('kinds', %s::bytea)", image)


def test_a_failure_is_not_kept(photos):
    """Each row's own error, and none of them for another."""
    photos.run("INSERT INTO photos VALUES (200, 'no image'), (201, %s)", encode(picture(1, (40, 30))))
    assert photos.fails("SELECT susx.embed_image(image, 'tiny_split') FROM photos WHERE id = 200").sqlstate == "22P03"
    assert photos.one("SELECT vector_dims(susx.embed_image(image, 'tiny_split')) FROM photos WHERE id = 201") == 32


def test_in_functions_and_cursors(photos):
    photos.run(
        "CREATE FUNCTION nearest(t text) RETURNS int LANGUAGE sql STABLE AS "
        "$$ SELECT id FROM photos ORDER BY embedding <=> susx.embed_text(t, 'tiny_split') LIMIT 1 $$"
    )
    rows, embedded = made(photos, TEXTS, "SELECT i, nearest('t' || i % 3) FROM generate_series(1, 6) i")
    assert embedded <= 6
    for i, found in rows:
        assert found == photos.one("SELECT nearest(%s)", f"t{i % 3}")
    photos.run(
        "BEGIN; DECLARE c CURSOR FOR SELECT embedding <=> susx.embed_text('a', 'tiny_split') FROM photos ORDER BY id"
    )
    expected = array(photos.one("SELECT susx.embed_text('a', 'tiny_split')::text"))
    for row in range(1, 4):
        ((distance,),) = photos.rows("FETCH 1 FROM c")
        stored = array(photos.one("SELECT embedding::text FROM photos WHERE id = %s", row))
        assert abs(distance - (1 - expected @ stored)) < 1e-5
    photos.run("COMMIT")

"""susx.add_embedding_column: a column that fits the model, so that it can be indexed."""

from __future__ import annotations

import pytest

from helpers.pictures import encode, picture

ADD = "SELECT susx.add_embedding_column({})"
TYPE = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s"


@pytest.fixture
def photos(sql):
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, image bytea)")
    sql.run("INSERT INTO photos VALUES (1, %s), (2, %s)", encode(picture(1)), encode(picture(2)))
    return sql


def test_from_a_table_of_images_to_an_index(photos):
    """No dimensions to look up, none to forget."""
    assert photos.one(ADD.format("'photos', model => 'tiny_split'")) == "vector(32)"
    assert photos.one(TYPE, "photos", "embedding") == "vector(32)"
    photos.run("CALL susx.embed_table('photos', model => 'tiny_split')")
    photos.run("CREATE INDEX ON photos USING hnsw (embedding vector_cosine_ops)")
    assert photos.one("SELECT count(*) FROM photos WHERE (embedding <=> susx.embed_image(image, 'tiny_split')) < 1e-5") == 2


def test_the_default_model_and_another_column(photos):
    assert photos.one(ADD.format("'photos'")) == "vector(512)"
    assert photos.one(ADD.format("'photos', 'Other One', 'efficientnet-lite2'")) == photos.one(TYPE, "photos", "Other One")


def test_again_it_changes_nothing(photos):
    for _ in range(2):
        assert photos.one(ADD.format("'photos', model => 'tiny_split'")) == "vector(32)"
    refusal = photos.fails(ADD.format("'photos'"))
    assert refusal.sqlstate == "42701"
    assert "has 32 dimensions" in refusal.message and "makes 512" in refusal.message and "embedding_column" in refusal.hint
    assert photos.one(TYPE, "photos", "embedding") == "vector(32)"


def test_a_column_without_dimensions(photos):
    photos.run("ALTER TABLE photos ADD embedding vector; SET client_min_messages = notice")
    assert photos.one(ADD.format("'photos', model => 'tiny_split'")) == "vector"
    assert any("has no dimensions" in notice for notice in photos.notices)


def test_a_column_of_another_type(photos):
    photos.run("ALTER TABLE photos ADD embedding real[]")
    assert "real[], not vector" in photos.fails(ADD.format("'photos'")).message


def test_partitioned_tables_and_models_that_are_none(sql):
    sql.run(
        "CREATE TABLE photos (id int PRIMARY KEY, image bytea) PARTITION BY RANGE (id); "
        "CREATE TABLE low PARTITION OF photos DEFAULT"
    )
    assert sql.one(ADD.format("'photos', model => 'tiny_split'")) == "vector(32)"
    assert sql.one(TYPE, "low", "embedding") == "vector(32)"
    assert sql.fails(ADD.format("'photos', 'other', 'nothing'")).sqlstate == "42704"
    sql.run("CREATE VIEW v AS TABLE photos")
    assert sql.fails(ADD.format("'v', 'other'")).sqlstate == "42809"
    sql.run("SET default_transaction_read_only = on")
    assert sql.fails(ADD.format("'photos', 'other'")).sqlstate == "25006"


def test_it_takes_the_rights_to_alter_the_table(photos, connect, schema):
    photos.run(f"CREATE ROLE guest LOGIN; GRANT USAGE ON SCHEMA {schema} TO guest; GRANT SELECT, UPDATE ON photos TO guest")
    try:
        guest = connect(user="guest")
        guest.run(f"SET search_path = {schema}, public")
        assert guest.fails(ADD.format("'photos'")).sqlstate == "42501"
        guest.close()
    finally:
        photos.run("DROP OWNED BY guest; DROP ROLE guest")

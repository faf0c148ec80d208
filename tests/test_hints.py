"""What a new user gets wrong, and what the HINT says to do about it."""

from __future__ import annotations

import pytest

from helpers.session import Session
from helpers.toy import create_compass, create_points


@pytest.fixture
def start(sql: Session) -> Session:
    create_compass(sql, "kinds")
    create_points(sql, "photos", 20, 2)
    sql.run("ALTER TABLE photos ADD label text, ADD image bytea")
    return sql


def test_a_column_that_is_missing(start, schema):
    start.run("ALTER TABLE photos DROP embedding")
    for call in (
        "CALL susx.embed_table('photos')",
        "SELECT susx.build_support_set('kinds', 'photos')",
        "SELECT * FROM susx.duplicates('photos')",
    ):
        refusal = start.fails(call)
        assert refusal.sqlstate == "42703"
        assert f"ALTER TABLE {schema}.photos ADD COLUMN embedding vector(" in refusal.hint
        assert "susx.models()" in refusal.hint
    # The statement works as it stands.
    start.run(refusal.hint[refusal.hint.index("ALTER TABLE") :])
    assert start.one("SELECT count(*) = count(*) FILTER (WHERE embedding IS NULL) FROM photos")


def test_a_column_of_another_name(start):
    start.run('ALTER TABLE photos RENAME embedding TO "Vec"; ALTER TABLE photos ADD small vector(2)')
    refusal = start.fails("SELECT susx.build_support_set('kinds', 'photos')")
    assert refusal.hint == "Its columns of vectors are: Vec, small."


def test_names_of_classifiers(start):
    for name in ("My Kinds", "kinds!", "2kinds"):
        refusal = start.fails("SELECT susx.create_classifier(%s, '{a,b}')", name)
        assert refusal.sqlstate == "22023" and '"My Kinds"' in refusal.hint
    start.run(
        "SELECT susx.create_classifier('\"My Kinds\"', '{a,b}', text_embeddings => ARRAY['[1,0]', '[0,1]']::vector[])"
    )
    assert start.one("SELECT susx.label('\"My Kinds\"', '[1,0]'::vector)") == "a"


def test_a_name_that_is_taken(start, schema):
    again = "SELECT susx.create_classifier('{}', '{{a,b}}', text_embeddings => ARRAY['[1,0]', '[0,1]']::vector[])"
    for name in ("kinds", "photos"):
        refusal = start.fails(again.format(name))
        assert refusal.sqlstate == "42P07"
        assert refusal.hint == f"Take another name, or remove what has it: DROP TABLE {schema}.{name};"
    start.run(refusal.hint[refusal.hint.index("DROP TABLE") :])
    start.run(again.format("photos"))


QUERIES = {
    "SELECT * FROM susx.evaluate('kinds', {})": "SELECT embedding, category FROM",
    "SELECT * FROM susx.calibration('kinds', {})": "SELECT embedding, category FROM",
    "SELECT * FROM susx.confusion_matrix('kinds', {})": "SELECT embedding, category FROM",
    "SELECT * FROM susx.tune('kinds', {})": "SELECT embedding, category FROM",
    "SELECT * FROM susx.classify_rows('kinds', {})": "SELECT id, embedding FROM",
    "SELECT * FROM susx.review_queue('kinds', {})": "SELECT id, embedding FROM",
    "SELECT susx.report('kinds', {})": "SELECT id, image, embedding FROM",
    "SELECT susx.contact_sheet({})": "SELECT image, id FROM",
}


@pytest.mark.parametrize("call", QUERIES)
def test_a_table_where_a_query_is_expected(start, call):
    start.run("SELECT susx.build_support_set('kinds', 'photos')")
    for name in ("photos", '"photos"', "public.photos"):
        refusal = start.fails(call.format("%s"), name)
        assert refusal.sqlstate == "42601"
        assert "is a query, not the name of a table" in refusal.hint and QUERIES[call] in refusal.hint
    # A query with a mistake keeps PostgreSQL's own words.
    assert start.fails(call.format("%s"), "SELEKT embedding FROM photos").hint == ""


def test_the_wrong_order(start):
    for call in (
        "SELECT susx.build_support_set('photos', 'kinds')",
        "SELECT susx.correct('photos', 'kinds', '1', 'east')",
        "SELECT susx.suggest_reject('photos', 'kinds')",
    ):
        refusal = start.fails(call)
        assert refusal.sqlstate == "42704"
        assert refusal.hint == 'The arguments are in the wrong order: the classifier is "kinds".', call
    start.run("CREATE TABLE other (id int PRIMARY KEY)")
    assert start.fails("SELECT susx.build_support_set('photos', 'other')").hint.startswith("Classifiers: ")


@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW"])
def test_a_view_as_pool(start, kind):
    """It has no key of its own, and with one that is named it works as a table does."""
    start.run(f"CREATE {kind} pool AS SELECT id, embedding FROM photos")
    for call in ("SELECT susx.build_support_set('kinds', 'pool'{})", "SELECT * FROM susx.duplicates('pool'{})"):
        refusal = start.fails(call.format(""))
        assert "key_column =>" in refusal.hint
        start.rows(call.format(", key_column => 'id'"))
    of_view = start.rows("SELECT category, source_key, embedding::text FROM kinds WHERE kind = 'image' ORDER BY id")
    start.run("SELECT susx.build_support_set('kinds', 'photos')")
    assert of_view == start.rows(
        "SELECT category, source_key, embedding::text FROM kinds WHERE kind = 'image' ORDER BY id"
    )


def test_what_cannot_be_embedded(start):
    start.run("CREATE VIEW pool AS SELECT * FROM photos; CREATE TEMPORARY TABLE mine (LIKE photos INCLUDING ALL)")
    refusal = start.fails("CALL susx.embed_table('pool')")
    assert refusal.sqlstate == "42809" and "table that the view reads" in refusal.hint
    start.run(
        "CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing; "
        "CREATE FOREIGN TABLE far (id int, image bytea, embedding vector(2)) SERVER nowhere"
    )
    refusal = start.fails("CALL susx.embed_table('far')")
    start.run("DROP FOREIGN DATA WRAPPER nothing CASCADE")
    assert refusal.sqlstate == "42809" and "database that has the table" in refusal.hint
    refusal = start.fails("CALL susx.embed_table('mine')")
    assert refusal.sqlstate == "42809" and "susx.embed_image(image)" in refusal.hint and "UNLOGGED" in refusal.hint


def test_materialized_views(start, schema):
    """While one is filled, PostgreSQL 17 and newer set search_path to pg_catalog, as a careful function does."""
    start.run(
        "CREATE FUNCTION labels(query text) RETURNS SETOF text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp "
        f"AS $$ SELECT category FROM susx.classify_rows('{schema}.kinds', query, NULL::int) $$"
    )
    refusal = start.fails("SELECT labels('SELECT id, embedding FROM photos')")
    assert refusal.sqlstate == "42P01" and 'search_path is "pg_catalog, pg_temp"' in refusal.hint
    assert start.one(f"SELECT count(*) FROM labels('SELECT id, embedding FROM {schema}.photos')") == 20
    for query in (
        f"SELECT id, ''[1,0]''::vector FROM {schema}.photos",
        f"SELECT id, no_such(embedding) FROM {schema}.photos",
    ):
        assert "search_path is" in start.fails(f"SELECT labels('{query}')").hint
    # Elsewhere a missing table is only a missing table.
    assert start.fails("SELECT * FROM susx.classify_rows('kinds', 'SELECT id, embedding FROM nowhere')").hint == ""
    create = "CREATE MATERIALIZED VIEW labelled AS SELECT * FROM susx.classify_rows('kinds', 'SELECT id, embedding FROM {}', NULL::int)"
    if int(start.one("SHOW server_version_num")) >= 170000:
        assert "search_path is" in start.fails(create.format("photos")).hint
    start.run(create.format(f"{schema}.photos"))
    start.run("REFRESH MATERIALIZED VIEW labelled")
    assert start.one("SELECT count(*) FROM labelled") == 20


def test_where_an_embedding_cannot_stand(start):
    """susx's functions are STABLE: PostgreSQL says so itself."""
    generated = start.fails(
        "ALTER TABLE photos ADD made vector GENERATED ALWAYS AS (susx.embed_image(image, 'tiny_split')) STORED"
    )
    assert generated.sqlstate == "42P17" and "not immutable" in generated.message
    index = start.fails("CREATE INDEX ON photos (susx.label('kinds', embedding))")
    assert index.sqlstate == "42P17" and "IMMUTABLE" in index.message
    # A default may not name a column, but a constant text is embedded for every row.
    default = start.fails("ALTER TABLE photos ADD made vector DEFAULT susx.embed_image(image, 'tiny_split')")
    assert default.sqlstate == "0A000" and "column reference in DEFAULT" in default.message
    start.run("ALTER TABLE photos ADD made vector DEFAULT susx.embed_text('a photo', 'tiny_split')")
    assert start.one("SELECT count(DISTINCT made::text) FROM photos") == 1

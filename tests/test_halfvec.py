"""Columns and queries of halfvec, which pgvector recommends for large tables: everywhere that vector is."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.pictures import encode, picture
from helpers.session import Session, array
from helpers.toy import create_random

ON_WRITE = """
    CREATE TRIGGER embed_new AFTER INSERT ON photos REFERENCING NEW TABLE AS new
    FOR EACH STATEMENT EXECUTE FUNCTION susx.embed_on_write('image', 'embedding', 'tiny_split');
    CREATE TRIGGER embed_changed AFTER UPDATE ON photos REFERENCING OLD TABLE AS old NEW TABLE AS new
    FOR EACH STATEMENT EXECUTE FUNCTION susx.embed_on_write('image', 'embedding', 'tiny_split')"""

DIMENSIONS, ROWS = 16, 120


@pytest.fixture(autouse=True)
def has_halfvec(sql):
    if sql.one("SELECT to_regtype('halfvec') IS NULL"):
        pytest.skip("this pgvector has no halfvec")


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    return [encode(picture(seed, (40, 30))) for seed in range(12)]


@pytest.fixture
def points(sql) -> str:
    """The same vectors, all exact in half precision, as `full` and as `half`, and a classifier of them."""
    create_random(sql, "kinds", 3, DIMENSIONS, per_class=1)
    sql.run("DELETE FROM kinds WHERE kind = 'image'")
    random = np.random.default_rng(5)
    sql.run(
        f"CREATE TABLE points (id int PRIMARY KEY, truth text, full_ vector({DIMENSIONS}), half halfvec({DIMENSIONS}))"
    )
    for i in range(ROWS):
        numbers = random.normal(size=DIMENSIONS).astype(np.float16).astype(float)
        text = "[" + ",".join(map(str, numbers)) + "]"
        sql.run("INSERT INTO points VALUES (%s, %s, %s::vector, %s::halfvec)", i, f"c0{i % 3}", text, text)
    return "points"


def test_embed_table(sql, images):
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding halfvec(32))")
    sql.copy("photos", ["id", "image"], enumerate(images))
    sql.run("CALL susx.embed_table('photos', model => 'tiny_split')")
    rows = sql.rows("SELECT embedding::text, susx.embed_image(image, 'tiny_split')::text FROM photos")
    assert len(rows) == len(images)
    for half, full in rows:
        # What NumPy makes of the same numbers.
        np.testing.assert_array_equal(array(half).astype(np.float16), array(full).astype(np.float16))
    refusal = sql.fails("CALL susx.embed_table('photos', model => 'demo')")
    assert "has 32 dimensions" in refusal.message


def test_embed_on_write(sql, images):
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding halfvec(32))")
    sql.run(ON_WRITE)
    sql.run("INSERT INTO photos VALUES (1, %s), (2, %s)", images[0], images[1])
    sql.run("UPDATE photos SET image = %s WHERE id = 2", images[2])
    wrong = "SELECT count(*) FROM photos WHERE (embedding::vector <=> susx.embed_image(image, 'tiny_split')) < 1e-5"
    assert sql.one(wrong) == 2


def both(sql: Session, query: str) -> list[tuple]:
    """The answer of a query for both columns, which is the same."""
    full, half = (sql.rows(query.replace("{v}", column)) for column in ("full_", "half"))
    assert full == half and full
    return half


def test_queries(sql, points):
    both(sql, "SELECT * FROM susx.classify_rows('kinds', 'SELECT id, {v} FROM points', k => 2)")
    both(sql, "SELECT * FROM susx.evaluate('kinds', 'SELECT {v}, truth FROM points')")
    both(sql, "SELECT * FROM susx.calibration('kinds', 'SELECT {v}, truth FROM points')")
    both(sql, "SELECT * FROM susx.confusion_matrix('kinds', 'SELECT {v}, truth FROM points')")
    both(sql, "SELECT * FROM susx.review_queue('kinds', 'SELECT id, {v}, truth FROM points')")
    both(sql, "SELECT susx.report('kinds', 'SELECT id, {v} AS embedding, truth FROM points')")
    both(sql, "SELECT susx.suggest_reject('kinds', 'points', '{v}')")
    both(sql, "SELECT * FROM susx.duplicates('points', 0.6, '{v}')")


def test_tune(sql, points):
    sql.run("SELECT susx.build_support_set('kinds', 'points', 5, embedding_column => 'full_')")
    found = []
    for column in ("full_", "half"):
        # It changes the classifier's settings, from which the next call would start.
        sql.run("BEGIN")
        found.append(sql.rows(f"SELECT * FROM susx.tune('kinds', 'SELECT {column}, truth FROM points')"))
        sql.run("ROLLBACK")
    assert found[0] == found[1]


@pytest.mark.parametrize("index", [None, "hnsw", "ivfflat"])
def test_build_support_set(sql, points, index):
    if index:
        refusal = sql.fails("SELECT susx.build_support_set('kinds', 'points', 5, 'photo', 'half', use_index => true)")
        assert refusal.sqlstate == "42704" and "halfvec_cosine_ops" in refusal.hint
        # With one list, ivfflat finds the nearest rows exactly, and hnsw does in so small a table.
        options = "WITH (lists = 1)" if index == "ivfflat" else ""
        sql.run(f"CREATE INDEX ON points USING {index} (half halfvec_cosine_ops) {options}")
        sql.run(f"CREATE INDEX ON points USING {index} (full_ vector_cosine_ops) {options}")
    # In so small a table, sorting all rows costs as little.
    sql.run("SET enable_seqscan = off; SET enable_sort = off")
    found = {}
    for column in ("full_", "half"):
        sql.run(
            "SELECT susx.build_support_set('kinds', 'points', 5, 'photo', %s, use_index => %s)", column, index is not None
        )
        found[column] = sql.rows(
            "SELECT category, source_key, embedding::text FROM kinds WHERE kind = 'image' ORDER BY 1, 2"
        )
    assert found["full_"] == found["half"] and len(found["half"]) == 15
    if index == "hnsw" and sql.one("SELECT current_setting('hnsw.iterative_scan', true) IS NOT NULL"):
        used = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'points_half_idx'"
        sql.run("SELECT pg_stat_force_next_flush()")
        assert sql.one(used) > 0


def test_label_table(sql, points):
    sql.run("ALTER TABLE points ADD label text, ADD label_of_half text")
    sql.run("CALL susx.label_table('points', 'kinds', embedding_column => 'full_')")
    sql.run("CALL susx.label_table('points', 'kinds', label_column => 'label_of_half', embedding_column => 'half')")
    assert sql.one("SELECT count(*) FROM points WHERE label = label_of_half") == ROWS
    assert sql.rows("SELECT labelled, outdated FROM susx.label_counts('points', 'label_of_half')") == [(ROWS, 0)]
    sql.run(
        "CREATE TRIGGER label_changed AFTER UPDATE ON points REFERENCING OLD TABLE AS old NEW TABLE AS new "
        "FOR EACH STATEMENT EXECUTE FUNCTION susx.label_on_write('kinds', 'label_of_half', 'half')"
    )
    sql.run("UPDATE points SET half = half * array_fill(-1, ARRAY[16])::halfvec WHERE id < 10")
    assert sql.rows("SELECT labelled, outdated FROM susx.label_counts('points', 'label_of_half')") == [(ROWS, 0)]
    labels = "SELECT count(*) FROM points WHERE label_of_half = susx.label('kinds', half::vector)"
    assert sql.one(labels) == ROWS


def test_a_domain(sql, points):
    sql.run(f"CREATE DOMAIN small AS halfvec({DIMENSIONS}); ALTER TABLE points ALTER half TYPE small")
    both(sql, "SELECT * FROM susx.classify_rows('kinds', 'SELECT id, {v} FROM points')")
    both(sql, "SELECT * FROM susx.duplicates('points', 0.6, '{v}')")


def test_an_argument_is_cast(sql, points):
    refusal = sql.fails("SELECT susx.label('kinds', half) FROM points")
    assert refusal.sqlstate == "42883" and "type casts" in refusal.hint
    assert sql.one("SELECT count(susx.label('kinds', half::vector)) FROM points") == ROWS


def test_the_table_of_a_classifier_keeps_vector(sql, images):
    sql.run("SELECT susx.create_classifier('kinds', '{cat,dog}', model => 'tiny_split')")
    sql.run(
        "ALTER TABLE kinds DROP CONSTRAINT kinds_embedding_check; DROP TRIGGER susx_embed ON kinds; "
        "ALTER TABLE kinds ALTER embedding TYPE halfvec(32)"
    )
    refusal = sql.fails("SELECT susx.label('kinds', %s::bytea)", images[0])
    assert (refusal.sqlstate, refusal.message) == ("42804", 'column "embedding" has type halfvec, not vector')
    assert "create_classifier" in refusal.hint


@pytest.mark.parametrize("type_", ["real[]", "double precision[]", "sparsevec(3)", "bit(3)"])
def test_other_types(sql, type_):
    sql.run(f"CREATE TABLE numbers (id int PRIMARY KEY, image bytea, embedding {type_})")
    literal = {"sparsevec(3)": "{1:1}/3", "bit(3)": "101"}.get(type_, "{1,2,3}")
    sql.run("INSERT INTO numbers VALUES (1, NULL, %s)", literal)
    sql.run(
        "SELECT susx.create_classifier('wind', '{east,north}', text_embeddings => ARRAY['[1,0,0]', '[0,1,0]']::vector[])"
    )
    in_column = sql.fails("SELECT susx.build_support_set('wind', 'numbers')")
    in_query = sql.fails("SELECT * FROM susx.classify_rows('wind', 'SELECT id, embedding FROM numbers')")
    labelled = sql.fails("SELECT * FROM susx.evaluate('wind', 'SELECT embedding, ''east'' FROM numbers')")
    report = sql.fails("SELECT susx.report('wind', 'SELECT id, embedding FROM numbers')")
    for refusal in (in_column, in_query, labelled, report):
        assert type_.split("(")[0] in refusal.message and "vector or halfvec" in refusal.hint, refusal
    if type_.startswith("bit"):
        assert "no numbers" in in_column.hint
        return
    assert "embedding::vector" in in_query.hint
    # The statement of the HINT works.
    sql.run(in_column.hint.split(": ", 1)[1])
    sql.run("SELECT susx.build_support_set('wind', 'numbers')")

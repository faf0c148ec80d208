"""Queries whose rows are an image or an embedding and its category: which are accepted, and which are not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from helpers.pictures import encode, picture
from helpers.processes import PROMPTLY
from helpers.session import in_background
from helpers.toy import create_compass

pytestmark = pytest.mark.same_everywhere

POINTS = "SELECT embedding, truth FROM points"
N = "SELECT n, failed FROM susx.evaluate('compass', %s) WHERE category IS NULL"
MATRIX = "SELECT * FROM susx.confusion_matrix('compass', %s)"


@pytest.fixture
def sql(sql):
    create_compass(sql)
    sql.run(
        """
        CREATE TABLE points (id int PRIMARY KEY, embedding vector(2), truth text);
        INSERT INTO points VALUES (1, '[1,0.1]', 'east'), (2, '[1,0.2]', 'east'), (3, '[0.1,1]', 'east'),
                                  (4, '[0,3]', 'north')"""
    )
    return sql


# char(n) pads the names; the blanks mean nothing.
TEXTS = ("varchar", "varchar(9)", "name", "side", "word", "char(9)", "padded")

RIGHT = [("east", "east", 2), ("east", "north", 1), ("north", "north", 1)]


@pytest.mark.parametrize(
    "query",
    [
        POINTS,
        f"  -- a comment\n{POINTS} ;  ",
        f"({POINTS} WHERE id < 3) UNION ALL {POINTS} WHERE id >= 3",
        f"WITH p AS ({POINTS}) TABLE p",
        "SELECT embedding::unlimited, truth FROM points",
        "SELECT embedding::limited::unlimited, truth FROM points",
        "VALUES ('[1,0]'::vector, 'east'), ('[1,0]', 'east'), ('[0,1]', 'east'), ('[0,1]', 'north')",
    ]
    + [f"SELECT embedding, truth::{type} FROM points" for type in TEXTS],
)
def test_queries_of_every_kind(sql, query):
    sql.run(
        """
        CREATE DOMAIN limited AS vector(2); CREATE DOMAIN unlimited AS limited;
        CREATE TYPE side AS ENUM ('north', 'east'); CREATE DOMAIN word AS text CHECK (VALUE <> '');
        CREATE DOMAIN padded AS char(9)"""
    )
    assert sql.rows(MATRIX, query) == RIGHT


@pytest.mark.parametrize("type", ["text", *TEXTS])
def test_null_is_none_of_the_categories(sql, type):
    sql.run(
        """
        CREATE TYPE side AS ENUM ('north', 'east'); CREATE DOMAIN word AS text CHECK (VALUE <> '');
        CREATE DOMAIN padded AS char(9)"""
    )
    query = f"SELECT embedding, nullif(truth, 'north')::{type} FROM points"
    assert sql.rows(MATRIX, query) == RIGHT[:2] + [(None, "north", 1)]
    assert sql.rows(N, query) == [(4, 0)]


def test_more_rows_than_a_batch(sql):
    query = f"{POINTS}, generate_series(1, 1000)"
    assert sql.rows(MATRIX, query) == [(*pair, 1000 * n) for *pair, n in RIGHT]
    query = query.replace("truth", "nullif(truth, 'north')")
    assert sql.rows(MATRIX, query) == [("east", "east", 2000), ("east", "north", 1000), (None, "north", 1000)]


def test_no_rows(sql):
    assert sql.rows(MATRIX, f"{POINTS} WHERE false") == []
    assert sql.rows(N, f"{POINTS} WHERE false") == [(0, 0)]
    assert sql.notices == []


@pytest.mark.parametrize(
    "query, sqlstate, word",
    [
        ("", "22023", "not 0"),
        (" ; ", "22023", "not 0"),
        ("-- nothing", "22023", "not 0"),
        (f"{POINTS}; {POINTS}", "22023", "not 2"),
        (f"{POINTS}; DROP TABLE points", "22023", "not 2"),
        (f"COMMIT; {POINTS}", "22023", "not 2"),
        ("SELEC embedding", "42601", "SELEC"),
        ("SELECT embedding, truth FROM nowhere", "42P01", "nowhere"),
        ("SELECT embedding, wrong FROM points", "42703", "wrong"),
        (f"{POINTS} WHERE id = $1", "42P02", "$1"),
        (f"{POINTS} WHERE 1 / (id - 4) < 0", "22012", "zero"),
        # Queries that write.
        ("INSERT INTO points VALUES (5, '[1,1]', 'east')", "42P11", "INSERT"),
        ("INSERT INTO points VALUES (5, '[1,1]', 'east') RETURNING embedding, truth", "0A000", "INSERT"),
        ("UPDATE points SET truth = 'north' RETURNING embedding, truth", "0A000", "UPDATE"),
        ("DELETE FROM points RETURNING embedding, truth", "0A000", "DELETE"),
        ("DELETE FROM points", "42P11", "DELETE"),
        (f"WITH d AS (DELETE FROM points RETURNING *) {POINTS}", "0A000", "non-volatile"),
        (f"{POINTS} FOR UPDATE", "0A000", "FOR UPDATE"),
        ("SELECT embedding, truth INTO points2 FROM points", "42P11", "INTO"),
        (f"CREATE TABLE points2 AS {POINTS}", "42P11", "CREATE TABLE AS"),
        ("TRUNCATE points", "42P11", "TRUNCATE"),
        ("DROP TABLE points", "42P11", "DROP"),
        ("COMMIT", "42P11", "COMMIT"),
        ("DO 'BEGIN END'", "42P11", "DO"),
        ("COPY points TO STDOUT", "42P11", "COPY"),
        ("SHOW search_path", "0A000", "SHOW"),
        # Other columns than two, and other types.
        ("SELECT embedding FROM points", "42804", "not 1"),
        ("SELECT id, embedding, truth FROM points", "42804", "not integer"),
        ("SELECT embedding, truth, id FROM points", "42804", "not integer"),
        ("SELECT embedding, truth, embedding, id FROM points", "42804", "not 4"),
        ("SELECT FROM points", "42804", "not 0"),
        ("SELECT truth, embedding FROM points", "42804", "not text"),
        ("SELECT '[1,0]', 'east'", "42804", "not text"),
        ("SELECT id, truth FROM points", "42804", "not integer"),
        ("SELECT ARRAY[embedding], truth FROM points", "42804", "not vector[]"),
        ("SELECT points, truth FROM points", "42804", "not points"),
        # An embedding of another model, and an image where there is no model.
        ("SELECT '[1,2,3]'::vector, truth FROM points OFFSET 1", "22000", "row 1 of the query"),
        ("SELECT ''::bytea, truth FROM points", "55000", "no model"),
        ("SELECT ''::bytea, truth FROM points WHERE false", "55000", "no model"),
    ],
)
@pytest.mark.parametrize("function", ["evaluate", "confusion_matrix"])
def test_what_is_refused(sql, query, sqlstate, word, function):
    refusal = sql.fails(f"SELECT * FROM susx.{function}('compass', %s)", query)
    assert (refusal.sqlstate, word in refusal.message) == (sqlstate, True), refusal
    if sqlstate == "42804":
        assert "SELECT embedding, category FROM" in refusal.hint
    assert sql.rows("SELECT count(*), count(DISTINCT truth) FROM points") == [(4, 2)]
    assert sql.one("SELECT to_regclass('points2')") is None
    assert sql.rows(MATRIX, POINTS) == RIGHT


def test_rows_are_named(sql):
    """By their number in the query's result."""
    sql.run("INSERT INTO points SELECT id, '[1,0]', 'north' FROM generate_series(5, 1000) id")
    ordered = f"{POINTS} ORDER BY id"
    sql.run("UPDATE points SET truth = NULL WHERE id = 717")
    assert sql.rows(N, ordered) == [(1000, 0)], "it is of none of the categories"
    sql.run("UPDATE points SET truth = 'south' WHERE id = 717")
    refusal = sql.fails(N, ordered)
    assert refusal.sqlstate == "42704"
    assert refusal.message == 'row 717 of the query: category "south" of classifier "compass" does not exist'
    assert refusal.hint == "Its categories: east, north."
    sql.run("ALTER TABLE points ALTER embedding TYPE vector")
    sql.run("UPDATE points SET embedding = '[1]', truth = 'north' WHERE id = 717")
    refusal = sql.fails(N, ordered)
    assert refusal.sqlstate == "22000"
    assert refusal.message == 'row 717 of the query: classifier "compass" expects 2 dimensions, not 1'
    sql.run("DELETE FROM points WHERE id = 717")
    assert sql.rows(N, ordered) == [(999, 0)]


def test_vectors_that_cannot_be_used(sql):
    """They are counted by their categories, and a WARNING names the first."""
    sql.run(
        """
        INSERT INTO points SELECT id, NULL, 'north' FROM generate_series(5, 304) id;
        INSERT INTO points SELECT id, '[0,0]', 'east' FROM generate_series(305, 306) id"""
    )
    assert sql.rows(MATRIX, f"{POINTS} ORDER BY id") == RIGHT[:2] + [("east", None, 2), RIGHT[2], ("north", None, 300)]
    assert sql.notices == ["susx: 302 rows of the query could not be used; the first error: row 5: it is NULL"]
    assert sql.rows(N, POINTS) == [(4, 302)]
    sql.notices.clear()
    assert sql.rows(N, f"{POINTS} WHERE id = 306") == [(0, 1)]
    assert sql.notices == [
        "susx: 1 row of the query could not be used; the first error: row 1: an embedding must not be all zeros"
    ]
    # Those of none of the categories are counted with all.
    sql.notices.clear()
    query = "SELECT embedding, CASE WHEN id < 300 THEN truth END FROM points WHERE id = 1 OR id > 298"
    assert sql.rows(MATRIX, query) == [("east", "east", 1), ("north", None, 1), (None, None, 7)]
    assert sql.notices[0].startswith("susx: 8 rows of the query could not be used; ")
    assert sql.rows(N, query) == [(1, 8)]


@pytest.fixture
def pets(sql):
    """A classifier that has a model, and pictures, the 10th of which is broken and the 20th missing.

    The model's weights are random: it tells pictures from one another, but not by their names.
    """
    files = [encode(picture(seed, (40, 40))) for seed in range(40)]
    sql.run(
        """
        SELECT susx.create_classifier('pets', '{cat,dog}', text_embeddings =>
            (SELECT array_agg(embedding ORDER BY ord) FROM susx.embed_images(%s, 'tiny_split')))""",
        files[:2],
    )
    sql.run("SELECT susx.alter_classifier('pets', model => 'tiny_split')")
    sql.run("CREATE TABLE pictures (id int PRIMARY KEY, image bytea, truth text)")
    rows = [(id, files[id % 40], ("cat", "dog")[id % 2]) for id in range(1, 601)]
    rows[9] = (10, b"no picture", "dog")
    rows[19] = (20, None, "cat")
    rows[29] = (30, b"", "cat")
    sql.copy("pictures", ["id", "image", "truth"], iter(rows))
    return "SELECT image, truth FROM pictures ORDER BY id"


def test_images(sql, pets):
    expected = sql.rows(
        """
        SELECT truth, predicted, count(*) FROM (
            SELECT truth, susx.label('pets', image) AS predicted FROM pictures WHERE id NOT IN (10, 20, 30)) p
        GROUP BY truth, predicted ORDER BY truth, predicted"""
    )
    assert sum(n for *_, n in expected) == 597
    assert len(expected) == 4
    matrix = "SELECT * FROM susx.confusion_matrix('pets', %s) ORDER BY truth, predicted"
    failed = [("cat", None, 2), ("dog", None, 1)]
    assert sql.rows(matrix, pets) == sorted(expected + failed, key=lambda row: (row[0], row[1] or "zzz"))
    (notice,) = sql.notices
    assert notice.startswith("susx: 3 rows of the query could not be used; the first error: row 10: ")
    assert len(notice) > 80
    figures = "SELECT category, n, failed FROM susx.evaluate('pets', %s)"
    assert sql.rows(figures, pets) == [(None, 597, 3), ("cat", 297, 2), ("dog", 300, 1)]
    # Domains, too.
    sql.run("CREATE DOMAIN file AS bytea CHECK (length(VALUE) < 1000000)")
    assert sql.rows(figures, pets.replace("image", "image::file")) == [(None, 597, 3), ("cat", 297, 2), ("dog", 300, 1)]


def test_embeddings_and_images_alike(sql, pets):
    figures = "SELECT * FROM susx.evaluate('pets', %s)"
    whole = "FROM pictures WHERE id NOT IN (10, 20, 30)"
    by_image = sql.rows(figures, f"SELECT image, truth {whole}")
    assert sql.rows(figures, f"SELECT susx.embed_image(image, 'tiny_split'), truth {whole}") == by_image


def test_a_model_of_other_dimensions(sql, pets):
    """The classifier's own model is asked, not susx.model."""
    assert sql.one("SHOW susx.model") == "demo"
    sql.run("UPDATE susx.classifier SET model = 'demo', model_sha256 = NULL WHERE classifier = 'pets'::regclass")
    refusal = sql.fails("SELECT * FROM susx.evaluate('pets', %s)", pets)
    assert refusal.sqlstate == "22000"
    assert refusal.message == 'row 1 of the query: classifier "pets" expects 32 dimensions, not 512'
    sql.run("UPDATE susx.classifier SET model = 'gone' WHERE classifier = 'pets'::regclass")
    assert sql.fails("SELECT * FROM susx.evaluate('pets', %s)", pets).sqlstate == "42704"


def test_memory_does_not_grow_with_the_images(sql, pets):
    """1.2 GB of files that are no images, made while the query runs."""
    query = "SELECT convert_to(repeat('x', 20000000), 'UTF8'), 'cat' FROM generate_series(1, 60)"
    assert sql.rows("SELECT n, failed FROM susx.evaluate('pets', %s) WHERE category IS NULL", query) == [(0, 60)]
    status = Path(f"/proc/{sql.pid}/status").read_text()
    (peak,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    assert peak < 400_000, f"{peak} kB"


@pytest.mark.parametrize(
    "query",
    [
        "SELECT embedding, truth FROM points, generate_series(1, 100000) WHERE pg_sleep(0.01)::text = ''",
        "SELECT '[1,0]'::vector, 'east' FROM generate_series(1, 1000000000)",
    ],
)
def test_statement_timeout(sql, query):
    sql.run("SET statement_timeout = '500ms'")
    started = time.monotonic()
    refusal = sql.fails(N, query)
    assert refusal.sqlstate == "57014"
    assert 0.4 < time.monotonic() - started < 0.5 + PROMPTLY
    sql.run("RESET statement_timeout")
    assert sql.rows(MATRIX, POINTS) == RIGHT


def test_cancel_while_images_are_embedded(sql, pets, connect):
    other = connect()
    query = "SELECT image, truth FROM pictures, generate_series(1, 100000) WHERE id = 1"
    with in_background(lambda: sql.fails("SELECT * FROM susx.evaluate('pets', %s)", query)) as results:
        time.sleep(1)
        asked = time.monotonic()
        assert other.one("SELECT pg_cancel_backend(%s)", sql.pid)
    assert results[0].sqlstate == "57014"
    assert time.monotonic() - asked < PROMPTLY
    assert sql.one("SELECT n FROM susx.evaluate('pets', %s) WHERE category IS NULL", pets) == 597


def test_a_transaction_keeps_its_snapshot(sql, connect, schema):
    other = connect()
    other.run(f"SET search_path = {schema}, public; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
    assert other.one("SELECT count(*) FROM points") == 4
    sql.run("INSERT INTO points VALUES (5, '[0,1]', 'north')")
    # Also to what it has written itself.
    other.run("INSERT INTO points VALUES (6, '[1,0]', 'north')")
    assert other.rows(MATRIX, POINTS) == RIGHT[:2] + [("north", "east", 1), ("north", "north", 1)]
    other.run("COMMIT")
    assert other.rows(MATRIX, POINTS) == RIGHT[:2] + [("north", "east", 1), ("north", "north", 2)]


def test_one_state_with_the_statement_around_it(sql):
    """Rows that the statement itself writes are not seen by it."""
    rows = sql.rows(
        f"""
        WITH more AS (INSERT INTO points VALUES (5, '[0,1]', 'north'), (6, '[0,1]', 'north') RETURNING 1)
        SELECT (SELECT count(*) FROM more), n FROM susx.evaluate('compass', '{POINTS}') WHERE category IS NULL"""
    )
    assert rows == [(2, 4)]
    assert sql.rows(N, POINTS) == [(6, 0)]


def test_inside_of_functions_and_of_labelled_queries(sql):
    """A query that classifies while it is being classified, in PL/pgSQL."""
    sql.run(
        f"""
        CREATE FUNCTION judge() RETURNS bigint LANGUAGE plpgsql AS $$
        DECLARE query text := '{POINTS}, LATERAL susx.classify(''compass'', embedding) c WHERE c.rank = 1';
        BEGIN
            RETURN (SELECT e.n FROM susx.evaluate('compass', query) e WHERE e.category IS NULL);
        END $$"""
    )
    assert sql.one("SELECT judge()") == 4
    nested = "SELECT embedding, truth FROM points WHERE id <= judge()"
    assert sql.rows(MATRIX, nested) == RIGHT


def test_the_rights_are_the_callers(sql, connect, schema):
    sql.run(
        f"""
        CREATE ROLE reader; GRANT USAGE ON SCHEMA {schema} TO reader; GRANT SELECT ON points TO reader;
        CREATE TABLE secret AS TABLE points"""
    )
    try:
        sql.run("SET ROLE reader")
        refusal = sql.fails(MATRIX, POINTS)
        assert (refusal.sqlstate, "compass" in refusal.message) == ("42501", True)
        sql.run("RESET ROLE; GRANT SELECT ON compass TO reader; SET ROLE reader")
        assert sql.rows(MATRIX, POINTS) == RIGHT
        refusal = sql.fails(MATRIX, "SELECT embedding, truth FROM secret")
        assert (refusal.sqlstate, "secret" in refusal.message) == ("42501", True)
        # With the row-level security that holds for the caller.
        sql.run("RESET ROLE; ALTER TABLE points ENABLE ROW LEVEL SECURITY")
        sql.run("CREATE POLICY own ON points USING (id < 3); SET ROLE reader")
        assert sql.rows(MATRIX, POINTS) == RIGHT[:1]
    finally:
        sql.run("RESET ROLE; DROP OWNED BY reader; DROP ROLE reader")


def test_errors_that_are_caught(sql):
    """In the middle of a query that is being read: nothing of it stays open."""
    sql.run(
        """
        CREATE FUNCTION attempt(query text) RETURNS text LANGUAGE plpgsql AS $$
        BEGIN
            RETURN (SELECT n::text FROM susx.evaluate('compass', query) WHERE category IS NULL);
        EXCEPTION WHEN OTHERS THEN
            RETURN SQLSTATE || ' ' || (SELECT count(*) FROM pg_cursors);
        END $$"""
    )
    wrong = "SELECT embedding, CASE WHEN i < 300 THEN truth ELSE ''south'' END FROM points, generate_series(1, 999) i"
    attempts = f"SELECT attempt('{wrong}'), attempt('{POINTS}'), attempt('nonsense') FROM generate_series(1, 50)"
    assert set(sql.rows(attempts)) == {("42704 0", "4", "42601 0")}

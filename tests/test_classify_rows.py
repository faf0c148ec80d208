"""classify_rows gives every row of a query what classify gives it alone, in constant memory, however it is called."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import psycopg
import pytest

from helpers.pictures import encode, picture
from helpers.processes import PROMPTLY, eventually, servers
from helpers.session import in_background
from helpers.toy import create_compass, create_points, create_random

ROWS = "SELECT key, rank, category, score, probability, error FROM susx.classify_rows({}) ORDER BY key, rank"
POINTS = "SELECT id, embedding FROM points"


@pytest.fixture
def toy(sql):
    """Categories whose images overlap, and 3000 points among them."""
    create_random(sql, "toy", categories=10, dimensions=48)
    create_points(sql, "points", rows=3000, dimensions=48)


@pytest.fixture
def compass(sql):
    create_compass(sql)
    sql.run("""
        CREATE TABLE points (id bigint PRIMARY KEY, embedding vector(2));
        INSERT INTO points VALUES (1, '[1,0.1]'), (2, '[0.2,1]'), (3, NULL), (4, '[0,3]')""")


@pytest.fixture
def pets(sql):
    """A classifier that has a model, and 600 pictures: the 10th is broken, the 20th missing, the 30th empty."""
    files = [encode(picture(seed, (40, 40))) for seed in range(40)]
    sql.run(
        """
        SELECT susx.create_classifier('pets', '{cat,dog}', text_embeddings =>
            (SELECT array_agg(embedding ORDER BY ord) FROM susx.embed_images(%s, 'tiny_split')))""",
        files[:2],
    )
    sql.run("SELECT susx.alter_classifier('pets', model => 'tiny_split')")
    sql.run("CREATE TABLE pictures (id bigint PRIMARY KEY, image bytea)")
    rows = [(id, files[id % 40]) for id in range(1, 601)]
    rows[9], rows[19], rows[29] = (10, b"no picture"), (20, None), (30, b"")
    sql.copy("pictures", ["id", "image"], iter(rows))
    return "SELECT id, image FROM pictures ORDER BY id"


def cursors(session) -> int:
    """The open ones, but for the statement's own."""
    return session.one("SELECT count(*) FROM pg_cursors WHERE statement NOT LIKE '%%pg_cursors%%'")


@pytest.mark.parametrize("method", ["zero-shot", "tip-adapter", "tip-x", "gated-tip-x", "gda", None])
@pytest.mark.parametrize("k", [1, 3, 99])
def test_embeddings_as_row_by_row(sql, toy, method, k):
    expected = sql.rows(
        "SELECT id, rank, category, score, probability FROM points, susx.classify('toy', embedding, %s, %s) "
        "ORDER BY id, rank",
        k,
        method,
    )
    assert len(expected) == 3000 * min(k, 10)
    found = sql.rows(ROWS.format("'toy', %s, k => %s, method => %s"), POINTS.replace("id,", "id::bigint,"), k, method)
    assert [row[:3] for row in found] == [row[:3] for row in expected]
    for (*_, score, probability, error), (*_, alone, share) in zip(found, expected):
        assert (score, probability, error) == (
            pytest.approx(alone, rel=1e-4, abs=1e-4),
            pytest.approx(share, abs=1e-5),
            None,
        )


def test_equal_logits_in_the_order_of_the_categories(sql):
    """Between two names with the same direction, only rounding could decide."""
    sql.run(
        "SELECT susx.create_classifier('same', %s, text_embeddings => %s::vector[])",
        [f"c{i}" for i in range(8)],
        ["[0.3,0.7,0.2]", "[0.6,1.4,0.4]"] * 4,
    )
    query = "SELECT i::bigint, ARRAY[sin(i), cos(i), 0.5]::real[]::vector FROM generate_series(1, 2000) i"
    alone = sql.rows(
        f"SELECT p.i, c.category FROM ({query}) p (i, v), susx.classify('same', p.v, 8) c ORDER BY p.i, c.rank"
    )
    assert (
        sql.rows("SELECT key, category FROM susx.classify_rows('same', %s, k => 8) ORDER BY key, rank", query) == alone
    )


@pytest.mark.same_everywhere
def test_photographs(sql, photos):
    """Real labels, by embeddings and by the images themselves, as by label()."""
    names = sql.one(f"SELECT array_agg(DISTINCT truth) FROM {photos}")
    sql.run("SELECT susx.create_classifier('kinds', %s)", names)
    sql.run("SELECT susx.build_support_set('kinds', %s)", photos)
    labels = "SELECT key, category FROM susx.classify_rows('kinds', %s, key => NULL::int) ORDER BY key"
    expected = sql.rows(f"SELECT id, susx.label('kinds', embedding) FROM {photos} ORDER BY id")
    assert sql.rows(labels, f"SELECT id, embedding FROM {photos}") == expected
    some = f"FROM {photos} WHERE id % 5 = 0"
    expected = sql.rows(f"SELECT id, susx.label('kinds', image) {some} ORDER BY id")
    assert len(expected) == 240
    assert sql.rows(labels, f"SELECT id, image {some}") == expected


def test_images_and_errors_of_rows(sql, pets):
    expected = sql.rows(
        "SELECT id, rank, category FROM pictures, susx.classify('pets', image, 2) WHERE id NOT IN (10, 20, 30) "
        "ORDER BY id, rank"
    )
    found = sql.rows(ROWS.format("'pets', %s, k => 2"), pets)
    assert [row[:3] for row in found if row[1]] == expected
    assert {row[2] for row in found if row[1] == 1} == {"cat", "dog"}
    without = {row[0]: row[1:] for row in found if row[1] is None}
    assert set(without) == {10, 20, 30}
    assert all(values[:4] == (None,) * 4 for values in without.values())
    assert without[20][4] is None
    reasons = [sql.fails("SELECT susx.embed_image(image) FROM pictures WHERE id = %s", id).message for id in (10, 30)]
    assert [without[id][4] for id in (10, 30)] == reasons


def test_errors_of_embeddings(sql, compass):
    query = """VALUES (1::bigint, '[1,0]'::vector), (2, '[0,0]'), (3, '[1,2,3]'), (4, NULL), (NULL, '[0,1]'), (6, '[1]'),
               (7, '[0.1,1]')"""
    assert [(*row[:3], row[5]) for row in sql.rows(ROWS.format("'compass', %s"), query)] == [
        (1, 1, "east", None),
        (2, None, None, "an embedding must not be all zeros"),
        (3, None, None, 'classifier "compass" expects 2 dimensions, not 3'),
        (4, None, None, None),
        (6, None, None, 'classifier "compass" expects 2 dimensions, not 1'),
        (7, 1, "north", None),
        (None, 1, "north", None),
    ]


@pytest.mark.parametrize(
    "type, key",
    [
        ("int", "1"),
        ("bigint", "-7"),
        ("smallint", "3"),
        ("text", "'a key'"),
        ("text", "repeat('long ', 100000)"),
        ("varchar", "'x'::varchar(3)"),
        ("name", "'a name'"),
        ("uuid", "'7e8d9c6a-0000-4000-8000-000000000001'"),
        ("numeric", "1234567890.123456789"),
        ("timestamptz", "'2024-02-29 12:00+00'"),
        ("int[]", "'{1,2,3}'"),
        ("jsonb", "'{\"a\": [1, 2]}'"),
        ("bytea", "'\\x00ff'"),
        ("point", "'(1,2)'"),
        ("boolean", "true"),
        ("float8", "0.1"),
        ("pair", "ROW(1, 'x')"),
        ("small", "5"),
        ("side", "'left'"),
        ("vector", "'[1,2]'"),
    ],
)
def test_keys_of_every_type(sql, compass, type, key):
    sql.run(
        "CREATE TYPE pair AS (a int, b text); CREATE DOMAIN small AS int CHECK (VALUE < 9); "
        "CREATE TYPE side AS ENUM ('left', 'right')"
    )
    sql.run(f"CREATE TABLE keyed AS SELECT ({key})::{type} AS key, i FROM generate_series(1, 300) i")
    query = "SELECT key, CASE WHEN i % 2 = 0 THEN ''[1,0.1]'' ELSE ''[0.1,1]'' END::vector FROM keyed"
    # The key as it came, by the query's own type.
    rows = sql.rows(f"""
        SELECT r.key::text = k.key::text, pg_typeof(r.key)::text = pg_typeof(k.key)::text, r.category, count(*)
        FROM susx.classify_rows('compass', '{query}', key => NULL::{type}) r, (SELECT key FROM keyed LIMIT 1) k
        GROUP BY 1, 2, 3 ORDER BY 3""")
    assert rows == [(True, True, "east", 150), (True, True, "north", 150)]


def test_keys_stored_out_of_line(sql, compass):
    """A row is returned long after its batch was read. Its key must still be intact, also in a new table."""
    sql.run("CREATE TABLE keyed (key text, embedding vector)")
    sql.run("ALTER TABLE keyed ALTER key SET STORAGE EXTERNAL")
    sql.run("INSERT INTO keyed SELECT repeat(md5(i::text), 300), '[1,0]' FROM generate_series(1, 600) i")
    assert sql.one("SELECT pg_relation_size(reltoastrelid) > 4000000 FROM pg_class WHERE oid = 'keyed'::regclass")
    call = "susx.classify_rows('compass', 'SELECT key, embedding FROM keyed', key => NULL::text, k => 2)"
    sql.run(f"CREATE TABLE answers AS SELECT (r).* FROM (SELECT {call} AS r OFFSET 0) s")
    sql.run("DROP TABLE keyed")
    assert (
        sql.one("SELECT count(*) FROM answers a JOIN generate_series(1, 600) i ON a.key = repeat(md5(i::text), 300)")
        == 1200
    )


def test_a_domain_and_a_varchar_pass_for_what_they_are_made_of(sql, compass):
    sql.run("CREATE DOMAIN small AS bigint")
    assert sql.rows(ROWS.format("'compass', 'SELECT id::small, embedding FROM points WHERE id = 1'"))[0][:3] == (
        1,
        1,
        "east",
    )
    query = "SELECT ''x''::varchar, embedding FROM points WHERE id = 1"
    assert sql.rows(ROWS.format(f"'compass', '{query}', key => NULL::text"))[0][0] == "x"
    # In the other direction, it might not be a value of the domain.
    assert (
        sql.fails(ROWS.format("'compass', 'SELECT id, embedding FROM points', key => NULL::small")).sqlstate == "42804"
    )


@pytest.mark.parametrize("type", ["smallint", "integer", "bigint", "small"])
def test_keys_of_smaller_integers(sql, compass, type):
    """They are widened: a table's key is as often an integer as a bigint."""
    sql.run("CREATE DOMAIN small AS smallint")
    query = f"SELECT CASE id WHEN 1 THEN -32768 ELSE id END::{type}, embedding FROM points UNION ALL SELECT NULL, '[1,0]'"
    rows = sql.rows("SELECT key, pg_typeof(key)::text FROM susx.classify_rows('compass', %s) ORDER BY 1", query)
    assert rows == [(-32768, "bigint"), (2, "bigint"), (3, "bigint"), (4, "bigint"), (None, "bigint")]


@pytest.mark.parametrize(
    "key, query, found, expected",
    [
        ("", "SELECT id::numeric, embedding FROM points", "numeric", "bigint"),
        ("", "SELECT id::text, embedding FROM points", "text", "bigint"),
        (", key => NULL::int", "SELECT id, embedding FROM points", "bigint", "integer"),
        (", key => 'x'::text", "SELECT ARRAY[id], embedding FROM points", "bigint[]", "text"),
    ],
)
def test_a_key_of_another_type(sql, compass, key, query, found, expected):
    """The error says how to call it, and that call works."""
    refusal = sql.fails(ROWS.format(f"'compass', %s{key}"), query)
    assert refusal.sqlstate == "42804"
    assert f"of type {found} in the query" in refusal.message and f"of type {expected} in the call" in refusal.message
    assert f"key => NULL::{found}" in refusal.hint
    assert len(sql.rows(ROWS.format(f"'compass', %s, key => NULL::{found}"), query)) == 4


@pytest.mark.parametrize(
    "query, sqlstate, word",
    [
        ("", "22023", "not 0"),
        ("SELECT id, embedding FROM points; DROP TABLE points", "22023", "not 2"),
        ("SELECT id FROM points", "42804", "not 1"),
        ("SELECT id, embedding, 1 FROM points", "42804", "not integer"),
        ("SELECT id, embedding, embedding, 1 FROM points", "42804", "not 4"),
        ("SELECT id, id FROM points", "42804", "not bigint"),
        ("SELECT id, ''::bytea FROM points", "55000", "no model"),
        ("SELECT id, embedding FROM nowhere", "42P01", "nowhere"),
        ("SELECT 1 / (id - 4), embedding FROM points", "22012", "zero"),
        ("DELETE FROM points RETURNING id, embedding", "0A000", "DELETE"),
        ("INSERT INTO points VALUES (9, NULL) RETURNING id, embedding", "0A000", "INSERT"),
        ("WITH d AS (DELETE FROM points RETURNING *) SELECT id, embedding FROM d", "0A000", "non-volatile"),
        ("SELECT id, embedding FROM points FOR UPDATE", "0A000", "FOR UPDATE"),
        ("DROP TABLE points", "42P11", "DROP"),
        ("COMMIT", "42P11", "COMMIT"),
    ],
)
def test_what_is_refused(sql, compass, query, sqlstate, word):
    refusal = sql.fails(ROWS.format("'compass', %s"), query)
    assert (refusal.sqlstate, word in refusal.message) == (sqlstate, True), refusal
    assert sql.one("SELECT count(*) FROM points") == 4
    assert cursors(sql) == 0


@pytest.mark.parametrize("arguments", ["k => 0", "k => -1", "method => 'none'"])
def test_arguments_that_make_no_sense(sql, compass, arguments):
    refusal = sql.fails(f"SELECT * FROM susx.classify_rows('compass', '{POINTS}', {arguments})")
    assert refusal.sqlstate in ("22023", "42704")


def test_a_type_in_place_of_the_key(sql, compass):
    """By place or by name, in the order of the manual, in FROM and in a select list."""
    query = "SELECT id::text, embedding FROM points WHERE id < 3"
    for arguments in (
        "'compass', %s, NULL::text",
        "'compass', %s, key => 'whatever'::text",
        "'compass', %s, NULL::text, 1, 'zero-shot'",
        "'compass', query => %s, key => NULL::text, method => 'zero-shot', k => 1",
    ):
        assert [row[:3] for row in sql.rows(ROWS.format(arguments), query)] == [("1", 1, "east"), ("2", 1, "north")]
        assert sql.rows(f"SELECT (susx.classify_rows({arguments})).key", query) == [("1",), ("2",)]
    assert len(sql.rows(ROWS.format("'compass', %s, 2"), "SELECT id, embedding FROM points WHERE id < 3")) == 4


def test_no_rows(sql, compass):
    for arguments in ("NULL, 'SELECT 1'", "'compass', NULL", f"'compass', '{POINTS} WHERE false'"):
        assert sql.rows(ROWS.format(arguments)) == []


def test_a_model_that_does_not_fit(sql, pets):
    """A row without a key ends the call, with an error that names the row."""
    sql.run("UPDATE susx.classifier SET model = 'demo', model_sha256 = NULL WHERE classifier = 'pets'::regclass")
    refusal = sql.fails(ROWS.format("'pets', %s"), pets)
    assert refusal.sqlstate == "22000"
    assert refusal.message == 'row 1 of the query: classifier "pets" expects 32 dimensions, not 512'
    sql.run("UPDATE susx.classifier SET model = 'gone' WHERE classifier = 'pets'::regclass")
    refusal = sql.fails(ROWS.format("'pets', %s"), pets)
    assert refusal.sqlstate == "42704"
    assert refusal.message.startswith("row 1 of the query: ")
    sql.run("UPDATE susx.classifier SET model = NULL WHERE classifier = 'pets'::regclass")
    assert sql.fails(ROWS.format("'pets', %s"), pets).sqlstate == "55000"


LAZY = "SELECT susx.classify_rows('compass', 'SELECT i, ''[1,0]''::vector FROM (SELECT generate_series(1, 1000000000::bigint)) s (i)')"


def test_limit_ends_the_reading(sql, compass):
    """A billion rows would take hours. What was opened for them is closed, also a hundred times in a transaction."""
    sql.run("BEGIN")
    for _ in range(100):
        assert len(sql.rows(f"{LAZY} LIMIT 3")) == 3
        assert len(sql.rows(f"SELECT ({LAZY.removeprefix('SELECT ')}).* LIMIT 2")) == 2
    assert cursors(sql) == 0
    sql.run("COMMIT")
    assert sql.rows("SELECT * FROM susx.stat_progress") == []


def test_a_lazy_call_in_a_cursor(sql, compass):
    sql.run(f"BEGIN; DECLARE c CURSOR FOR {LAZY}")
    assert len(sql.rows("FETCH 500 FROM c")) == 500
    assert cursors(sql) == 2
    # Other calls come in between.
    assert sql.one("SELECT susx.label('compass', '[0,1]'::vector)") == "north"
    assert len(sql.rows("FETCH 500 FROM c")) == 500
    sql.run("SAVEPOINT s")
    assert sql.fails("SELECT 1 / 0").sqlstate == "22012"
    sql.run("ROLLBACK TO s")
    assert len(sql.rows("FETCH 500 FROM c")) == 500
    sql.run("CLOSE c")
    assert cursors(sql) == 0
    # Begun inside of what is rolled back, it cannot go on; it says so.
    sql.run(f"DECLARE c CURSOR FOR {LAZY}; SAVEPOINT s")
    assert len(sql.rows("FETCH 10 FROM c")) == 10
    sql.run("ROLLBACK TO s")
    refusal = sql.fails("FETCH 1000 FROM c")
    assert refusal.sqlstate == "24000" and "Call the function again" in refusal.hint
    sql.run("ROLLBACK")
    assert sql.one("SELECT susx.label('compass', '[0,1]'::vector)") == "north"


def test_a_cursor_that_is_held(sql, compass):
    call = f"susx.classify_rows('compass', '{POINTS}, generate_series(1, 1000)')"
    sql.run(f"BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT {call}; COMMIT")
    assert len(sql.rows("FETCH ALL FROM c")) == 4000
    sql.run("CLOSE c")
    # A transaction that ends in the middle.
    sql.run(f"BEGIN; DECLARE c CURSOR FOR SELECT {call}")
    assert len(sql.rows("FETCH 10 FROM c")) == 10
    sql.run("COMMIT")
    assert cursors(sql) == 0


def test_in_plpgsql(sql, compass):
    """A loop that is left early, errors that are caught in its body and outside of it, and a call in an INSERT."""
    sql.run(f"""
        CREATE TABLE labels (id bigint, category text);
        CREATE FUNCTION first_rows(most int) RETURNS bigint LANGUAGE plpgsql AS $$
        DECLARE r record; n bigint := 0;
        BEGIN
            FOR r IN {LAZY} AS answer LOOP
                BEGIN
                    n := n + 1;
                    IF n % 100 = 0 THEN PERFORM 1 / 0; END IF;
                EXCEPTION WHEN division_by_zero THEN NULL;
                END;
                EXIT WHEN n >= most;
            END LOOP;
            RETURN n;
        END $$;
        CREATE FUNCTION attempt(query text) RETURNS text LANGUAGE plpgsql AS $$
        BEGIN
            RETURN (SELECT count(category) FROM susx.classify_rows('compass', query));
        EXCEPTION WHEN OTHERS THEN
            RETURN SQLSTATE || ' ' || (SELECT count(*) FROM pg_cursors WHERE statement LIKE '%series%');
        END $$""")
    sql.run("BEGIN")
    assert sql.rows("SELECT first_rows(m) FROM unnest('{5,300,1000}'::int[]) m") == [(5,), (300,), (1000,)]
    wrong = "SELECT i, (CASE WHEN i < 700 THEN ''[1,0]'' ELSE ''nonsense'' END)::vector FROM generate_series(1, 999::bigint) i"
    assert set(sql.rows(f"SELECT attempt('{wrong}'), attempt('{POINTS}') FROM generate_series(1, 50)")) == {
        ("22P02 0", "3")
    }
    assert cursors(sql) == 0
    sql.run(f"INSERT INTO labels SELECT key, category FROM susx.classify_rows('compass', '{POINTS}')")
    sql.run("COMMIT")
    assert sql.rows("SELECT * FROM labels ORDER BY id") == [(1, "east"), (2, "north"), (3, None), (4, "north")]


def test_nested_and_side_by_side(sql, pets, compass):
    """Queries that embed and classify themselves, and several calls at once."""
    sql.run(f"""
        CREATE FUNCTION inner_rows() RETURNS TABLE(key bigint) LANGUAGE sql STABLE AS
            $$SELECT key FROM susx.classify_rows('compass', '{POINTS}') WHERE category = 'north'$$""")
    assert [
        row[:3] for row in sql.rows(ROWS.format("'compass', 'SELECT key, ''[1,0.5]''::vector FROM inner_rows()'"))
    ] == [
        (2, 1, "east"),
        (4, 1, "east"),
    ]
    by_image = sql.rows(
        "SELECT key, category FROM susx.classify_rows('pets', 'SELECT id, image FROM pictures WHERE id > 30') ORDER BY 1"
    )
    embedded = "SELECT id, susx.embed_image(image, ''tiny_split'') FROM pictures WHERE id > 30"
    assert sql.rows(f"SELECT key, category FROM susx.classify_rows('pets', '{embedded}') ORDER BY 1") == by_image
    images = "susx.classify_rows('pets', 'SELECT id, image FROM pictures WHERE id > 30 ORDER BY id')"
    both = sql.rows(f"SELECT (a).key, (a).category, (b).category FROM (SELECT {images} a, {images} b OFFSET 0) s")
    assert both == [(key, category, category) for key, category in by_image]


def test_one_state_with_the_statement_around_it(sql, compass):
    rows = sql.rows(f"""
        WITH more AS (INSERT INTO points VALUES (5, '[0,1]') RETURNING 1)
        SELECT (SELECT count(*) FROM more), count(*) FROM susx.classify_rows('compass', '{POINTS}')""")
    assert rows == [(1, 4)]
    sql.run("BEGIN")
    sql.run(f"DECLARE c CURSOR FOR SELECT susx.classify_rows('compass', '{POINTS}, generate_series(1, 1000)')")
    assert len(sql.rows("FETCH 5 FROM c")) == 5
    # Neither the rows nor the classifier are those that the call began with.
    sql.run("DELETE FROM points")
    sql.run("UPDATE compass SET embedding = '[0,1]' WHERE category = 'east'")
    rest = sql.column("FETCH ALL FROM c")
    assert len(rest) == 4995
    assert sum("east" in str(row) for row in rest) >= 900
    sql.run("ROLLBACK")


def test_read_only_transactions(sql, compass, pets):
    sql.run("BEGIN READ ONLY")
    assert len(sql.rows(ROWS.format("'compass', %s"), POINTS)) == 4
    assert len(sql.rows(ROWS.format("'pets', %s"), pets)) == 600
    sql.run("COMMIT")


def test_the_rights_are_the_callers(sql, schema, compass):
    sql.run(f"CREATE ROLE reader; GRANT USAGE ON SCHEMA {schema} TO reader; GRANT SELECT ON points TO reader")
    try:
        sql.run("CREATE TABLE secret AS TABLE points")
        sql.run("SET ROLE reader")
        assert sql.fails(ROWS.format("'compass', %s"), POINTS).sqlstate == "42501"
        sql.run("RESET ROLE; GRANT SELECT ON compass TO reader; SET ROLE reader")
        assert len(sql.rows(ROWS.format("'compass', %s"), POINTS)) == 4
        refusal = sql.fails(ROWS.format("'compass', %s"), "SELECT id, embedding FROM secret")
        assert (refusal.sqlstate, "secret" in refusal.message) == ("42501", True)
        sql.run("RESET ROLE; ALTER TABLE points ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON points USING (id < 3)")
        sql.run("SET ROLE reader")
        assert len(sql.rows(ROWS.format("'compass', %s"), POINTS)) == 2
    finally:
        sql.run("RESET ROLE; DROP OWNED BY reader; DROP ROLE reader")


def memory(session) -> int:
    """Anonymous memory of the session's process in kB: what is shared, as PostgreSQL's buffers, is not its own."""
    status = Path(f"/proc/{session.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:"))


def peak_memory(session, work) -> int:
    """The most that it has while it works."""
    most, is_done = [memory(session)], threading.Event()

    def watch():
        while not is_done.wait(0.02):
            most.append(memory(session))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        is_done.set()
        watcher.join()
    return max(most)


def test_constant_memory(sql, connect, schema):
    """A million rows take what a hundred thousand take, and no temporary file."""
    create_random(sql, "toy", categories=5, dimensions=16)
    sql.run(
        "CREATE TABLE few AS SELECT i, (SELECT array_agg(sin(i * j + 1)) FROM generate_series(1, 16) j)::real[]::vector "
        "AS embedding FROM generate_series(0, 99) i"
    )
    query = "SELECT s.i, f.embedding FROM (SELECT generate_series(1, {}::bigint)) s (i) JOIN few f ON f.i = s.i % 100"
    peaks = []
    for rows in (100_000, 1_000_000):
        session = connect()
        session.run(f"SET search_path = {schema}, public; SET client_min_messages = warning; SET enable_hashjoin = on")

        def work():
            counted = session.rows(
                "SELECT count(*), count((r).error), count(DISTINCT (r).category) > 1 FROM "
                f"(SELECT susx.classify_rows('toy', '{query.format(rows)}', key => NULL::bigint) AS r OFFSET 0) s"
            )
            assert counted == [(rows, 0, True)]

        peaks.append(peak_memory(session, work))
    assert peaks[1] < peaks[0] + 8_000, f"{peaks} kB"


def test_constant_memory_with_images(sql, pets, connect, schema):
    """1.2 GB of files that are no images."""
    session = connect()
    session.run(f"SET search_path = {schema}, public")
    query = "SELECT i, convert_to(repeat(''x'', 20000000), ''UTF8'') FROM generate_series(1, 60::bigint) i"

    def work():
        assert session.rows(f"SELECT count(*), count(error) FROM susx.classify_rows('pets', '{query}')") == [(60, 60)]

    peak = peak_memory(session, work)
    assert peak < 400_000, f"{peak} kB"


def test_the_server_works_ahead(sql, pets, connect, cluster):
    """While the client takes its time over some rows, the images of the next ones are being embedded: with the
    inference process stopped, the rows of what it had answered by then still come."""
    sql.run("BEGIN")
    sql.run(
        "DECLARE c CURSOR FOR SELECT susx.classify_rows('pets', 'SELECT id, image FROM pictures, generate_series(1, 9) "
        "WHERE id > 30')"
    )
    assert len(sql.rows("FETCH 1 FROM c")) == 1
    # The first batch has 32 rows, the next ones more: they were sent before the first row was returned.
    time.sleep(1)
    (server,) = servers(cluster.data_dir)
    os.kill(server, signal.SIGSTOP)
    try:
        sql.run("SET statement_timeout = '2min'")
        assert len(sql.rows("FETCH 90 FROM c")) == 90
    finally:
        os.kill(server, signal.SIGCONT)
    assert len(sql.rows("FETCH ALL FROM c")) == 570 * 9 - 91
    sql.run("COMMIT; RESET statement_timeout")


@pytest.mark.parametrize(
    "name, query",
    [
        ("compass", "SELECT i, '[1,0]'::vector FROM (SELECT generate_series(1, 1000000000::bigint)) s (i)"),
        (
            "compass",
            "SELECT i, '[1,0]'::vector FROM generate_series(1, 100000::bigint) i WHERE pg_sleep(0.01)::text = ''",
        ),
        ("pets", "SELECT id, image FROM pictures, generate_series(1, 100000)"),
    ],
)
def test_cancel_and_timeout(sql, connect, pets, compass, name, query):
    call = "SELECT count(*) FROM susx.classify_rows(%s, %s)"
    other = connect()
    with in_background(lambda: sql.fails(call, name, query)) as results:
        time.sleep(1)
        asked = time.monotonic()
        assert other.one("SELECT pg_cancel_backend(%s)", sql.pid)
    assert results[0].sqlstate == "57014"
    assert time.monotonic() - asked < PROMPTLY
    sql.run("SET statement_timeout = '700ms'")
    started = time.monotonic()
    assert sql.fails(call, name, query).sqlstate == "57014"
    assert 0.6 < time.monotonic() - started < 0.7 + PROMPTLY
    sql.run("RESET statement_timeout")
    assert sql.rows("SELECT * FROM susx.stat_progress") == []
    assert cursors(sql) == 0
    assert sql.one(call, "pets", "SELECT id, image FROM pictures") == 600


def test_the_server_is_killed(new_cluster):
    """During the call: every row has its label, or the call ends with an error that says why."""
    from helpers.session import session_of

    with new_cluster() as cluster, session_of(cluster) as sql:
        sql.run("SET client_min_messages = warning")
        files = [encode(picture(seed, (40, 40))) for seed in range(20)]
        sql.run(
            """
            SELECT susx.create_classifier('pets', '{cat,dog}', text_embeddings =>
                (SELECT array_agg(embedding ORDER BY ord) FROM susx.embed_images(%s, 'tiny_split')))""",
            files[:2],
        )
        sql.run("SELECT susx.alter_classifier('pets', model => 'tiny_split')")
        sql.run("CREATE TABLE pictures (id bigint, image bytea)")
        sql.copy("pictures", ["id", "image"], ((i, file) for i, file in enumerate(files)))
        expected = sql.rows("SELECT id, susx.label('pets', image) FROM pictures ORDER BY id")
        assert len({label for _, label in expected}) == 2
        call = (
            "SELECT key, category, error, count(*) FROM susx.classify_rows('pets', "
            "'SELECT id, image FROM pictures, generate_series(1, 400)') GROUP BY 1, 2, 3 ORDER BY 1"
        )
        right = [(key, category, None, 400) for key, category in expected]
        assert sql.rows(call) == right
        outcomes = []
        until = time.monotonic() + 12
        with in_background(lambda: kill_repeatedly(cluster, until)):
            while time.monotonic() < until:
                try:
                    outcomes.append(sql.rows(call))
                except psycopg.Error as error:
                    outcomes.append(error.sqlstate)
        assert eventually(lambda: sql.rows(call) == right)
        assert all(outcome == right or outcome in ("08006", "57P03") for outcome in outcomes), outcomes
        assert outcomes.count(right) >= 1


def kill_repeatedly(cluster, until):
    while time.monotonic() < until:
        for server in servers(cluster.data_dir):
            os.kill(server, signal.SIGKILL)
        time.sleep(2.5)

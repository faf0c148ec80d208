"""susx.stat_progress: the progress of long calls as other sessions see it, and the session's own notices."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta, timezone

import pytest

from helpers.pictures import encode, picture
from helpers.processes import PROMPTLY
from helpers.session import in_background
from helpers.toy import create_compass, create_random

pytestmark = pytest.mark.slow

# Two milliseconds a row at least.
SLOW = "SELECT i, (CASE WHEN pg_sleep(0.002) IS NOT NULL THEN '[1,0]' END)::vector FROM generate_series(1, 100000::bigint) i"
CALL = "SELECT count(*) FROM susx.classify_rows('compass', %s)"


@pytest.fixture
def sql(sql):
    create_compass(sql)
    return sql


def shown(observer, pid, wanted=lambda row: True, seconds=120):
    """The first progress row of that session that satisfies `wanted`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for row in observer.rows("SELECT *, clock_timestamp() FROM susx.stat_progress WHERE pid = %s", pid):
            columns = (
                "pid database usename relation command phase done total failed started rate estimated_end now"
            ).split()
            account = dict(zip(columns, row))
            if wanted(account):
                return account
        time.sleep(0.02)
    raise AssertionError("not seen in time")


class running:
    """A statement in the background, which is cancelled at the end of the block."""

    def __init__(self, session, canceller, query, *arguments):
        self.session, self.canceller = session, canceller
        self.background = in_background(lambda: session.rows(query, *arguments))

    def __enter__(self):
        self.results = self.background.__enter__()
        return self.results

    def __exit__(self, *_):
        self.canceller.run("SELECT pg_cancel_backend(%s)", self.session.pid)
        self.background.__exit__(None, None, None)


def test_seen_by_another_session(sql, connect, schema):
    other = connect()
    before = datetime.now(timezone.utc)
    with running(sql, other, CALL, SLOW) as results:
        first = shown(other, sql.pid, lambda row: row["done"] and row["done"] >= 32)
        assert first["database"] == "susx" and first["usename"] == other.one("SELECT current_user")
        assert str(first["relation"]).endswith("compass")
        assert (first["command"], first["phase"], first["failed"]) == ("classify_rows", "classifying", 0)
        assert before - timedelta(seconds=1) <= first["started"] <= datetime.now(timezone.utc)
        time.sleep(2)
        later = shown(other, sql.pid, lambda row: row["done"] > first["done"])
        now = later["now"]
        assert 5 < later["rate"] <= 500
        assert later["started"] == first["started"]
        assert later["rate"] == pytest.approx(later["done"] / (now - later["started"]).total_seconds(), rel=0.2)
        assert later["total"] == 100_000
        left = (100_000 - later["done"]) / later["rate"]
        assert abs((later["estimated_end"] - now).total_seconds() - left) < 2
        names = other.column("SELECT relation::regclass::text FROM susx.stat_progress WHERE pid = %s", sql.pid)
        assert names == [f"{schema}.compass"]
    assert "user request" in str(results[0])
    assert other.rows("SELECT * FROM susx.stat_progress") == []


def test_the_total_is_what_the_planner_expects(sql, connect):
    other = connect()
    query = "SELECT i, '[1,0]'::vector FROM (SELECT generate_series(1, 20000000)) s (i)"
    with running(sql, other, CALL.replace("%s", "%s, key => NULL::int"), query):
        assert shown(other, sql.pid, lambda row: row["done"] > 1000)["total"] == 20_000_000
    # Nothing, once there have been more rows than estimated.
    sql.run(
        "CREATE FUNCTION few() RETURNS SETOF bigint LANGUAGE sql VOLATILE ROWS 100 AS "
        "$$SELECT generate_series(1, 20000000::bigint)$$"
    )
    with running(sql, other, CALL, "SELECT few(), '[1,0]'::vector"):
        row = shown(other, sql.pid, lambda row: row["done"] > 0)
        while row["done"] <= 100:
            assert row["total"] == 100
            row = shown(other, sql.pid, lambda row: row["done"] > 0)
        assert (row["total"], row["estimated_end"]) == (None, None)
        assert row["rate"] > 0


def test_failed_rows_are_counted(sql, connect):
    other = connect()
    query = SLOW.replace("'[1,0]'", "CASE WHEN i % 2 = 0 THEN '[1,0]' ELSE '[0,0]' END")
    with running(sql, other, CALL, query):
        row = shown(other, sql.pid, lambda row: row["done"] >= 96)
        assert row["failed"] == row["done"] / 2


def test_who_may_see_it(sql, connect, schema):
    """As in pg_stat_activity, everyone sees that a session is at work, and only privileged roles see the details."""
    reader = connect()
    sql.run(
        "CREATE ROLE worker LOGIN; CREATE ROLE other; CREATE ROLE stats IN ROLE pg_read_all_stats; CREATE ROLE boss; "
        "GRANT worker TO boss"
    )
    try:
        sql.run(f"GRANT USAGE ON SCHEMA {schema} TO worker; GRANT SELECT ON compass TO worker")
        worker = connect(user="worker")
        worker.run(f"SET search_path = {schema}, public")
        with running(worker, sql, CALL, SLOW):
            shown(sql, worker.pid, lambda row: row["done"] and row["done"] > 0)
            for role, may in (("other", False), ("stats", True), ("boss", True), ("worker", True)):
                reader.run(f"SET SESSION AUTHORIZATION {role}")
                ((pid, database, user, *details),) = reader.rows("SELECT * FROM susx.stat_progress")
                assert (pid, database) == (worker.pid, "susx")
                activity = reader.one("SELECT query LIKE 'SELECT count%%' FROM pg_stat_activity WHERE pid = %s", pid)
                assert activity is may
                assert user == "worker"
                if may:
                    assert details[1] == "classify_rows"
                else:
                    assert details == [None] * 9
                reader.run("RESET SESSION AUTHORIZATION")
    finally:
        sql.run(f"REVOKE ALL ON SCHEMA {schema} FROM worker; REVOKE ALL ON compass FROM worker")
        sql.run("DROP ROLE worker, other, stats, boss")


def test_from_another_database(sql, connect, fresh_database):
    other = connect(fresh_database)
    other.run("SET client_min_messages = warning; CREATE EXTENSION susx CASCADE")
    with running(sql, other, CALL, SLOW):
        row = shown(other, sql.pid, lambda row: row["done"] and row["done"] > 0)
        assert (row["database"], row["relation"], row["command"]) == ("susx", None, "classify_rows")


def test_other_commands_are_not_shown(sql, connect):
    """Nor do PostgreSQL's own views show ours."""
    other = connect()
    sql.run("CREATE TABLE numbers (i int)")
    copy = "COPY (SELECT pg_sleep(0.01), i FROM generate_series(1, 1000) i) TO '/dev/null'"
    with running(sql, other, copy):
        for _ in range(200):
            if other.rows("SELECT 1 FROM pg_stat_progress_copy WHERE pid = %s", sql.pid):
                break
            time.sleep(0.02)
        assert other.rows("SELECT 1 FROM pg_stat_progress_copy WHERE pid = %s", sql.pid)
        assert other.rows("SELECT 1 FROM susx.stat_progress WHERE pid = %s", sql.pid) == []
    with running(sql, other, CALL, SLOW):
        shown(other, sql.pid)
        for view in ("copy", "vacuum", "create_index", "analyze", "cluster", "basebackup"):
            assert other.rows(f"SELECT 1 FROM pg_stat_progress_{view} WHERE pid = %s", sql.pid) == []


def test_inside_of_a_copy(sql, connect):
    """COPY's own progress is not overwritten."""
    other = connect()
    call = "SELECT * FROM susx.classify_rows('compass', '" + SLOW.replace("'", "''") + "')"
    with running(sql, other, f"COPY ({call}) TO '/dev/null'"):
        time.sleep(1)
        assert other.one("SELECT command FROM pg_stat_progress_copy WHERE pid = %s", sql.pid) == "COPY TO"
        assert other.rows("SELECT 1 FROM susx.stat_progress WHERE pid = %s", sql.pid) == []


def test_nested_calls(sql, connect):
    """The outer call is shown, from the beginning to the end, whatever its query calls and whatever fails in there."""
    other = connect()
    sql.run("SELECT susx.create_classifier('inner', '{a,b}', text_embeddings => ARRAY['[1,0]', '[0,1]']::vector[])")
    sql.run("""
        CREATE FUNCTION busy(i bigint) RETURNS vector LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM count(*) FROM susx.classify_rows('inner', 'SELECT 1::bigint, ''[1,0]''::vector');
            BEGIN
                PERFORM count(*) FROM susx.classify_rows('inner', 'SELECT 1::bigint, ''nonsense''::vector');
            EXCEPTION WHEN OTHERS THEN NULL;
            END;
            PERFORM pg_sleep(0.002);
            RETURN '[1,0]';
        END $$""")
    with running(sql, other, CALL, "SELECT i, busy(i) FROM generate_series(1, 100000::bigint) i"):
        seen = []
        until = time.monotonic() + PROMPTLY
        while time.monotonic() < until and not (seen and seen[-1][1] > 200):
            seen += other.rows("SELECT relation::text, done FROM susx.stat_progress WHERE pid = %s", sql.pid)
    assert {name.split(".")[-1] for name, _ in seen} == {"compass"}
    done = [n for _, n in seen]
    assert done == sorted(done) and done[-1] > 32
    # A failed subtransaction clears the entry; it is back with the next report.
    assert other.rows("SELECT * FROM susx.stat_progress") == []


def test_calls_that_take_turns(sql, connect):
    """An open cursor that is not read makes room for other calls, and reappears when it is read."""
    other = connect()
    call = "SELECT susx.classify_rows('compass', 'SELECT i, ''[1,0]''::vector FROM generate_series(1, 1000::bigint) i')"
    sql.run(f"BEGIN; DECLARE c CURSOR FOR {call}")
    sql.run("FETCH 40 FROM c")
    assert shown(other, sql.pid)["done"] == 32 + 64
    sql.run("SELECT susx.create_classifier('tuned', '{a,b}', text_embeddings => ARRAY['[1,0]', '[0,1]']::vector[])")
    sql.run("SAVEPOINT s")
    with running(sql, other, CALL.replace("compass", "tuned"), SLOW):
        assert str(shown(other, sql.pid, lambda row: row["done"] and row["done"] < 40)["relation"]) != "compass"
        assert shown(other, sql.pid, lambda row: row["done"] == 32)["command"] == "classify_rows"
    sql.run("ROLLBACK TO s")
    assert other.rows("SELECT * FROM susx.stat_progress") == []
    sql.run("FETCH 500 FROM c")
    assert shown(other, sql.pid)["done"] >= 540
    sql.run("CLOSE c")
    assert other.rows("SELECT * FROM susx.stat_progress") == []
    sql.run("COMMIT")


@pytest.mark.parametrize("end", ["cancel", "error", "savepoint", "rollback", "terminate", "limit"])
def test_nothing_is_left(sql, connect, end):
    observer, worker = connect(), connect()
    worker.run(f"SET search_path = {sql.one('SELECT current_schema()')}, public")
    assert observer.rows("SELECT * FROM susx.stat_progress") == []
    if end in ("cancel", "terminate"):
        with in_background(lambda: worker.rows(CALL, SLOW)):
            shown(observer, worker.pid)
            observer.run(f"SELECT pg_{end}_backend(%s)", worker.pid)
    elif end == "limit":
        worker.rows("SELECT susx.classify_rows('compass', %s) LIMIT 40", SLOW)
    else:
        worker.run("BEGIN; SAVEPOINT s")
        worker.run(
            "DECLARE c CURSOR FOR SELECT susx.classify_rows('compass', %s)".replace(
                "%s", "'" + SLOW.replace("'", "''") + "'"
            )
        )
        worker.run("FETCH 10 FROM c")
        assert observer.one("SELECT count(*) FROM susx.stat_progress") == 1
        if end == "error":
            worker.fails("SELECT 1 / 0")
        else:
            worker.run("ROLLBACK TO s" if end == "savepoint" else "ROLLBACK")
    deadline = time.monotonic() + 5
    while observer.rows("SELECT * FROM susx.stat_progress") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert observer.rows("SELECT * FROM susx.stat_progress") == []


SENTENCE = re.compile(
    r"susx\.classify_rows: classifying, (\d+) of (\d+) \((\d+(\.\d)?) per second, [0-9hmins ]+ left\)(, \d+ failed)?$"
)


def test_notices(sql):
    rows = SLOW.replace("100000", "1000")
    sql.run("SET client_min_messages = notice; SET susx.progress_interval = '300ms'")
    started = time.monotonic()
    assert sql.one(CALL, rows) == 1000
    seconds = time.monotonic() - started
    assert 2 <= len(sql.notices) <= seconds / 0.3 + 1
    found = [SENTENCE.match(notice) for notice in sql.notices]
    assert all(found), sql.notices
    done = [int(match[1]) for match in found]
    assert done == sorted(set(done)) and {int(match[2]) for match in found} == {1000}
    sql.notices.clear()
    sql.run("SET susx.progress_interval = 0")
    assert sql.one(CALL, rows) == 1000
    assert sql.notices == []
    sql.run("RESET susx.progress_interval")
    assert sql.one("SHOW susx.progress_interval") == "5s"
    assert sql.one(CALL, rows.replace("1000:", "200:")) == 200
    assert sql.notices == []


@pytest.fixture
def large(sql):
    """A classifier over which a search takes long: 4,000 support images of 400 categories."""
    create_random(sql, "large", categories=400, dimensions=64, per_class=10)
    sql.run("CREATE TABLE labelled AS SELECT embedding, category FROM large WHERE kind = 'image'")


TUNE = {
    "labels": "SELECT * FROM susx.tune('large', 'SELECT embedding, category FROM labelled, generate_series(1, 1000)')",
    "support": "SELECT * FROM susx.tune('large')",
}


@pytest.mark.parametrize("kind", TUNE)
def test_tune(sql, connect, large, kind):
    """Its search is seen, and cancelled promptly, by a timeout too."""
    other = connect()
    sql.run("ANALYZE labelled")
    with in_background(lambda: sql.fails(TUNE[kind])) as results:
        row = shown(other, sql.pid, lambda row: row["phase"] == "searching" and row["done"] > 0, 60)
        assert (row["command"], row["failed"]) == ("tune", 0)
        assert row["total"] == (4000 if kind == "support" else 4_000_000)
        assert row["rate"] > 0
        asked = time.monotonic()
        other.run("SELECT pg_cancel_backend(%s)", sql.pid)
    assert results[0].sqlstate == "57014"
    assert time.monotonic() - asked < PROMPTLY
    assert other.rows("SELECT * FROM susx.stat_progress") == []
    sql.run("SET statement_timeout = '1500ms'")
    started = time.monotonic()
    assert sql.fails(TUNE[kind]).sqlstate == "57014"
    assert time.monotonic() - started < PROMPTLY
    sql.run("RESET statement_timeout")


@pytest.mark.same_everywhere
def test_a_long_search_over_many_categories(sql, connect):
    """A single row takes long, so the cancel takes effect within the row."""
    names = 3000
    sql.run(
        "SELECT susx.create_classifier('wide', (SELECT array_agg('c' || i) FROM generate_series(1, %s) i), "
        "text_embeddings => (SELECT array_agg(ARRAY[sin(i), cos(i), sin(i * 7)]::real[]::vector) FROM generate_series(1, %s) i))",
        names,
        names,
    )
    sql.run(
        "INSERT INTO wide (category, kind, origin, embedding) SELECT category, 'image', 'labelled', embedding "
        "FROM wide WHERE kind = 'prompt'"
    )
    other = connect()
    query = "SELECT * FROM susx.tune('wide', 'SELECT embedding, category FROM wide WHERE kind = ''image''')"
    with in_background(lambda: sql.fails(query)) as results:
        shown(other, sql.pid, lambda row: row["phase"] == "searching", 60)
        time.sleep(1)
        asked = time.monotonic()
        other.run("SELECT pg_cancel_backend(%s)", sql.pid)
    assert results[0].sqlstate == "57014"
    assert time.monotonic() - asked < PROMPTLY


@pytest.mark.parametrize("function", ["evaluate", "confusion_matrix"])
def test_evaluate(sql, connect, function):
    other = connect()
    query = "SELECT '[1,0]'::vector, 'east' FROM (SELECT generate_series(1, 50000000)) s"
    with running(sql, other, f"SELECT * FROM susx.{function}('compass', %s)", query):
        row = shown(other, sql.pid, lambda row: row["done"] and row["done"] > 1000)
        assert (row["command"], row["phase"], row["total"]) == (function, "classifying", 50_000_000)


@pytest.mark.parametrize("index", [False, True])
def test_build_support_set(sql, connect, index):
    """Images where the pool is looked through, prompts where its index is asked."""
    other = connect()
    names = [f"c{i:03}" for i in range(300)]
    sql.run("SELECT setseed(0.5)")
    random = "(SELECT array_agg(random() + 0 * {} * j) FROM generate_series(1, 16) j)::real[]::vector"
    sql.run(
        f"SELECT susx.create_classifier('many', %s, text_embeddings => (SELECT array_agg({random.format('i')}) "
        "FROM generate_series(1, 300) i))",
        names,
    )
    sql.run(
        f"CREATE TABLE pool AS SELECT i AS id, {random.format('i')}::vector(16) AS embedding FROM generate_series(1, 60000) i"
    )
    sql.run("UPDATE pool SET embedding = NULL WHERE id <= 1000; ALTER TABLE pool ADD PRIMARY KEY (id)")
    if index:
        sql.run(
            "CREATE INDEX ON pool USING ivfflat (embedding vector_cosine_ops) WITH (lists = 10); SET ivfflat.probes = 10"
        )
    seen = []

    def look():
        while not is_done:
            seen.extend(
                other.rows("SELECT command, phase, done, total FROM susx.stat_progress WHERE pid = %s", sql.pid)
            )

    is_done = []
    with in_background(look):
        rows = sql.rows("SELECT * FROM susx.build_support_set('many', 'pool', per_class => 40, use_index => %s)", index)
        is_done.append(True)
    assert len(rows) == 300
    reading = [(done, total) for command, phase, done, total in seen if phase == "reading"]
    assert {command for command, *_ in seen} == {"build_support_set"}
    assert {total for _, total in reading} == {300 if index else 59000}
    done = [n for n, _ in reading]
    assert done == sorted(done) and len(set(done)) >= 3
    written = sum(images for _, images, *_ in rows)
    assert {total for _, phase, _, total in seen if phase == "writing"} <= {written}


def test_images_that_wait_for_their_embeddings(sql, connect):
    other = connect()
    sql.run("SELECT susx.create_classifier('kinds', '{cat,dog}')")
    sql.run("CREATE TABLE pictures (id bigint, image bytea)")
    sql.copy("pictures", ["id", "image"], ((i, encode(picture(i, (64, 64)))) for i in range(50)))
    query = "SELECT id, image FROM pictures, generate_series(1, 2000)"
    with running(sql, other, "SELECT count(*) FROM susx.classify_rows('kinds', %s)", query):
        row = shown(other, sql.pid, lambda row: row["done"] and row["done"] > 100, 60)
        assert 0 < row["rate"] < 100_000 and row["phase"] == "classifying"

"""CALL susx.embed_table during writes, kills and cancels: it continues or is called again, and no embedding is wrong."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time

import psycopg
import pytest

from helpers.pictures import encode, picture
from helpers.poison import poisonous
from helpers.processes import eventually, is_alive, servers
from helpers.session import Session, in_background, session_of
from helpers.work import images_embedded

ROWS = 1500

# Rows whose embedding is not that of their image, made one by one in one session: none may be there.
WRONG = """
    SELECT count(*) FROM photos p WHERE embedding IS NOT NULL
    AND (image IS NULL OR (embedding <=> (SELECT f.embedding FROM files f WHERE f.image = p.image)) > 1e-5)"""
MISSING = "SELECT count(*) FROM photos WHERE embedding IS NULL AND image IS NOT NULL"
CALL = "CALL susx.embed_table('photos', model => 'tiny_split', batch_size => 20)"


@pytest.fixture
def cluster(own_cluster):
    """A cluster of its own instead of the shared one."""
    own_cluster.start()
    return own_cluster


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    return [encode(picture(seed, (480, 360))) for seed in range(40)]


@pytest.fixture
def photos(cluster, images) -> str:
    """A schema with photos(id, image, embedding), and files(n, image, embedding) with the right embeddings."""
    schema = f"t_{random.getrandbits(40)}"
    with open_session(cluster, schema) as sql:
        sql.run(f"CREATE SCHEMA {schema}; CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector(32))")
        sql.run("CREATE TABLE files (n int PRIMARY KEY, image bytea, embedding vector(32))")
        sql.copy("files", ["n", "image"], enumerate(images))
        sql.run("UPDATE files SET embedding = susx.embed_image(image, 'tiny_split')")
        sql.run(f"INSERT INTO photos SELECT i, (SELECT image FROM files WHERE n = i % 40) FROM generate_series(1, {ROWS}) i")
    yield schema
    with open_session(cluster, schema) as sql:
        sql.run(f"DROP SCHEMA {schema} CASCADE")


@contextlib.contextmanager
def open_session(cluster, schema: str):
    with session_of(cluster) as session:
        session.run(f"SET search_path = {schema}, public; SET client_min_messages = warning; SET synchronous_commit = on")
        yield session


def embedded(sql: Session) -> int:
    return sql.one("SELECT count(embedding) FROM photos")


def interrupt(cluster, schema: str, how) -> object:
    """Calls until some rows are embedded, then interrupts; the error that the call ended with, or None."""
    with open_session(cluster, schema) as worker, open_session(cluster, schema) as other:
        with in_background(lambda: worker.run(CALL)) as results:
            # Another session sees them while the call runs: they are committed.
            assert eventually(lambda: embedded(other) >= 100)
            how(worker, other)
    return results[0]


def finish(cluster, schema: str) -> None:
    with open_session(cluster, schema) as sql:
        before = embedded(sql)
        assert 100 <= before < ROWS, "the interruption came too late"
        kept = sql.rows("SELECT id, xmin::text FROM photos WHERE embedding IS NOT NULL")
        sql.run(CALL)
        assert (sql.one(MISSING), sql.one(WRONG), embedded(sql)) == (0, 0, ROWS)
        # Finished rows are not embedded again.
        assert set(kept) <= set(sql.rows("SELECT id, xmin::text FROM photos"))


def test_cancelled(cluster, photos):
    error = interrupt(cluster, photos, lambda worker, other: other.run("SELECT pg_cancel_backend(%s)", worker.pid))
    assert isinstance(error, psycopg.errors.QueryCanceled)
    finish(cluster, photos)


def test_terminated(cluster, photos):
    error = interrupt(
        cluster, photos, lambda worker, other: other.run("SELECT pg_terminate_backend(%s)", worker.pid)
    )
    assert isinstance(error, psycopg.OperationalError)
    finish(cluster, photos)


def test_the_backend_is_killed(cluster, photos):
    def kill(worker, other):
        os.kill(worker.pid, signal.SIGKILL)
        # The killed session is gone before PostgreSQL notices, ends the others and recovers.
        with pytest.raises(psycopg.OperationalError):
            other.run("SELECT pg_sleep(120)")

    error = interrupt(cluster, photos, kill)
    assert isinstance(error, psycopg.OperationalError)

    def recovered():
        with contextlib.suppress(psycopg.OperationalError), open_session(cluster, photos) as sql:
            return embedded(sql) > 0

    assert eventually(recovered)
    finish(cluster, photos)


def test_postgresql_is_restarted_at_once(cluster, photos):
    error = interrupt(cluster, photos, lambda worker, other: cluster.stop("immediate"))
    assert isinstance(error, psycopg.OperationalError)
    cluster.start()
    finish(cluster, photos)


def test_the_postmaster_is_killed(cluster, photos):
    def kill(worker, other):
        pid = cluster.postmaster()
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: not is_alive(pid))

    error = interrupt(cluster, photos, kill)
    assert isinstance(error, psycopg.OperationalError)
    cluster.start()
    finish(cluster, photos)


def test_the_server_is_killed_again_and_again(cluster, photos):
    """The call goes on with the next one."""

    def kill(worker, other):
        for _ in range(3):
            before = embedded(other)
            for server in servers(cluster.data_dir):
                os.kill(server, signal.SIGKILL)
            assert eventually(lambda: embedded(other) > before)

    error = interrupt(cluster, photos, kill)
    assert error is None
    with open_session(cluster, photos) as sql:
        assert (sql.one(MISSING), sql.one(WRONG), embedded(sql)) == (0, 0, ROWS)
        assert sql.rows("SELECT * FROM susx.errors WHERE relation = 'photos'::regclass") == []


def test_nobody_is_held_up_while_it_waits(cluster, photos):
    """It holds no lock and no snapshot then: VACUUM and ALTER TABLE go on."""

    def look(worker, other):
        (server,) = servers(cluster.data_dir)
        os.kill(server, signal.SIGSTOP)
        try:
            waits = "SELECT wait_event_type = 'Extension' AND backend_xmin IS NULL FROM pg_stat_activity WHERE pid = %s"
            assert eventually(lambda: other.one(waits, worker.pid))
            locks = "SELECT count(*) FROM pg_locks WHERE pid = %s AND relation = 'photos'::regclass"
            assert other.one(locks, worker.pid) == 0
            other.run("SET lock_timeout = '1min'; ALTER TABLE photos ADD note text DEFAULT 'x'")
            other.run("VACUUM FULL photos")
        finally:
            os.kill(server, signal.SIGCONT)

    error = interrupt(cluster, photos, look)
    assert error is None
    with open_session(cluster, photos) as sql:
        # What was on its way when the table was written anew was read again.
        assert (sql.one(MISSING), sql.one(WRONG), embedded(sql)) == (0, 0, ROWS)


@pytest.mark.parametrize(
    "change, sqlstate",
    [
        ("DROP TABLE photos", "55000"),
        ("ALTER TABLE photos DROP CONSTRAINT photos_pkey", "55000"),
        ("ALTER TABLE photos DROP CONSTRAINT photos_pkey, ADD other int GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "55000"),
        ("ALTER TABLE photos RENAME embedding TO other", "42703"),
        ("ALTER TABLE photos RENAME TO others", None),
    ],
)
def test_the_table_is_changed(cluster, photos, change, sqlstate):
    error = interrupt(cluster, photos, lambda worker, other: other.run(f"{change}; CREATE VIEW v AS SELECT 1; CREATE TABLE IF NOT EXISTS photos (embedding int)"))
    assert (error.sqlstate if error else None) == sqlstate
    if sqlstate is None:
        with open_session(cluster, photos) as sql:
            sql.run("DROP TABLE photos; ALTER TABLE others RENAME TO photos")
            assert (sql.one(MISSING), sql.one(WRONG), embedded(sql)) == (0, 0, ROWS)


def test_beside_writers(cluster, photos):
    """They change images and keys, delete, insert, and lock rows. No row keeps an old image's embedding."""
    until = time.monotonic() + 8
    ended = []

    def write(seed: int) -> int:
        choose, written = random.Random(seed), 0
        with open_session(cluster, photos) as sql:
            while not ended:
                row, file = choose.randint(1, ROWS), choose.randint(0, 39)
                image = f"(SELECT image FROM files WHERE n = {file})"
                sql.run(
                    choose.choice(
                        [
                            f"UPDATE photos SET image = {image}, embedding = NULL WHERE id = {row}",
                            f"UPDATE photos SET image = {image}, embedding = NULL WHERE id % 50 = {row % 50} AND id > {row}",
                            f"UPDATE photos SET image = {image} WHERE id = {row} AND embedding IS NULL",
                            f"UPDATE photos SET image = NULL, embedding = NULL WHERE id = {row}",
                            f"DELETE FROM photos WHERE id = {row}; INSERT INTO photos VALUES ({row}, {image})",
                            f"INSERT INTO photos SELECT max(id) + 1, {image} FROM photos",
                            f"UPDATE photos SET id = -{row} - id WHERE id = {row}",
                            f"BEGIN; SELECT FROM photos WHERE id BETWEEN {row} AND {row} + 50 FOR UPDATE; "
                            f"SELECT pg_sleep(0.2); UPDATE photos SET image = {image}, embedding = NULL "
                            f"WHERE id = {row}; COMMIT",
                        ]
                    )
                )
                written += 1
        return written

    def embed() -> int:
        calls = 0
        try:
            with open_session(cluster, photos) as sql:
                while time.monotonic() < until:
                    sql.run(CALL)
                    calls += 1
            return calls
        finally:
            ended.append(True)

    with in_background(*(lambda seed=seed: write(seed) for seed in range(3)), embed, embed) as results:
        pass
    # Writers may block each other, but not this call.
    for result in results:
        assert isinstance(result, (int, psycopg.errors.DeadlockDetected, psycopg.errors.UniqueViolation)), result
    assert all(isinstance(calls, int) and calls > 0 for calls in results[3:]), results
    with open_session(cluster, photos) as sql:
        assert sql.one(WRONG) == 0
        sql.run(CALL)
        assert (sql.one(MISSING), sql.one(WRONG)) == (0, 0)


def test_a_row_that_is_locked_is_not_waited_for(cluster, photos):
    with open_session(cluster, photos) as writer, open_session(cluster, photos) as sql:
        writer.run("BEGIN; UPDATE photos SET image = (SELECT image FROM files WHERE n = 39) WHERE id IN (5, 1400)")
        sql.run("SET client_min_messages = notice")
        sql.run(CALL)
        assert sql.column("SELECT id FROM photos WHERE embedding IS NULL ORDER BY id") == [5, 1400]
        assert "2 were changed by other sessions: call again" in sql.notices[-1]
        writer.run("COMMIT")
        sql.run(CALL)
        assert (sql.one(MISSING), sql.one(WRONG)) == (0, 0)


LOCKS = "SELECT count(*) FROM pg_locks WHERE pid = %s AND locktype = 'object'"


def test_two_calls_at_once(cluster, photos):
    """The second waits for the first, holds nothing up meanwhile, and then finds nothing to do."""
    with contextlib.ExitStack() as stack:
        one, two, other = (stack.enter_context(open_session(cluster, photos)) for _ in range(3))
        for session in (one, two):
            session.run("SET client_min_messages = notice; SET susx.progress_interval = 0")
        other.run("SELECT susx.embed_image(image, 'tiny_split') FROM files LIMIT 1")
        before = images_embedded(other)
        with in_background(lambda: one.run(CALL), lambda: (eventually(lambda: embedded(other) > 0), two.run(CALL))) as results:
            assert eventually(lambda: any("waiting until it has ended" in notice for notice in two.notices))
            waits = "SELECT wait_event_type = 'Extension' AND backend_xmin IS NULL FROM pg_stat_activity WHERE pid = %s"
            assert eventually(lambda: other.one(waits, two.pid))
        assert results[0] is None and not isinstance(results[1], Exception), results
        # No image was embedded twice.
        assert images_embedded(other) - before == ROWS
        assert (other.one(MISSING), other.one(WRONG)) == (0, 0)
        assert one.notices[-1].startswith(f'"photos": {ROWS} of {ROWS} images embedded in ')
        assert "waiting until it has ended" in two.notices[0]
        assert two.notices[-1].startswith('"photos": 0 of 0 images embedded in ') and "none is left" in two.notices[-1]
        assert [other.one(LOCKS, session.pid) for session in (one, two)] == [0, 0]


def test_a_call_that_waits_is_cancelled(cluster, photos):
    with contextlib.ExitStack() as stack:
        one, two, other = (stack.enter_context(open_session(cluster, photos)) for _ in range(3))
        with in_background(lambda: one.run(CALL)) as first:
            assert eventually(lambda: embedded(other) > 0)
            with in_background(lambda: two.run(CALL)) as second:
                assert eventually(lambda: other.one("SELECT count(*) FROM susx.stat_progress") == 2)
                other.run("SELECT pg_cancel_backend(%s)", two.pid)
            assert isinstance(second[0], psycopg.errors.QueryCanceled)
        assert first == [None]
        assert [other.one(LOCKS, session.pid) for session in (one, two)] == [0, 0]


def test_the_next_call_begins_when_the_first_one_dies(cluster, photos):
    """Cancelled, or its session ended: it leaves no lock behind."""
    for how in ("pg_cancel_backend", "pg_terminate_backend"):
        with contextlib.ExitStack() as stack:
            one, two, other = (stack.enter_context(open_session(cluster, photos)) for _ in range(3))
            other.run("UPDATE photos SET embedding = NULL")
            with in_background(lambda: one.run(CALL), lambda: (eventually(lambda: embedded(other) > 0), two.run(CALL))) as results:
                assert eventually(lambda: other.one("SELECT count(*) FROM susx.stat_progress") == 2)
                other.run(f"SELECT {how}(%s)", one.pid)
            assert isinstance(results[0], psycopg.Error) and not isinstance(results[1], Exception), results
            assert (other.one(MISSING), other.one(WRONG)) == (0, 0)


def test_partitions_take_turns_with_the_whole_table_only(cluster, photos):
    call = "CALL susx.embed_table('{}', model => 'tiny_split', batch_size => 20)"
    with contextlib.ExitStack() as stack:
        one, two, three, other = (stack.enter_context(open_session(cluster, photos)) for _ in range(4))
        other.run(
            "CREATE TABLE parts (id int PRIMARY KEY, image bytea, embedding vector(32)) PARTITION BY RANGE (id); "
            "CREATE TABLE low PARTITION OF parts FOR VALUES FROM (1) TO (750); "
            "CREATE TABLE high PARTITION OF parts FOR VALUES FROM (750) TO (9999); INSERT INTO parts TABLE photos"
        )
        count = "SELECT count(embedding) FROM {}"
        for session in (two, three):
            session.run("SET client_min_messages = notice")
        with in_background(lambda: one.run(call.format("low"))) as first:
            assert eventually(lambda: other.one(count.format("low")) > 0)
            with in_background(lambda: two.run(call.format("high")), lambda: three.run(call.format("parts"))) as others:
                pass
        assert first == [None] and others == [None, None]
        assert any("waiting until it has ended" in notice for notice in three.notices)
        assert other.one(count.format("parts")) == ROWS
        wrong = WRONG.replace("FROM photos p", "FROM parts p")
        assert other.one(wrong) == 0



def test_an_image_that_kills_the_server(new_cluster, images):
    """It is recorded, and the others get their embeddings."""
    with new_cluster() as cluster:
        with poisonous(cluster) as poison, open_session(cluster, "public") as sql:
            sql.run("CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector(32))")
            sql.copy("photos", ["id", "image"], ((i, images[i % 40]) for i in range(200)))
            sql.run("UPDATE photos SET image = %s WHERE id = 130", poison)
            sql.run(CALL)
            assert sql.column("SELECT id FROM photos WHERE embedding IS NULL") == [130]
            ((key, message, sqlstate),) = sql.rows("SELECT key, message, sqlstate FROM susx.errors")
            assert (key, sqlstate) == ("130", "08006"), message
            assert "the inference process ended" in message
        assert cluster.log_file.read_text().count("the inference process ended") >= 3

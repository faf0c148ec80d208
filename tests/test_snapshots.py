"""Sessions with old snapshots and concurrent sessions: every row of a statement comes from one state."""

from __future__ import annotations

import time

import pytest

from helpers.session import in_background
from helpers.toy import create_compass

SCORE = "SELECT category, score FROM susx.classify('compass', '[1,0.9]'::vector, method => 'tip-adapter')"
CHANGE = "INSERT INTO compass (category, embedding) VALUES ('north', '[1,1]'), ('north', '[1,2]')"


@pytest.fixture
def sql(sql):
    create_compass(sql)
    sql.run("SELECT susx.add_support('compass', 'east', ARRAY['[1,0.2]']::vector[])")
    return sql


@pytest.fixture
def other(sql, connect):
    session = connect()
    session.run(f"SET search_path = {sql.one('SELECT current_schema()')}, public")
    assert session.rows(SCORE) == sql.rows(SCORE)
    return session


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("used_before", [True, False])
def test_a_transaction_keeps_its_snapshot(sql, other, level, used_before):
    before = sql.rows(SCORE)
    other.run(f"BEGIN ISOLATION LEVEL {level}")
    assert other.one("SELECT count(category) FROM compass") == 3
    if used_before:
        assert other.rows(SCORE) == before
    sql.run(CHANGE)
    after = sql.rows(SCORE)
    assert after != before
    assert other.rows(SCORE) == before
    assert other.one("SELECT count(category) FROM compass") == 3
    other.run("COMMIT")
    assert other.rows(SCORE) == after


def test_a_read_committed_transaction_goes_with_the_time(sql, other):
    """It holds its locks from statement to statement, and still sees what was committed before each of them."""
    sql.run("CREATE TABLE point AS SELECT '[1,0.9]'::vector AS v")
    ask = "SELECT susx.label('compass', v), c.score FROM point, susx.classify('compass', v, method => 'tip-adapter') c"
    seen = []
    other.run("BEGIN")
    for _ in range(3):
        seen.append(other.rows(ask))
        assert other.rows(ask) == seen[-1]
        sql.run(CHANGE)
    seen.append(other.rows(ask))
    other.run("COMMIT")
    assert len(set(map(tuple, seen))) == 4
    assert sql.rows(ask) == seen[-1]


def test_its_own_changes_count_in_it(sql, other):
    other.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
    sql.run("SELECT susx.add_support('compass', 'east', ARRAY['[1,-5]']::vector[])")
    before = other.rows(SCORE)
    other.run(CHANGE)
    changed = other.rows(SCORE)
    assert changed != before
    other.run("COMMIT")
    # Together with what the other session did.
    assert other.rows(SCORE) == sql.rows(SCORE)
    assert other.rows(SCORE) not in (changed, before)


def test_an_imported_snapshot_is_older(sql, other, connect):
    """A session that has fitted the present state must not use it for a state of the past."""
    before = sql.rows(SCORE)
    keeper = connect()
    keeper.run("BEGIN ISOLATION LEVEL REPEATABLE READ")
    snapshot = keeper.one("SELECT pg_export_snapshot()")
    sql.run(CHANGE)
    after = other.rows(SCORE)
    assert after != before
    other.run(f"BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '{snapshot}'")
    assert other.rows(SCORE) == before
    other.run("COMMIT")
    assert other.rows(SCORE) == after
    keeper.run("COMMIT")


def test_a_change_that_commits_while_a_statement_runs(sql, other):
    """All rows of a statement see one state, also where the classifier is used for the first time late."""
    sql.run("CREATE TABLE points AS SELECT i, ('[1,' || i || ']')::vector AS v FROM generate_series(1, 40) i")
    for label in ("i > 0", "i > 20"):
        query = f"""
            SELECT count(DISTINCT c.score) FROM (SELECT i, pg_sleep(0.02) FROM points OFFSET 0) p,
            LATERAL (SELECT score FROM susx.classify('compass', '[1,0.9]'::vector) WHERE {label}) c"""
        with in_background(lambda: other.one(query)) as results:
            for _ in range(4):
                time.sleep(0.12)
                sql.run(CHANGE)
        assert results == [1]


def test_readers_and_a_writer(sql, connect, schema):
    """The writer changes settings and rows all the time; a reader compares what SQL says with what classify does.

    With the prompt for its query, the score of east is logit_scale; the cache term adds alpha times half the number
    of support images, which are all of east and equal to the query.
    """
    sql.run("DELETE FROM compass WHERE kind = 'image'; SELECT susx.alter_classifier('compass', alpha => 1, gamma => 0)")
    check = """
        SELECT s.logit_scale + n.images / 2.0, c.score, s.logit_scale
        FROM susx.classifier s, (SELECT count(*) AS images FROM compass WHERE kind = 'image') n,
             susx.classify('compass', '[1,0]'::vector, method => 'tip-adapter') c
        WHERE s.classifier = 'compass'::regclass"""
    until = time.monotonic() + 6

    def write():
        writer = connect()
        writer.run(f"SET search_path = {schema}, public")
        for n in range(101, 1_000_000):
            writer.run("SELECT susx.alter_classifier('compass', logit_scale => %s::real)", n)
            writer.run("INSERT INTO compass (category, embedding) VALUES ('east', '[3,0]')")
            if n % 7 == 0:
                writer.run("DELETE FROM compass WHERE kind = 'image'")
            if n % 5 == 0:
                writer.run("BEGIN; INSERT INTO compass (category, embedding) VALUES ('east', '[1,0]'); ROLLBACK")
            if time.monotonic() > until:
                return n - 100

    def read(level):
        reader = connect()
        reader.run(f"SET search_path = {schema}, public; SET default_transaction_isolation = '{level}'")
        scales = []
        while time.monotonic() < until:
            ((expected, score, scale),) = reader.rows(check)
            assert score == pytest.approx(float(expected), rel=1e-5)
            scales.append(scale)
        assert scales == sorted(scales), "it went back in time"
        return len(set(scales))

    levels = ("read committed", "repeatable read")
    with in_background(write, *(lambda level=level: read(level) for level in levels)) as results:
        pass
    assert all(isinstance(result, int) for result in results), results
    written, *seen = results
    assert written > 20 and min(seen) > 10, "there was no race"

"""A statement classifies with the classifier as its snapshot shows it: other sessions' changes count exactly when
they are committed, a session's own at once, and what is rolled back never was."""

from __future__ import annotations

import pytest

from helpers.toy import create_compass

# North-east, a little to the east. Each change below leads to a score of its own.
SCORE = "SELECT category, score FROM susx.classify('compass', '[1,0.9]'::vector, method => 'tip-adapter')"

CHANGES = {
    "insert": "INSERT INTO compass (category, embedding) VALUES ('north', '[1,1]')",
    "add_support": "SELECT susx.add_support('compass', 'north', ARRAY['[1,1]', '[1,2]']::vector[])",
    "insert a category": "INSERT INTO compass (category, kind, embedding) VALUES ('north-east', 'prompt', '[1,1]')",
    "update": "UPDATE compass SET embedding = '[0,-1]' WHERE category = 'east' AND kind = 'prompt'",
    "delete": "DELETE FROM compass WHERE category = 'east'",
    "truncate and fill": "BEGIN; TRUNCATE compass; "
    "INSERT INTO compass (category, kind, embedding) VALUES ('west', 'prompt', '[-1,0]'); COMMIT",
    "merge": "MERGE INTO compass c USING (VALUES ('north', '[2,1]'::vector)) v (category, embedding) ON false "
    "WHEN NOT MATCHED THEN INSERT (category, embedding) VALUES (v.category, v.embedding)",
    "alter_classifier": "SELECT susx.alter_classifier('compass', logit_scale => 7)",
    "settings": "UPDATE susx.classifier SET alpha = 5 WHERE classifier = 'compass'::regclass",
}

# Those that can be one command of a larger transaction.
COMMANDS = {name: text for name, text in CHANGES.items() if not text.startswith("BEGIN")}

# Those that can be a part of a query.
PARTS = [name for name, text in COMMANDS.items() if text.startswith(("INSERT", "UPDATE", "DELETE"))]


@pytest.fixture
def sql(sql):
    create_compass(sql)
    sql.run("SELECT susx.add_support('compass', 'east', ARRAY['[1,0.2]', '[1,-0.1]']::vector[])")
    return sql


@pytest.fixture
def other(sql, connect):
    """Another session that has used the classifier already."""
    session = connect()
    session.run(f"SET search_path = {sql.one('SELECT current_schema()')}, public")
    assert session.rows(SCORE) == sql.rows(SCORE)
    return session


@pytest.mark.parametrize("change", CHANGES)
def test_committed_changes_count_in_the_next_statement(sql, other, change):
    before = other.rows(SCORE)
    sql.run(CHANGES[change])
    after = other.rows(SCORE)
    assert after != before
    assert sql.rows(SCORE) == after


@pytest.mark.parametrize("change", COMMANDS)
def test_ones_own_change_counts_at_once_and_others_see_it_after_commit(sql, other, change):
    before = other.rows(SCORE)
    sql.run("BEGIN")
    sql.run(COMMANDS[change])
    changed = sql.rows(SCORE)
    assert changed != before
    assert other.rows(SCORE) == before
    sql.run("COMMIT")
    assert other.rows(SCORE) == changed
    assert sql.rows(SCORE) == changed


@pytest.mark.parametrize("used_inside", [True, False])
@pytest.mark.parametrize("change", COMMANDS)
def test_rollback(sql, other, change, used_inside):
    before = sql.rows(SCORE)
    sql.run("BEGIN")
    sql.run(COMMANDS[change])
    if used_inside:
        assert sql.rows(SCORE) != before
    sql.run("ROLLBACK")
    assert sql.rows(SCORE) == before
    assert other.rows(SCORE) == before


@pytest.mark.parametrize("used_inside", [True, False])
@pytest.mark.parametrize("change", COMMANDS)
def test_rollback_to_a_savepoint(sql, other, change, used_inside):
    sql.run("BEGIN; SELECT susx.alter_classifier('compass', beta => 3)")
    before = sql.rows(SCORE)
    sql.run("SAVEPOINT s")
    sql.run(COMMANDS[change])
    if used_inside:
        assert sql.rows(SCORE) != before
    sql.run("ROLLBACK TO SAVEPOINT s")
    assert sql.rows(SCORE) == before
    sql.run("COMMIT")
    assert sql.rows(SCORE) == before
    assert other.rows(SCORE) == before


def test_truncate_is_rolled_back(sql, other):
    before = other.rows(SCORE)
    sql.run(
        "BEGIN; TRUNCATE compass; INSERT INTO compass (category, kind, embedding) VALUES ('west', 'prompt', '[-1,0]')"
    )
    assert [row[0] for row in sql.rows(SCORE)] == ["west"]
    sql.run("ROLLBACK")
    assert sql.rows(SCORE) == before
    assert other.rows(SCORE) == before


def test_a_failed_statement_changes_nothing(sql, other):
    before = sql.rows(SCORE)
    refusal = sql.fails(
        "INSERT INTO compass (category, embedding) "
        "SELECT 'north', '[1,1]'::vector FROM generate_series(0, 3) i WHERE 1 / (3 - i) < 9"
    )
    assert refusal.sqlstate == "22012"
    assert sql.rows(SCORE) == before
    assert other.rows(SCORE) == before


@pytest.mark.parametrize("change", PARTS)
def test_a_statement_does_not_see_what_it_changes_itself(sql, change):
    """As in every query, the snapshot is from before the statement."""
    before = sql.rows(SCORE)
    score = SCORE.replace("FROM", "FROM (SELECT count(*) FROM changed) n,")
    assert sql.rows(f"WITH changed AS ({COMMANDS[change]} RETURNING 1) {score}") == before
    assert sql.rows(SCORE) != before


def test_inside_a_function(sql):
    """A volatile function sees its own changes, a stable one what its caller sees."""
    body = (
        "BEGIN INSERT INTO compass (category, embedding) VALUES ('north', '[1,1]'); "
        "RETURN (SELECT score FROM susx.classify('compass', '[1,0.9]'::vector, method => 'tip-adapter')); END"
    )
    sql.run(f"CREATE FUNCTION change() RETURNS real LANGUAGE plpgsql AS $${body}$$")
    sql.run(f"CREATE FUNCTION look() RETURNS real LANGUAGE sql STABLE AS $$ SELECT score FROM ({SCORE}) s $$")
    (((_, before),)) = sql.rows(SCORE)
    inside, outside = sql.rows("SELECT change(), look()")[0]
    after = sql.rows(SCORE)[0][1]
    assert inside == after != before
    assert outside == before


def test_a_cursor_keeps_its_snapshot(sql):
    sql.run("CREATE TABLE points AS SELECT i, ('[1,' || i || ']')::vector AS v FROM generate_series(1, 2000) i")
    query = "SELECT i, c.category, c.score FROM points, susx.classify('compass', v) c ORDER BY i"
    before = sql.rows(query)
    sql.run(f"BEGIN; DECLARE labels CURSOR FOR {query.replace(' ORDER BY i', '')}")
    found = sql.rows("FETCH 10 FROM labels")
    sql.run(CHANGES["alter_classifier"])
    sql.run(CHANGES["delete"])
    changed = sql.rows(query)
    found += sql.rows("FETCH ALL FROM labels")
    sql.run("COMMIT")
    assert sorted(found) == before != changed
    assert sql.rows(query) == changed


def test_dropped_and_created_again(sql, other):
    """The name means the new table, also in sessions that used the old one."""
    sql.run("DROP TABLE compass")
    assert other.fails(SCORE).sqlstate == "42P01"
    sql.run(
        "SELECT susx.create_classifier('compass', '{up,down}', text_embeddings => ARRAY['[1,1]', '[-1,-1]']::vector[])"
    )
    assert [row[0] for row in other.rows(SCORE)] == ["up"]


def test_renamed_and_moved(sql, other, schema):
    before = other.rows(SCORE)
    sql.run(f"CREATE SCHEMA {schema}_2; ALTER TABLE compass RENAME TO needle; ALTER TABLE needle SET SCHEMA {schema}_2")
    assert other.rows(SCORE.replace("compass", f"{schema}_2.needle")) == before
    assert other.fails(SCORE).sqlstate == "42P01"
    sql.run(f"DROP SCHEMA {schema}_2 CASCADE")

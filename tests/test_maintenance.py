"""Maintenance of a classifier's table: its settings follow the table, or are dropped with it."""

from __future__ import annotations

import pytest

from helpers.toy import create_compass

SETTINGS = "SELECT classifier::text, alpha FROM susx.classifier WHERE classifier = %s::oid"
LABEL = "SELECT category, score FROM susx.classify({}, '[1,0.2]'::vector)"


@pytest.fixture
def compass(sql):
    create_compass(sql)
    sql.run("SELECT susx.add_support('compass', 'east', '{\"[1,0.3]\"}'::vector[])")
    sql.run("SELECT susx.alter_classifier('compass', alpha => 3)")
    return sql.one("SELECT 'compass'::regclass::oid::int8")


# What is done, the table's name after it, and whether labels stay what they were.
CHANGES = {
    "rename": ("ALTER TABLE compass RENAME TO \"we're moving\"", "\"we're moving\""),
    "schema": ("CREATE SCHEMA {0}_2; ALTER TABLE compass SET SCHEMA {0}_2", "{0}_2.compass"),
    "the schema's name": ("ALTER SCHEMA {0} RENAME TO {0}_3; SET search_path = {0}_3, public", "compass"),
    "vacuum": ("VACUUM FULL compass", "compass"),
    "cluster": ("CLUSTER compass USING compass_pkey", "compass"),
    "reindex": ("REINDEX TABLE compass", "compass"),
    "a column more": ("ALTER TABLE compass ADD note text NOT NULL DEFAULT 'x', ADD made date DEFAULT now()", "compass"),
    "a column in front": ("ALTER TABLE compass RENAME similarity TO sim; ALTER TABLE compass ADD similarity real", "compass"),
    "a column less": ("ALTER TABLE compass DROP similarity", "compass"),
    "unlogged": ("ALTER TABLE compass SET UNLOGGED", "compass"),
    "storage": ("ALTER TABLE compass ALTER embedding SET STORAGE PLAIN; VACUUM FULL compass", "compass"),
    "an index": ("CREATE INDEX ON compass USING hnsw (embedding vector_cosine_ops)", "compass"),
    "a view on it": ("CREATE VIEW v AS TABLE compass", "compass"),
    "analyze": ("ANALYZE compass; VACUUM (FREEZE) compass", "compass"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_settings_and_labels_follow(sql, connect, schema, compass, change):
    statements, name = (text.format(schema) for text in CHANGES[change])
    before = sql.rows(LABEL.format("'compass'"))
    other = connect()
    assert other.rows(LABEL.format(f"{compass}::oid::regclass")) == before
    try:
        for statement in statements.split("; "):
            sql.run(statement)
        literal = sql.one("SELECT quote_literal(%s)", name)
        assert sql.rows(LABEL.format(literal)) == other.rows(LABEL.format(f"{compass}::oid::regclass")) == before
        assert [row[1] for row in sql.rows(SETTINGS, compass)] == [3]
        # Changes count as before, in every session.
        sql.run(f"SELECT susx.alter_classifier({literal}, alpha => 30, method => 'tip-adapter')")
        sql.run(f"SELECT susx.add_support({literal}, 'east', '{{\"[1,0.2]\"}}'::vector[])")
        after = sql.rows(LABEL.format(literal))
        assert after != before
        assert other.rows(LABEL.format(f"{compass}::oid::regclass")) == after
        sql.run(f"DROP TABLE {name} CASCADE")
        assert sql.rows(SETTINGS, compass) == []
    finally:
        sql.run(f"DROP SCHEMA IF EXISTS {schema}_2 CASCADE")
        sql.run(f"DO $$ BEGIN ALTER SCHEMA {schema}_3 RENAME TO {schema}; EXCEPTION WHEN OTHERS THEN END $$")


def test_truncate(sql, connect, compass):
    """The settings stay, and the rows may come back."""
    other = connect()
    query = LABEL.format(f"{compass}::oid::regclass")
    before = other.rows(query)
    sql.run("CREATE TABLE kept AS TABLE compass; TRUNCATE compass")
    refusal = other.fails(query)
    assert refusal.sqlstate == "55000" and "compass" in refusal.message
    assert sql.fails("SELECT * FROM susx.tune('compass')").sqlstate == "55000"
    sql.run("INSERT INTO compass TABLE kept")
    assert other.rows(query) == before
    assert [row[1] for row in sql.rows(SETTINGS, compass)] == [3]


def test_another_owner(sql, connect, schema, compass):
    """The new table can do what the old one could."""
    sql.run(f"CREATE ROLE old_owner LOGIN; CREATE ROLE new_owner LOGIN; GRANT USAGE ON SCHEMA {schema} TO PUBLIC")
    try:
        sql.run("ALTER TABLE compass OWNER TO old_owner")
        old, new = connect(user="old_owner"), connect(user="new_owner")
        alter = f"SELECT susx.alter_classifier('{schema}.compass', alpha => 5)"
        old.run(alter)
        assert new.fails(alter).sqlstate == "42501"
        sql.run("ALTER TABLE compass OWNER TO new_owner")
        assert old.fails(alter).sqlstate == "42501"
        assert old.rows(SETTINGS, compass) == []
        new.run(alter)
        assert [row[1] for row in new.rows(SETTINGS, compass)] == [5]
        sql.run("REASSIGN OWNED BY new_owner TO old_owner")
        old.run(alter)
        sql.run("ALTER ROLE old_owner RENAME TO renamed_owner")
        old.run(alter)
        old.close()
        new.close()
    finally:
        sql.run(
            "SET client_min_messages = warning; DROP TABLE compass; REVOKE USAGE ON SCHEMA "
            f"{schema} FROM PUBLIC; DROP ROLE IF EXISTS old_owner, renamed_owner, new_owner"
        )


def test_columns_that_are_missing(sql, compass):
    """An error that names the column, and no crash."""
    for column in ("category", "kind", "embedding", "id"):
        sql.run(f"BEGIN; ALTER TABLE compass DROP {column} CASCADE")
        refusal = sql.fails(LABEL.format("'compass'"))
        assert refusal.sqlstate == "42703" and column in refusal.message
        sql.run("ROLLBACK")


def test_without_event_triggers(sql, connect, compass):
    """A table that was dropped without the event trigger leaves a row that has no effect and is not dumped."""
    sql.run("BEGIN; ALTER EVENT TRIGGER susx_forget_dropped DISABLE; DROP TABLE compass; "
            "ALTER EVENT TRIGGER susx_forget_dropped ENABLE; COMMIT")
    assert sql.one("SELECT count(*) FROM susx.classifier WHERE classifier::oid = %s::oid", compass) == 1
    ((condition,),) = sql.rows(
        "SELECT extcondition[1] FROM pg_extension WHERE extname = 'susx' AND extconfig[1] = 'susx.classifier'::regclass"
    )
    assert sql.one(f"SELECT count(*) FROM susx.classifier {condition} AND classifier::oid = %s::oid", compass) == 0
    create_compass(sql)
    assert sql.one("SELECT susx.label('compass', '[1,0]'::vector)") == "east"
    sql.run("DELETE FROM susx.classifier WHERE classifier::oid = %s::oid", compass)

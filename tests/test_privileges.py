"""A classifier is its creator's table: who may read the table may label with it, who may update it may change it."""

from __future__ import annotations

import pytest

from helpers.toy import create_compass

DENIED = "42501"
LABEL = "SELECT susx.label('alices.compass', '[1,0.2]'::vector)"
SETTINGS = "SELECT alpha FROM susx.classifier WHERE classifier = to_regclass('alices.compass')"


@pytest.fixture
def admin(connect):
    return connect()


@pytest.fixture
def roles(admin):
    """Two ordinary roles; alice has a schema."""
    admin.run("CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE SCHEMA alices AUTHORIZATION alice")
    yield
    admin.run(
        "RESET ROLE; SET client_min_messages = warning; DROP SCHEMA alices CASCADE; DROP OWNED BY alice, bob; "
        "DROP ROLE alice, bob"
    )


@pytest.fixture
def alice(roles, connect):
    session = connect(user="alice")
    create_compass(session, "alices.compass")
    session.run("SELECT susx.add_support('alices.compass', 'north', ARRAY['[1,0.2]']::vector[])")
    yield session
    session.close()


@pytest.fixture
def bob(alice, connect):
    session = connect(user="bob")
    yield session
    session.close()


def test_a_role_without_any_rights_of_ones_own_classifier(alice):
    alice.run("SELECT susx.alter_classifier('alices.compass', alpha => 2)")
    assert alice.rows(SETTINGS) == [(2,)]
    assert alice.one(LABEL) in ("east", "north")
    alice.run(
        "CREATE TABLE alices.pool (id int PRIMARY KEY, embedding vector(2)); "
        "INSERT INTO alices.pool VALUES (1, '[1,0]'), (2, '[0,1]')"
    )
    assert len(alice.rows("SELECT * FROM susx.build_support_set('alices.compass', 'alices.pool')")) == 2
    # Embedding and models() are for everybody.
    assert alice.one("SELECT vector_dims(susx.embed_text('a cat', 'tiny_split'))") == 32
    assert "demo" in alice.column("SELECT name FROM susx.models()")


def test_nowhere_to_create_a_table(bob):
    for schema in ("alices", "susx"):
        refusal = bob.fails(
            f"SELECT susx.create_classifier('{schema}.mine', '{{a}}', text_embeddings => '{{\"[1]\"}}')"
        )
        assert refusal.sqlstate == DENIED


def test_without_rights(bob, alice):
    alice.run("GRANT USAGE ON SCHEMA alices TO bob")
    for query in (
        LABEL,
        "SELECT * FROM susx.classify('alices.compass', '[1,0]'::vector)",
        "SELECT susx.alter_classifier('alices.compass', alpha => 9)",
        "SELECT susx.add_support('alices.compass', 'east', ARRAY['[1,0]']::vector[])",
        "SELECT susx.build_support_set('alices.compass', 'alices.compass')",
        "SELECT * FROM alices.compass",
    ):
        refusal = bob.fails(query)
        assert refusal.sqlstate == DENIED, query
        assert "compass" in refusal.message
    assert bob.rows(SETTINGS) == []
    bob.run("UPDATE susx.classifier SET alpha = 9")
    assert bob.fails("DELETE FROM susx.classifier").sqlstate == DENIED
    assert alice.rows(SETTINGS) == [(1,)]


def test_an_oid_does_not_help(bob, alice):
    """The table's number, without USAGE of its schema, but with nothing else either."""
    oid = alice.one("SELECT 'alices.compass'::regclass::oid::int8")
    assert bob.fails("SELECT susx.label(%s::oid, '[1,0]'::vector)", oid).sqlstate == DENIED


def test_who_may_read_may_label_and_nothing_else(bob, alice):
    alice.run("GRANT USAGE ON SCHEMA alices TO bob; GRANT SELECT ON alices.compass TO bob")
    assert bob.one(LABEL) == alice.one(LABEL)
    assert bob.rows(SETTINGS) == [(1,)]
    for query in (
        "SELECT susx.alter_classifier('alices.compass', alpha => 9)",
        "SELECT susx.add_support('alices.compass', 'east', ARRAY['[1,0]']::vector[])",
        "SELECT susx.build_support_set('alices.compass', 'alices.compass')",
        "DELETE FROM alices.compass",
    ):
        assert bob.fails(query).sqlstate == DENIED, query
    bob.run("UPDATE susx.classifier SET alpha = 9")
    assert alice.rows(SETTINGS) == [(1,)]
    assert alice.one("SELECT count(category) FROM alices.compass") == 3


def test_who_may_update_may_change(bob, alice):
    alice.run("GRANT USAGE ON SCHEMA alices TO bob; GRANT SELECT, UPDATE ON alices.compass TO bob")
    bob.run("SELECT susx.alter_classifier('alices.compass', alpha => 9)")
    assert alice.rows(SETTINGS) == [(9,)]
    assert bob.fails("SELECT susx.add_support('alices.compass', 'east', ARRAY['[1,0]']::vector[])").sqlstate == DENIED


def test_rights_that_are_taken_back(bob, alice):
    """Also from a session that has the classifier in its memory."""
    alice.run("GRANT USAGE ON SCHEMA alices TO bob; GRANT SELECT ON alices.compass TO bob")
    assert bob.one(LABEL)
    alice.run("REVOKE SELECT ON alices.compass FROM bob")
    assert bob.fails(LABEL).sqlstate == DENIED


def test_set_role(admin, bob, alice):
    """One role's cached classifier is not given to another role of the session."""
    alice.run("GRANT USAGE ON SCHEMA alices TO bob")
    assert admin.one(LABEL)
    admin.run("SET ROLE bob")
    assert admin.fails(LABEL).sqlstate == DENIED
    admin.run("BEGIN; SET LOCAL ROLE alice")
    assert admin.one(LABEL)
    admin.run("SET LOCAL ROLE bob")
    assert admin.fails(LABEL).sqlstate == DENIED
    admin.run("ROLLBACK; RESET ROLE")
    assert admin.one(LABEL)


def test_a_function_with_its_owners_rights(bob, alice):
    alice.run(
        f"CREATE FUNCTION alices.ask() RETURNS text "
        f"LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN RETURN ({LABEL}); END $$"
    )
    alice.run("GRANT USAGE ON SCHEMA alices TO bob")
    assert bob.one("SELECT alices.ask()") == alice.one(LABEL)
    assert bob.fails(LABEL).sqlstate == DENIED


def test_row_level_security_of_the_classifier(admin, bob, alice):
    """Each role classifies with the rows that it may see."""
    alice.run("GRANT USAGE ON SCHEMA alices TO bob; GRANT SELECT ON alices.compass TO bob")
    score = "SELECT score FROM susx.classify('alices.compass', '[0,1]'::vector)"
    everything = alice.one(score)
    assert bob.one(score) == everything
    alice.run(
        "ALTER TABLE alices.compass ENABLE ROW LEVEL SECURITY; "
        "CREATE POLICY names ON alices.compass FOR SELECT USING (kind = 'prompt')"
    )
    assert alice.one(score) == everything
    assert bob.one(score) == 100 != everything
    admin.run("SET ROLE bob")
    assert admin.one(score) == 100
    admin.run("SET ROLE alice")
    assert admin.one(score) == everything


def test_strangers_rows_in_the_settings(bob, alice):
    """Nobody makes a classifier out of somebody else's table, nor takes a classifier over."""
    alice.run(
        "CREATE TABLE alices.plain (i int); GRANT USAGE ON SCHEMA alices TO bob; "
        "GRANT SELECT ON alices.plain, alices.compass TO bob"
    )
    values = "NULL, NULL, 'zero-shot', 1, 1, 1, 1, 1"
    assert bob.fails(f"INSERT INTO susx.classifier VALUES ('alices.plain', {values})").sqlstate == DENIED
    upsert = "ON CONFLICT (classifier) DO UPDATE SET alpha = 7"
    assert bob.fails(f"INSERT INTO susx.classifier VALUES ('alices.compass', {values}) {upsert}").sqlstate == DENIED
    bob.run("CREATE TEMP TABLE own (i int)")
    bob.run(f"INSERT INTO susx.classifier VALUES ('own', {values})")
    move = "UPDATE susx.classifier SET classifier = 'alices.plain' WHERE classifier = 'own'::regclass"
    assert bob.fails(move).sqlstate == DENIED
    bob.run("DROP TABLE own")
    assert alice.rows(SETTINGS) == [(1,)]

"""A classifier's settings are dropped with its table, whoever drops it and however."""

from __future__ import annotations

import pytest

from helpers.toy import create_compass

KNOWN = "SELECT count(*) FROM susx.classifier WHERE classifier::oid = %s"

DROPS = {
    "DROP TABLE": "DROP TABLE {0}.compass",
    "DROP TABLE of several": "CREATE TABLE {0}.other (i int); DROP TABLE {0}.other, {0}.compass",
    "DROP TABLE CASCADE": "CREATE VIEW {0}.v AS TABLE {0}.compass; DROP TABLE IF EXISTS {0}.compass CASCADE",
    "DROP SCHEMA": "DROP SCHEMA {0} CASCADE; CREATE SCHEMA {0}",
}


@pytest.fixture
def compass(sql):
    create_compass(sql)
    return sql.one("SELECT 'compass'::regclass::oid")


@pytest.mark.parametrize("how", DROPS)
def test_dropped(sql, schema, compass, how):
    create_compass(sql, "public.bystander")
    sql.run(DROPS[how].format(schema))
    assert sql.one(KNOWN, compass) == 0
    assert sql.one("SELECT count(*) FROM susx.classifier WHERE classifier = 'public.bystander'::regclass") == 1
    sql.run("DROP TABLE public.bystander")


def test_a_column_or_an_index_is_not_the_table(sql, compass):
    sql.run("ALTER TABLE compass ADD note text, ADD extra int; CREATE INDEX extra_index ON compass (extra)")
    sql.run("ALTER TABLE compass DROP note; DROP INDEX extra_index; ALTER TABLE compass DROP extra")
    assert sql.one(KNOWN, compass) == 1
    assert sql.one("SELECT susx.label('compass', '[1,0]'::vector)") == "east"


def test_a_drop_that_is_rolled_back(sql, compass):
    sql.run("BEGIN; DROP TABLE compass; ROLLBACK")
    assert sql.one(KNOWN, compass) == 1
    assert sql.one("SELECT susx.label('compass', '[1,0]'::vector)") == "east"


def test_created_and_rolled_back(sql):
    before = sql.one("SELECT count(*) FROM susx.classifier")
    sql.run("BEGIN")
    create_compass(sql)
    assert sql.one("SELECT susx.label('compass', '[1,0]'::vector)") == "east"
    sql.run("ROLLBACK")
    assert sql.one("SELECT count(*) FROM susx.classifier") == before
    assert sql.one("SELECT to_regclass('compass')") is None


@pytest.fixture
def owner(sql, connect, schema):
    """An ordinary role with a schema, and its session."""
    sql.run("CREATE ROLE owner LOGIN; CREATE SCHEMA owners AUTHORIZATION owner")
    session = connect(user="owner")
    session.run("SET search_path = owners, public")
    create_compass(session)
    yield session
    session.close()
    sql.run("DROP SCHEMA IF EXISTS owners CASCADE; DROP OWNED BY owner; DROP ROLE owner")


@pytest.mark.parametrize("drop", ["DROP TABLE compass", "DROP SCHEMA owners CASCADE", "DROP OWNED BY owner CASCADE"])
def test_dropped_by_an_ordinary_owner(sql, owner, drop):
    oid = owner.one("SELECT 'compass'::regclass::oid")
    assert sql.one(KNOWN, oid) == 1
    owner.run(drop)
    assert sql.one(KNOWN, oid) == 0


def test_dropped_by_the_schema_s_owner(sql, owner, connect):
    """The owner of a schema may drop the table without any other right to it; its settings are dropped as well."""
    sql.run("CREATE ROLE guest LOGIN; GRANT CREATE, USAGE ON SCHEMA owners TO guest")
    guest = connect(user="guest")
    create_compass(guest, "owners.theirs")
    oid = sql.one("SELECT 'owners.theirs'::regclass::oid")
    owner.run("DROP SCHEMA owners CASCADE")
    assert sql.one(KNOWN, oid) == 0
    guest.close()
    sql.run("DROP OWNED BY guest; DROP ROLE guest")

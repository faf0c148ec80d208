"""When a classifier is fitted again: after changes of its rows or settings, and not because of anything else that
happens in the cluster. test_visibility.py tests that every answer is still right."""

from __future__ import annotations

import pytest

from helpers.toy import create_points, create_random

LABELS = "SELECT array_agg(susx.label('toy', embedding) ORDER BY id) FROM points"
ONE = "SELECT susx.label('toy', embedding) FROM points WHERE id = {}"


@pytest.fixture
def sql(sql):
    create_random(sql, "toy", categories=10, dimensions=16, per_class=5)
    create_points(sql, "points", rows=20, dimensions=16)
    sql.run("CREATE TABLE log (i int)")
    return sql


@pytest.fixture
def reader(sql, connect, schema):
    """A session that reports its fits."""
    session = connect()
    session.run(f"SET search_path = {schema}, public; SET client_min_messages = debug1")
    yield session
    session.close()


@pytest.fixture
def other(sql, connect, schema):
    session = connect()
    session.run(f"SET search_path = {schema}, public")
    yield session
    # A test that fails may have left a transaction open.
    session.close()


def test_other_peoples_commits(reader, other):
    """Also one that happens while the classifier is fitted: the statement writes by itself, before its first fit."""
    other.run("BEGIN; INSERT INTO log VALUES (0)")
    for i in range(10):
        reader.one(ONE.format(i))
        other.run("COMMIT; BEGIN; INSERT INTO log VALUES (1)")
    other.run("COMMIT")
    assert reader.fits() == ["toy"]


def test_commits_between_a_snapshot_and_its_fit(reader, other):
    """The snapshot is from before the commit, and the fit from after it."""
    for i in range(5):
        reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        other.run("INSERT INTO log VALUES (1)")
        reader.one(ONE.format(i))
        reader.run("COMMIT")
        other.run("INSERT INTO log VALUES (1)")
    assert reader.fits() == ["toy"]


def test_somebody_who_is_changing_it(reader, other):
    """A change counts for the reader once it is committed, and not before."""
    labels = reader.one(LABELS)
    assert reader.fits() == ["toy"]
    other.run("BEGIN; DELETE FROM toy WHERE category < 'c05'")
    for i in range(5):
        assert reader.one(LABELS) == labels
    assert reader.fits() == []
    other.run("COMMIT")
    assert reader.one(LABELS) != labels
    assert reader.fits() == ["toy"]


@pytest.mark.parametrize(
    "upkeep",
    [
        "ANALYZE toy",
        "VACUUM toy",
        "CREATE INDEX ON toy (category)",
        "GRANT SELECT ON toy TO PUBLIC",
        "COMMENT ON TABLE toy IS 'a toy'",
        "BEGIN; INSERT INTO toy (category, embedding) SELECT category, embedding FROM toy WHERE id > 0; ROLLBACK",
        "ALTER TABLE toy ADD CHECK (id >= 0)",
    ],
)
def test_upkeep(reader, other, upkeep):
    labels = reader.one(LABELS)
    other.run(upkeep)
    assert reader.one(LABELS) == labels
    assert reader.one(LABELS) == labels
    assert reader.fits() == ["toy"]


def test_while_it_is_being_vacuumed(reader, other):
    """A lock that others may not have beside it, though it changes nothing."""
    reader.one(LABELS)
    other.run("BEGIN; LOCK TABLE toy IN SHARE UPDATE EXCLUSIVE MODE")
    for _ in range(5):
        reader.one(LABELS)
    assert reader.fits() == ["toy"]
    other.run("ROLLBACK")


def test_a_transaction_that_sees_the_past(reader, other):
    reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ")
    labels = reader.one(LABELS)
    other.run("DELETE FROM toy WHERE category < 'c05'")
    for _ in range(5):
        assert reader.one(LABELS) == labels
    reader.run("COMMIT")
    assert reader.fits() == ["toy"]
    assert reader.one(LABELS) != labels


def test_two_in_one_statement_that_are_larger_than_the_cache(sql, reader, schema):
    """None of them goes while the statement needs it; after it, they do."""
    for name in ("large", "larger", "largest"):
        create_random(sql, name, categories=20, dimensions=512, per_class=20)
    create_points(sql, "wide", rows=10, dimensions=512)
    reader.run("SET susx.classifier_cache = '1MB'")
    names = ["large", "larger", "largest"]
    query = "SELECT " + ", ".join(f"susx.label('{name}', embedding)" for name in names) + " FROM wide"
    assert len(reader.rows(query)) == 10
    assert sorted(reader.fits()) == names
    # A function's statements are part of the one that calls it.
    reader.run(
        """
        CREATE FUNCTION labels(embedding vector) RETURNS text LANGUAGE plpgsql AS $$
        DECLARE first text;
        BEGIN
            first := susx.label('large', embedding);
            RETURN first || susx.label('larger', embedding);
        END $$"""
    )
    # Makes room for itself.
    reader.one(LABELS)
    reader.fits()
    assert len(reader.rows("SELECT labels(embedding) FROM wide")) == 10
    assert sorted(reader.fits()) == ["large", "larger"]
    # Only one of them is left.
    for name in names:
        reader.rows(f"SELECT susx.label('{name}', embedding) FROM wide")
    reader.fits()
    reader.rows("SELECT susx.label('largest', embedding) FROM wide")
    assert reader.fits() == []
    reader.rows("SELECT susx.label('large', embedding) FROM wide")
    assert reader.fits() == ["large"]


def test_changes_that_no_trigger_tells_of(reader, other):
    """They still count, at the cost of reading the rows."""
    labels = reader.one(LABELS)
    other.run("ALTER TABLE toy DISABLE TRIGGER ALL")
    assert reader.one(LABELS) == labels
    assert reader.fits() == ["toy"]
    other.run("DELETE FROM toy WHERE category < 'c05'")
    assert reader.one(LABELS) != labels
    assert reader.fits() == ["toy"]
    other.run("DROP TRIGGER susx_classifier_changed ON toy; DELETE FROM toy WHERE category < 'c07'")
    assert "c06" not in reader.one(LABELS)


def test_rows_of_a_child(reader, other):
    """A query of a table shows what is in tables that inherit from it, which tell nobody of their changes."""
    scores = "SELECT array_agg(c.score) FROM points, susx.classify('toy', embedding, 10) c"
    before = reader.one(scores)
    other.run("CREATE TABLE child () INHERITS (toy); INSERT INTO child SELECT * FROM toy WHERE category = 'c01'")
    with_child = reader.one(scores)
    other.run("UPDATE child SET category = 'c02'")
    changed = reader.one(scores)
    other.run("DROP TABLE child")
    assert before == reader.one(scores)
    assert len(set(map(tuple, (before, with_child, changed)))) == 3


def test_columns_that_change_places(sql, reader, other):
    """No row is another one, and yet every vector is."""
    labels = reader.one(LABELS)
    other.run(
        "ALTER TABLE toy ADD other vector(16); "
        "UPDATE toy SET other = t.embedding FROM toy t, (SELECT max(id) AS last FROM toy) m WHERE t.id = m.last + 1 - toy.id"
    )
    assert other.one("SELECT count(*) FROM toy WHERE other IS NULL AND kind <> 'settings'") == 0
    reader.one(LABELS)
    reader.fits()
    other.run("BEGIN; ALTER TABLE toy RENAME embedding TO e; ALTER TABLE toy RENAME other TO embedding; COMMIT")
    assert reader.one(LABELS) != labels
    assert reader.fits() == ["toy"]


def test_truncated_and_filled_in_the_transaction_that_made_it(sql):
    """The new rows are at the same places as the old ones, and by the same transaction."""
    create = (
        "SELECT susx.create_classifier('fresh', '{east,north}', text_embeddings => ARRAY['[1,0]', '[0,1]']::vector[])"
    )
    ask = "SELECT susx.label('fresh', '[1,0.2]'::vector)"
    sql.run(f"BEGIN; {create}")
    assert sql.one(ask) == "east"
    sql.run("TRUNCATE fresh RESTART IDENTITY")
    sql.run("INSERT INTO fresh (category, kind, embedding) VALUES ('north', 'prompt', '[1,0]'), ('east', 'prompt', '[0,1]')")
    assert sql.one(ask) == "north"
    sql.run("COMMIT")
    assert sql.one(ask) == "north"


def test_dropped_classifiers_leave_nothing_behind(reader):
    """A session that makes one after the other uses no more memory for that."""
    for i in range(5):
        reader.run(f"CREATE TABLE toy_{i} (LIKE toy INCLUDING ALL); INSERT INTO toy_{i} SELECT * FROM toy")
        reader.run(
            f"INSERT INTO susx.classifier (classifier, alpha, beta, gamma, temperature, logit_scale) "
            f"VALUES ('toy_{i}', 1, 5.5, 1, 0.5, 100)"
        )
        first = reader.one(LABELS.replace("'toy'", f"'toy_{i}'"))
        reader.run(f"DROP TABLE toy_{i}")
        assert reader.fails(LABELS.replace("'toy'", f"'toy_{i}'")).sqlstate == "42P01"
    assert first == reader.one(LABELS)

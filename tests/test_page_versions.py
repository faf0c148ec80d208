"""A session recognises the rows of a large classifier by its pages, where VACUUM has marked most of them as visible."""

from __future__ import annotations

import pytest

from helpers.fits import ALL, CHANGES, DIMENSIONS, SIZE, create_toy, file_of, mapped
from helpers.processes import eventually
from helpers.toy import create_random

ROWS = SIZE["categories"] * SIZE["per_class"]


@pytest.fixture
def sql(sql):
    create_toy(sql)
    # Autovacuum would change the state of the pages while a test looks at it.
    sql.run("ALTER TABLE toy SET (autovacuum_enabled = off)")
    return sql


def vacuum(sql, table: str = "toy") -> None:
    """Until all pages have the flag. A snapshot of another process, as of autovacuum, keeps some from it, and so does a commit that is
    not on disk yet."""

    def is_marked() -> bool:
        sql.run(f"VACUUM (INDEX_CLEANUP ON) {table}")
        return sql.one("SELECT relallvisible = relpages FROM pg_class WHERE oid = %s::regclass", table)

    assert eventually(is_marked)


def rows_read(session) -> int:
    """How many rows scans of the classifier have read, in all sessions that have told."""
    return session.one("SELECT coalesce(seq_tup_read, 0) FROM pg_stat_user_tables WHERE relid = 'toy'::regclass")


def tell(session) -> None:
    """Lets a session tell what it has read, which it may do seconds later otherwise."""
    session.run("SELECT pg_stat_force_next_flush()")


def reads(sql, session, query: str = ALL) -> tuple[int, object]:
    """The rows of the classifier that a session reads for a query, and its answer."""
    tell(sql)
    before = rows_read(sql)
    answer = session.one(query)
    tell(session)
    return rows_read(sql) - before, answer


def alone(open_session) -> object:
    """The answers of a session that shares nothing."""
    session = open_session()
    session.run("SET susx.shared_fits = off")
    answers = session.one(ALL)
    tell(session)
    return answers


def test_after_vacuum_the_rows_are_not_read(sql, open_session):
    sql.one(ALL)
    read, answers = reads(sql, open_session())
    assert read >= ROWS
    vacuum(sql)
    # One session finds out which rows the pages show.
    assert reads(sql, open_session())[0] >= ROWS
    for _ in range(2):
        session = open_session()
        assert reads(sql, session) == (0, answers)
        assert mapped(session) == ["toy"]
    assert alone(open_session) == answers
    # In a page that was changed later, the rows are looked at, and one session finds out again which rows the others show.
    sql.run("UPDATE toy SET category = 'c02' WHERE category = 'c01' AND kind = 'image' AND id % 90 = 0")
    assert reads(sql, open_session())[0] >= ROWS
    read, answers = reads(sql, open_session())
    assert read == 0 and answers == alone(open_session)
    # Not if most pages have changed.
    sql.run("UPDATE toy SET category = category")
    assert [reads(sql, open_session())[0] >= ROWS for _ in range(2)] == [True] * 2


@pytest.mark.parametrize("vacuumed", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(sql, open_session, change, vacuumed):
    vacuum(sql)
    before = [open_session().one(ALL) for _ in range(2)]
    sql.run(change)
    if vacuumed:
        vacuum(sql)
    after = [open_session().one(ALL) for _ in range(3)]
    assert after == [alone(open_session)] * 3
    assert before[0] == before[1] != after[0]


def test_a_change_that_is_rolled_back(sql, open_session):
    vacuum(sql)
    answers = [open_session().one(ALL) for _ in range(2)][0]
    writer = open_session()
    writer.run("BEGIN; DELETE FROM toy WHERE kind = 'image' AND category = 'c02'")
    changed = writer.one(ALL)
    assert changed != answers
    assert open_session().one(ALL) == answers
    writer.run("ROLLBACK")
    vacuum(sql)
    assert [session.one(ALL) for session in (writer, open_session(), open_session())] == [answers] * 3


def test_a_transaction_that_sees_the_past(sql, open_session):
    """Its pages are those of the present, some of whose rows it does not see."""
    past, reader = open_session(), open_session()
    vacuum(sql)
    before = sql.one(ALL)
    past.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
    sql.run("DELETE FROM toy WHERE kind = 'image' AND category = 'c02'")
    sql.run("VACUUM toy")
    after = open_session().one(ALL)
    assert past.one(ALL) == before != after
    assert reader.one(ALL) == after
    past.run("COMMIT")
    vacuum(sql)
    assert [open_session().one(ALL) for _ in range(2)] == [after] * 2
    assert past.one(ALL) == after


def test_a_table_that_is_filled_anew(sql, open_session):
    """VACUUM FULL and TRUNCATE write another file."""
    vacuum(sql)
    answers = [open_session().one(ALL) for _ in range(2)][0]
    sql.run("VACUUM FULL toy")
    vacuum(sql)
    assert [open_session().one(ALL) for _ in range(2)] == [answers] * 2
    # In one transaction, as a restore does.
    sql.run("CREATE TABLE kept AS SELECT * FROM toy")
    sql.run("BEGIN; TRUNCATE toy; INSERT INTO toy SELECT * FROM kept WHERE category <> 'c04' OR kind <> 'image'; COMMIT")
    vacuum(sql)
    after = [open_session().one(ALL) for _ in range(2)]
    assert after == [alone(open_session)] * 2
    assert after[0] != answers


def test_tables_that_are_not_logged(sql, cluster, open_session):
    pages = file_of(cluster, sql).with_suffix(".pages")
    vacuum(sql)
    sql.one(ALL)
    assert pages.exists()
    pages.unlink()
    sql.run("ALTER TABLE toy SET UNLOGGED")
    vacuum(sql)
    answers = [reads(sql, open_session())]
    assert not pages.exists()
    answers.append(reads(sql, open_session()))
    assert all(read >= ROWS for read, _ in answers)


def test_small_tables_have_no_file(sql, cluster):
    create_random(sql, "small", categories=5, dimensions=DIMENSIONS)
    vacuum(sql, "small")
    sql.one("SELECT susx.label('small', embedding) FROM points WHERE id = 1")
    assert not file_of(cluster, sql, "small").with_suffix(".pages").exists()


@pytest.mark.parametrize("length", [0, 23, 24, 1000])
def test_a_file_with_other_content_is_not_used(sql, cluster, open_session, length):
    vacuum(sql)
    answers = sql.one(ALL)
    pages = file_of(cluster, sql).with_suffix(".pages")
    whole = pages.read_bytes()
    pages.write_bytes(b"0" * length)
    assert open_session().one(ALL) == answers
    assert pages.read_bytes() == whole


def test_the_file_of_a_dropped_classifier_is_removed(sql, cluster):
    vacuum(sql)
    sql.one(ALL)
    pages = file_of(cluster, sql).with_suffix(".pages")
    assert pages.exists()
    sql.run("DROP TABLE toy")
    create_random(sql, "toy", **SIZE, seed=5)
    sql.one(ALL)
    assert not pages.exists()

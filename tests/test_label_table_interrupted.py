"""CALL susx.label_table during writes, kills and cancels, and beside other calls."""

from __future__ import annotations

import contextlib
import random

import psycopg
import pytest

from helpers.labels import create_kinds, create_photos, records, rewritten, writers, wrong
from helpers.processes import eventually
from helpers.session import Session, in_background, session_of

ROWS = 3000
CALL = "CALL susx.label_table('photos', 'kinds', batch_size => 20)"


@pytest.fixture
def photos(cluster) -> str:
    """A schema with photos and the classifier kinds."""
    schema = f"t_{random.getrandbits(40)}"
    with open_session(cluster, schema) as sql:
        sql.run(f"CREATE SCHEMA {schema}")
        create_kinds(sql, categories=20, per_class=60)
        create_photos(sql, ROWS)
    yield schema
    with open_session(cluster, schema) as sql:
        sql.run(f"DROP SCHEMA {schema} CASCADE")


@contextlib.contextmanager
def open_session(cluster, schema: str):
    with session_of(cluster) as session:
        session.run(f"SET search_path = {schema}, public; SET client_min_messages = warning")
        yield session


def labelled(sql: Session) -> int:
    return sql.one("SELECT count(label) FROM photos")


def slow_down(sql: Session, milliseconds: int = 1) -> None:
    """Every row that is labelled takes a while, so that the others come in between."""
    sql.run(
        f"CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep({milliseconds} / 1000.0); "
        "RETURN NEW; END $$; CREATE TRIGGER slow BEFORE UPDATE OF label ON photos FOR EACH ROW EXECUTE FUNCTION slow()"
    )


@pytest.mark.parametrize("how", ["pg_cancel_backend", "pg_terminate_backend"])
def test_interrupted(cluster, photos, how):
    with open_session(cluster, photos) as worker, open_session(cluster, photos) as other:
        slow_down(other)
        with in_background(lambda: worker.run(CALL)) as results:
            assert eventually(lambda: labelled(other) >= 100)
            other.run(f"SELECT {how}(%s)", worker.pid)
        assert isinstance(results[0], psycopg.Error)
        assert 100 <= labelled(other) < ROWS, "the interruption came too late"
        assert labelled(other) == len(records(other))
        kept = other.column("SELECT id FROM photos WHERE label IS NOT NULL")
        other.run("DROP TRIGGER slow ON photos")
        before = writers(other)
        other.run(CALL)
        assert wrong(other) == 0 and len(records(other)) == ROWS
        # Finished rows are not labelled again.
        assert rewritten(other, before) == set(range(ROWS)) - set(kept)


def test_beside_a_writer(cluster, photos):
    """Embeddings and labels that change meanwhile, and classifiers too: one more call makes all of it consistent."""
    with open_session(cluster, photos) as worker, open_session(cluster, photos) as other:
        slow_down(other)
        with in_background(lambda: worker.run(CALL)) as results:
            assert eventually(lambda: labelled(other) >= 100)
            for i in range(60):
                at, to = random.randrange(ROWS), random.randrange(ROWS)
                other.run(
                    "UPDATE photos SET embedding = (SELECT embedding FROM photos WHERE id = %s) WHERE id = %s", at, to
                )
                if i == 30:
                    other.run("SELECT susx.alter_classifier('kinds', logit_scale => 3)")
            other.run("UPDATE photos SET label = 'mine' WHERE id IN (7, 2999)")
        assert results[0] is None
        # What was written has the label of some state that it had, and the other rows are right already.
        other.run("DROP TRIGGER slow ON photos")
        other.run(CALL)
        assert wrong(other, where="id NOT IN (7, 2999)") == 0
        assert other.column("SELECT label FROM photos WHERE id IN (7, 2999)") == ["mine", "mine"]


def test_a_classifier_that_changes_meanwhile(cluster, photos):
    """The call itself ends with labels of one state."""
    with open_session(cluster, photos) as worker, open_session(cluster, photos) as other:
        slow_down(other)
        with in_background(lambda: worker.run(CALL)) as results:
            assert eventually(lambda: labelled(other) >= 100)
            other.run("SELECT susx.alter_classifier('kinds', method => 'zero-shot')")
        assert results[0] is None
        assert wrong(other) == 0


def test_a_transaction_that_takes_long(cluster, photos):
    """Its rows are not waited for, and are labelled by the next call."""
    with open_session(cluster, photos) as worker, open_session(cluster, photos) as other:
        other.run("BEGIN; UPDATE photos SET known = 0 WHERE id % 10 = 3")
        worker.run("SET client_min_messages = notice")
        worker.run(CALL)
        assert any("300 changed by other sessions: call again" in notice for notice in worker.notices)
        assert labelled(worker) == ROWS - 300
        other.run("COMMIT")
        worker.run(CALL)
        assert wrong(worker) == 0


def test_two_sessions(cluster, photos):
    """On two ranges of keys, and on the same one."""
    calls = ["first_key => '0', last_key => '1499'", "first_key => '1500'"]
    with open_session(cluster, photos) as one, open_session(cluster, photos) as two:
        run = [lambda s=s, c=c: s.run(f"{CALL[:-1]}, {c})") for s, c in zip((one, two), calls)]
        with in_background(*run) as results:
            pass
        assert results == [None, None]
        assert wrong(one) == 0 and len(records(one)) == ROWS
        one.run("SELECT susx.alter_classifier('kinds', logit_scale => 3)")
        with in_background(lambda: one.run(CALL), lambda: two.run(CALL)) as results:
            pass
        assert results == [None, None]
        one.run(CALL)
        assert wrong(one) == 0 and len(records(one)) == ROWS


def test_two_calls_for_all_rows_take_turns(cluster, photos):
    """The second one finds nothing to do, and does not ask to be called again."""
    with open_session(cluster, photos) as one, open_session(cluster, photos) as two, open_session(cluster, photos) as other:
        slow_down(other)
        for session in (one, two):
            session.run("SET client_min_messages = notice; SET susx.progress_interval = 0")
        with in_background(lambda: one.run(CALL), lambda: (eventually(lambda: labelled(other) > 0), two.run(CALL))) as results:
            pass
        assert not [result for result in results if isinstance(result, Exception)], results
        assert f"labelled {ROWS} rows in " in one.notices[-1] and "call again" not in one.notices[-1]
        assert "waiting until it has ended" in two.notices[0]
        assert two.notices[-1] == '"photos": all labels are up to date'
        assert wrong(other) == 0


def test_rows_that_a_trigger_skips(cluster, photos):
    """They are not said to have been changed by others."""
    with open_session(cluster, photos) as sql:
        sql.run(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN CASE WHEN NEW.id <> 5 THEN NEW END; END'; "
            "CREATE TRIGGER no BEFORE UPDATE ON photos FOR EACH ROW EXECUTE FUNCTION no(); SET client_min_messages = notice"
        )
        for done in (ROWS - 1, 0):
            sql.run(CALL)
            assert "1 skipped: a trigger or a policy" in sql.notices[-1] and "call again" not in sql.notices[-1]
            assert (f"labelled {done} rows in " in sql.notices[-1]) == (done > 0)
        assert sql.column("SELECT id FROM photos WHERE label IS NULL") == [5]


def test_the_table_is_dropped_meanwhile(cluster, photos):
    with open_session(cluster, photos) as worker, open_session(cluster, photos) as other:
        slow_down(other)
        with in_background(lambda: worker.run(CALL)) as results:
            assert eventually(lambda: labelled(other) >= 100)
            other.run("DROP TABLE photos")
        assert isinstance(results[0], psycopg.errors.ObjectNotInPrerequisiteState)
        assert other.one("SELECT count(*) FROM susx.row_label r WHERE NOT EXISTS (SELECT FROM susx.labelling l WHERE l.id = r.labelling)") == 0


def test_progress(cluster, photos):
    with open_session(cluster, photos) as worker, open_session(cluster, photos) as other:
        slow_down(other)
        with in_background(lambda: worker.run(CALL)):
            seen = "SELECT command, phase, relation::text, total FROM susx.stat_progress WHERE done > 0"
            assert eventually(lambda: other.rows(seen) == [("label_table", "classifying", "photos", ROWS)])

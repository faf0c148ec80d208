"""Sessions share the fits of large classifiers in files: test_fits.py tests when a session fits anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conftest import DATABASE
from helpers.fits import ALL, CHANGES, DIMENSIONS, SIZE, create_toy, file_of, mapped
from helpers.processes import private
from helpers.session import Session, in_background
from helpers.toy import create_points, create_random

# Support images, all of which are 12.8 MB.
LARGE = 50_000


@pytest.fixture
def sql(sql):
    create_toy(sql)
    return sql


def partial(folder: Path) -> list[str]:
    """Files that are not in their place yet."""
    return [path.name for path in folder.iterdir() if path.suffix not in ("", ".lock", ".pages")]


def replace(path: Path, content: bytes) -> None:
    """Puts another file into its place, with the owner and the rights of the old one."""
    stat = path.stat()
    other = path.with_name("other")
    other.write_bytes(content)
    os.chown(other, stat.st_uid, stat.st_gid)
    other.chmod(0o600)
    other.replace(path)


@pytest.mark.parametrize("method", ["zero-shot", "tip-adapter", "tip-x", "gated-tip-x", "gda", None])
def test_another_session_gives_the_same_answers(sql, open_session, method):
    """To the last bit, by every method: what is not in the file is fitted from it."""
    query = ALL.replace("20) c", "20, method => %s) c")
    first, second = open_session(), open_session()
    answers = first.one(query, method)
    assert mapped(first) == ["(toy)"]
    assert second.one(query, method) == answers
    assert mapped(second) == ["toy"]
    explained = "SELECT array_agg(e) FROM susx.explain('toy', (SELECT embedding FROM points WHERE id = 3), 5, method => %s) e"
    assert first.one(explained, method) == second.one(explained, method)
    alone = open_session()
    alone.run("SET susx.shared_fits = off")
    assert alone.one(query, method) == answers
    assert mapped(alone) == ["(toy)"]


def test_the_method_of_the_classifier_is_shared(sql, cluster):
    """A session that maps the file need not fit it."""
    sql.one(ALL)
    size = file_of(cluster, sql).stat().st_size
    sql.run("SELECT susx.alter_classifier('toy', method => 'gda')")
    sql.one(ALL)
    # Two matrices of a row per category, at least.
    assert file_of(cluster, sql).stat().st_size >= size + 2 * SIZE["categories"] * DIMENSIONS * 4


def test_likeness_vectors_are_shared(sql, open_session):
    sql.run("UPDATE toy SET likeness = (embedding::real[])[1:40]::vector WHERE kind = 'image'")
    query = (
        "SELECT array_agg(c ORDER BY p.id, c.rank) "
        "FROM points p, susx.classify('toy', p.embedding, 20, likeness => (p.embedding::real[])[3:42]::vector) c"
    )
    first, second = open_session(), open_session()
    answers = first.one(query)
    assert (second.one(query), mapped(first), mapped(second)) == (answers, ["(toy)"], ["toy"])


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_fitted_once(sql, open_session, change):
    first, second = open_session(), open_session()
    answers = first.one(ALL)
    second.one(ALL)
    sql.run(change)
    changed = second.one(ALL)
    assert changed != answers
    assert mapped(second) == ["toy", "(toy)"]
    assert first.one(ALL) == changed
    assert mapped(first) == ["(toy)", "toy"]
    assert open_session().one(ALL) == changed


def test_an_uncommitted_change_is_not_shared(sql, open_session):
    answers = sql.one(ALL)
    writer, reader = open_session(), open_session()
    writer.run("BEGIN; INSERT INTO toy (category, kind, embedding) SELECT 'c00', 'image', embedding FROM points")
    changed = writer.one(ALL)
    assert changed != answers
    assert reader.one(ALL) == answers
    assert (mapped(writer), mapped(reader)) == (["(toy)"], ["toy"])
    writer.run("ROLLBACK")
    assert writer.one(ALL) == open_session().one(ALL) == answers
    assert mapped(writer) == ["toy"]


def test_a_transaction_that_sees_the_past_does_not_replace_the_present(sql, open_session):
    past, present, reader = open_session(), open_session(), open_session()
    past.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
    before = present.one(ALL)
    sql.run("DELETE FROM toy WHERE kind = 'image' AND category = 'c02'")
    after = present.one(ALL)
    assert past.one(ALL) == before != after
    assert mapped(past) == ["(toy)"]
    assert reader.one(ALL) == after
    assert mapped(reader) == ["toy"]


def test_what_sessions_see_differently_is_not_shared(sql, cluster, schema, open_session):
    """Rows that depend on the user, through row-level security or a view."""
    sql.run("ALTER TABLE toy ENABLE ROW LEVEL SECURITY; ALTER TABLE toy FORCE ROW LEVEL SECURITY")
    sql.run("CREATE POLICY half ON toy USING (id % 2 = 0 OR kind <> 'image')")
    sql.run("DROP ROLE IF EXISTS half_blind; CREATE ROLE half_blind LOGIN")
    sql.run(f"GRANT USAGE ON SCHEMA {schema} TO half_blind; GRANT SELECT ON toy, points TO half_blind")
    everything = open_session()
    answers = everything.one(ALL)
    blind = open_session("half_blind")
    assert blind.one(ALL) != answers
    assert mapped(blind) == ["(toy)"]
    assert open_session().one(ALL) == answers


def test_reading_a_shared_fit_needs_the_privilege(sql, schema, open_session):
    sql.one(ALL)
    sql.run("DROP ROLE IF EXISTS stranger; CREATE ROLE stranger LOGIN")
    sql.run(f"GRANT USAGE ON SCHEMA {schema} TO stranger; GRANT SELECT ON points TO stranger")
    assert open_session("stranger").fails(ALL).sqlstate == "42501"
    sql.run("GRANT SELECT ON toy TO stranger")
    stranger = open_session("stranger")
    stranger.one(ALL)
    assert mapped(stranger) == ["toy"]


def test_parallel_workers_map_it(sql, open_session):
    create_points(sql, "many", rows=3000, dimensions=DIMENSIONS)
    session = open_session()
    labels = "SELECT count(*), sum(id) FROM many WHERE susx.label('toy', embedding) > 'c07'"
    expected = sql.rows(labels)
    session.run(
        "SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; "
        "SET parallel_leader_participation = off"
    )
    plan = "\n".join(session.column(f"EXPLAIN {labels}"))
    assert "Workers Planned" in plan
    assert session.rows(labels) == expected
    found = mapped(session)
    assert found and set(found) == {"toy"}


def test_sessions_that_come_at_once_fit_it_once(sql, open_session):
    """They wait for the first one instead of doing the same work."""
    create_random(sql, "large", categories=100, dimensions=DIMENSIONS, per_class=200)
    sessions = [open_session() for _ in range(6)]
    label = "SELECT susx.label('large', embedding) FROM points WHERE id = 1"
    with in_background(*[lambda session=session: session.one(label) for session in sessions]) as results:
        pass
    assert len(set(results)) == 1
    assert sorted(how for session in sessions for how in mapped(session)) == ["(large)"] + ["large"] * 5


def test_a_session_that_is_cancelled_lets_the_next_one_fit(sql, cluster, open_session):
    create_random(sql, "large", categories=100, dimensions=DIMENSIONS, per_class=200)
    label = "SELECT susx.label('large', embedding) FROM points WHERE id = 1"
    first, second = open_session(), open_session()
    first.run("SET statement_timeout = 5")
    assert first.fails(label).sqlstate == "57014"
    assert partial(file_of(cluster, sql).parent) == []
    assert second.one(label) is not None
    assert mapped(second) == ["(large)"]


def test_small_classifiers_have_no_file(sql, cluster):
    create_random(sql, "small", categories=5, dimensions=DIMENSIONS)
    sql.one("SELECT susx.label('small', embedding) FROM points WHERE id = 1")
    sql.one(ALL)
    assert file_of(cluster, sql).exists()
    assert not file_of(cluster, sql, "small").exists()


def test_a_file_is_the_server_s_alone(sql, cluster):
    sql.one(ALL)
    file = file_of(cluster, sql)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert file.stat().st_uid == (cluster.data_dir / "PG_VERSION").stat().st_uid
    assert partial(file.parent) == []


def test_the_file_of_a_dropped_classifier_is_removed(sql, cluster):
    sql.one(ALL)
    file = file_of(cluster, sql)
    sql.run("DROP TABLE toy")
    create_random(sql, "toy", **SIZE, seed=5)
    sql.one(ALL)
    assert not file.exists()
    assert file_of(cluster, sql).exists()


@pytest.mark.parametrize("length", [0, 10, 64, 3000, 1_000_000])
def test_a_file_that_is_not_whole_is_not_used(sql, cluster, open_session, length):
    answers = sql.one(ALL)
    file = file_of(cluster, sql)
    whole = file.read_bytes()
    # In another file: others have mapped this one.
    replace(file, whole[:length])
    reader = open_session()
    assert reader.one(ALL) == answers
    assert mapped(reader) == ["(toy)"]
    assert file.read_bytes() == whole


def test_where_no_file_can_be_written(sql, cluster, open_session):
    sql.one(ALL)
    file = file_of(cluster, sql)
    file.unlink()
    file.mkdir()
    try:
        readers = [open_session() for _ in range(2)]
        assert readers[0].one(ALL) == readers[1].one(ALL)
        assert [mapped(reader) for reader in readers] == [["(toy)"]] * 2
        assert partial(file.parent) == []
    finally:
        file.rmdir()
    reason = f'susx: cannot write "{file.relative_to(cluster.data_dir)}", so each session fits by itself: '
    assert cluster.log_file.read_text().count(reason) == 2


def test_support_images_are_in_memory_once(sql, open_session):
    """A session needs a fraction of their size for itself, also the one that has fitted them."""
    sql.run("SELECT susx.create_classifier('large', (SELECT array_agg('l' || i) FROM generate_series(1, 10) i), "
            "text_embeddings => (SELECT array_agg(embedding) FROM points WHERE id < 10))")  # fmt: skip
    sql.run(
        f"INSERT INTO large (category, kind, embedding) SELECT 'l' || 1 + i % 10, 'image', "
        f"(SELECT array_agg(sin(i * 7 + j * j))::real[]::vector FROM generate_series(1, {DIMENSIONS}) j) "
        f"FROM generate_series(1, {LARGE}) i"
    )
    size = LARGE * DIMENSIONS * 4
    label = "SELECT susx.label('large', embedding) FROM points WHERE id = 1"
    for how in ("(large)", "large"):
        session = open_session()
        session.one("SELECT susx.label('toy', embedding) FROM points WHERE id = 1")
        mapped(session)
        before = private(session.one("SELECT pg_backend_pid()"))
        session.one(label)
        assert mapped(session) == [how]
        if how == "large":
            assert private(session.one("SELECT pg_backend_pid()")) - before < size / 4


def test_files_do_not_outlive_the_server(new_cluster):
    """PostgreSQL removes them when it starts, and a copy of the data directory by pg_basebackup has none."""
    with new_cluster() as cluster:
        session = Session(cluster.url(DATABASE))
        create_toy(session)
        answers = session.one(ALL)
        file = file_of(cluster, session)
        assert file.exists()
        session.close()
        backup = cluster.data_dir.with_name("backup")
        cluster.program("pg_basebackup", "-D", backup, "-d", cluster.url(DATABASE), "-c", "fast")
        assert (backup / "PG_VERSION").exists() and not (backup / file.parent.relative_to(cluster.data_dir)).exists()
        cluster.restart()
        assert not file.exists()
        with_a_new_one = Session(cluster.url(DATABASE))
        with_a_new_one.run("SET client_min_messages = debug1")
        assert with_a_new_one.one(ALL) == answers
        assert mapped(with_a_new_one) == ["(toy)"]
        assert file.exists()
        with_a_new_one.close()

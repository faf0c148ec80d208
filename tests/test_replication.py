"""A classifier's table and its settings arrive by logical replication, and count there at once; a copy of the data
directory is a cluster of its own."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

import psycopg
import pytest

from conftest import DATABASE, PG
from helpers.pictures import encode, picture
from helpers.processes import eventually, servers
from helpers.session import session_of
from helpers.toy import create_compass
from tools.cluster import Cluster

# By the method whose scores every support image changes.
SCORE = "SELECT category, score FROM susx.classify('compass', '[1,0.9]'::vector, method => 'tip-x')"

CHANGES = (
    "SELECT susx.add_support('compass', 'north', ARRAY['[1,1]', '[1,2]']::vector[])",
    "SELECT susx.alter_classifier('compass', logit_scale => 7)",
    "UPDATE compass SET embedding = '[1,-3]' WHERE kind = 'prompt' AND category = 'east'",
    "DELETE FROM compass WHERE kind = 'image' AND id % 2 = 0",
    "INSERT INTO compass (category, kind, embedding) VALUES ('north-east', 'prompt', '[1,1]')",
    "BEGIN; CREATE TEMP TABLE kept AS SELECT * FROM compass WHERE category <> 'north'; TRUNCATE compass; "
    "INSERT INTO compass TABLE kept; COMMIT",
)


def scores(reader) -> list[tuple] | None:
    """`None` where a statement that began before a TRUNCATE waited for it: to such a one the table is empty."""
    try:
        return reader.rows(SCORE)
    except psycopg.errors.ObjectNotInPrerequisiteState:
        return None


@pytest.fixture(scope="module")
def cluster(new_cluster):
    with new_cluster(wal_level="logical") as cluster:
        yield cluster


def test_logical_replication(cluster, connect):
    (version,) = connect().column("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    if tuple(map(int, version.split("."))) < (0, 6):
        pytest.skip(f"pgvector {version} cannot read a vector twice, as logical replication does: fixed in 0.6.0")
    cluster.create_database("subscriber")
    writer, reader = connect(), connect("subscriber")
    reader.run("SET client_min_messages = warning; CREATE EXTENSION susx CASCADE")
    create_compass(writer)
    writer.run("SELECT susx.alter_classifier('compass', alpha => 3)")
    create_compass(writer, "not_this_one")
    # The table itself, as administrators bring it there.
    dump = cluster.program("pg_dump", "--schema-only", "--table=compass", "--dbname", cluster.url(DATABASE))
    file = cluster.directory / "compass.sql"
    file.write_text(dump)
    cluster.program("psql", "-Xq", "-v", "ON_ERROR_STOP=1", "--dbname", cluster.url("subscriber"), "--file", file)
    writer.run(
        "CREATE PUBLICATION everything FOR TABLE compass, susx.classifier WHERE (classifier = 'compass'::regclass)"
    )
    writer.run("SELECT pg_create_logical_replication_slot('everything', 'pgoutput')")
    # In one cluster the slot cannot be made by the subscription, which would wait for itself.
    reader.run(
        f"CREATE SUBSCRIPTION everything CONNECTION '{cluster.url(DATABASE)}' PUBLICATION everything "
        "WITH (create_slot = false)"
    )
    try:
        count = "SELECT (SELECT count(*) FROM compass), (SELECT count(*) FROM susx.classifier)"
        assert eventually(lambda: reader.rows(count) == [(2, 1)], 30)
        assert reader.rows("SELECT classifier::text, alpha FROM susx.classifier") == [("compass", 3)]
        # The session has the classifier in its memory, and every change takes it out.
        for change in CHANGES:
            before = reader.rows(SCORE)
            assert reader.rows(SCORE) == before
            writer.run(change)
            after = writer.rows(SCORE)
            assert after != before, change
            assert eventually(lambda: scores(reader) == after, 20), change
    finally:
        reader.run("DROP SUBSCRIPTION everything")
        writer.run("DROP PUBLICATION everything; DROP TABLE compass, not_this_one")


def test_changes_without_ordinary_triggers(cluster, connect):
    """session_replication_role = replica, as tools that load data set it."""
    sql, other = connect(), connect()
    create_compass(sql)
    sql.run("SET session_replication_role = replica")
    for change in CHANGES:
        before = other.rows(SCORE)
        sql.run(change)
        after = sql.rows(SCORE)
        assert after != before
        assert other.rows(SCORE) == after, change
    sql.run("RESET session_replication_role; DROP TABLE compass, kept")


def test_physical_restore(cluster, connect):
    """A copy by pg_basebackup, started as a primary: with the classifiers, and an inference process of its own."""
    sql = connect()
    create_compass(sql)
    sql.run("SELECT susx.create_classifier('pets', '{cat,dog}', model => 'tiny_split')")
    sql.connection.execute("SELECT susx.add_support('pets', 'cat', ARRAY[%s])", (encode(picture(1)),))
    image = encode(picture(2))
    pets = "SELECT category, score FROM susx.classify('pets', %s::bytea, 2)"
    expected = sql.rows(SCORE), sql.rows(pets, image), sql.rows("TABLE susx.classifier")
    folder = Path(tempfile.mkdtemp(prefix="susx-", dir="/tmp"))
    folder.chmod(0o711)
    restored = Cluster(PG, folder / "cluster", cluster.settings, sync=False)
    try:
        restored.directory.mkdir()
        shutil.chown(restored.directory, cluster.data_dir.stat().st_uid, cluster.data_dir.stat().st_gid)
        cluster.program("pg_basebackup", "--checkpoint=fast", "-D", restored.data_dir, "-d", cluster.url("postgres"))
        # The socket of the original's inference process is no part of it, or does no harm.
        restored.start()
        with session_of(restored) as copy:
            assert (copy.rows(SCORE), copy.rows(pets, image), copy.rows("TABLE susx.classifier")) == expected
            assert len(servers(restored.data_dir)) == 1
            copy.run("SELECT susx.alter_classifier('compass', logit_scale => 7)")
            assert copy.rows(SCORE) != expected[0]
        assert sql.rows(SCORE) == expected[0]
    finally:
        with contextlib.suppress(Exception):
            restored.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)
        sql.run("DROP TABLE compass, pets")

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


@pytest.fixture
def ends(cluster, connect, fresh_database):
    """Sessions of the publisher and of the subscriber."""
    (version,) = connect().column("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    if tuple(map(int, version.split("."))) < (0, 6):
        pytest.skip(f"pgvector {version} cannot read a vector twice, as logical replication does: fixed in 0.6.0")
    writer, reader = connect(), connect(fresh_database)
    reader.run("SET client_min_messages = warning; CREATE EXTENSION susx CASCADE")
    create_compass(writer)
    yield writer, reader
    reader.run("DROP SUBSCRIPTION IF EXISTS everything")
    writer.run("DROP PUBLICATION IF EXISTS everything; DROP TABLE compass; DROP TABLE IF EXISTS not_this_one")


def subscribe(cluster, writer, reader, tables: str) -> None:
    """Brings the table over as administrators do, and subscribes to these tables."""
    database = reader.one("SELECT current_database()")
    dump = cluster.program("pg_dump", "--schema-only", "--table=compass", "--dbname", cluster.url(DATABASE))
    file = cluster.directory / "compass.sql"
    file.write_text(dump)
    cluster.program("psql", "-Xq", "-v", "ON_ERROR_STOP=1", "--dbname", cluster.url(database), "--file", file)
    writer.run(f"CREATE PUBLICATION everything FOR TABLE {tables}")
    writer.run("SELECT pg_create_logical_replication_slot('everything', 'pgoutput')")
    # In one cluster the slot cannot be made by the subscription, which would wait for itself.
    reader.run(
        f"CREATE SUBSCRIPTION everything CONNECTION '{cluster.url(DATABASE)}' PUBLICATION everything "
        "WITH (create_slot = false)"
    )


def test_the_table_is_enough(cluster, ends):
    """Its row of settings comes with it, and every change of them."""
    writer, reader = ends
    writer.run("SELECT susx.add_support('compass', 'north', ARRAY['[1,1]', '[1,2]']::vector[])")
    writer.run("SELECT susx.alter_classifier('compass', alpha => 3)")
    subscribe(cluster, writer, reader, "compass")
    assert eventually(lambda: reader.one("SELECT count(*) FROM compass") == 5)
    assert reader.rows(SCORE) == writer.rows(SCORE)
    listed = "SELECT alpha FROM susx.classifier"
    assert reader.rows(listed) == []
    for alpha in (5, 7):
        before = writer.rows(SCORE)
        writer.run(f"SELECT susx.alter_classifier('compass', alpha => {alpha})")
        after = writer.rows(SCORE)
        assert after != before
        assert eventually(lambda: reader.rows(SCORE) == after)
        # From the second change on, the subscriber lists it.
        assert alpha == 5 or eventually(lambda: reader.rows(listed) == [(alpha,)])
        reader.run("SELECT susx.adopt_classifier('compass')")
        assert reader.rows(listed) == [(alpha,)]


def test_logical_replication(cluster, ends):
    writer, reader = ends
    writer.run("SELECT susx.alter_classifier('compass', alpha => 3)")
    create_compass(writer, "not_this_one")
    subscribe(cluster, writer, reader, "compass, susx.classifier WHERE (classifier = 'compass'::regclass)")
    count = "SELECT (SELECT count(category) FROM compass), (SELECT count(*) FROM susx.classifier)"
    assert eventually(lambda: reader.rows(count) == [(2, 1)])
    assert reader.rows("SELECT classifier::text, alpha FROM susx.classifier") == [("compass", 3)]
    # The session has the classifier in its memory, and every change takes it out.
    for change in CHANGES:
        before = reader.rows(SCORE)
        assert reader.rows(SCORE) == before
        writer.run(change)
        after = writer.rows(SCORE)
        assert after != before, change
        assert eventually(lambda: scores(reader) == after), change


TABLE = "CREATE TABLE photos (id int PRIMARY KEY, image bytea)"
TRIGGERS = """
    CREATE TRIGGER embed_insert AFTER INSERT ON photos REFERENCING NEW TABLE AS new FOR EACH STATEMENT
    EXECUTE FUNCTION susx.embed_on_write('image', 'embedding', 'tiny_split');
    CREATE TRIGGER embed_update AFTER UPDATE ON photos REFERENCING OLD TABLE AS old NEW TABLE AS new FOR EACH STATEMENT
    EXECUTE FUNCTION susx.embed_on_write('image', 'embedding', 'tiny_split')"""
RIGHT = "SELECT id, (embedding <=> susx.embed_image(image, 'tiny_split')) < 1e-5 FROM photos ORDER BY id"


def test_images_that_arrive_on_a_subscriber(cluster, connect):
    """No statement trigger fires for them. A nightly embed_table with refresh embeds those that are new or replaced."""
    cluster.create_database("gallery")
    writer, reader = connect(), connect("gallery")
    reader.run("SET client_min_messages = warning; CREATE EXTENSION susx CASCADE")
    for session in (writer, reader):
        session.run(TABLE)
    reader.run(f"SELECT susx.add_embedding_column('photos', model => 'tiny_split'); {TRIGGERS}")
    writer.run("CREATE PUBLICATION photos FOR TABLE photos")
    writer.run("SELECT pg_create_logical_replication_slot('photos', 'pgoutput')")
    reader.run(
        f"CREATE SUBSCRIPTION photos CONNECTION '{cluster.url(DATABASE)}' PUBLICATION photos WITH (create_slot = false)"
    )
    night = "CALL susx.embed_table('photos', model => 'tiny_split', refresh => true)"
    try:
        for i in range(4):
            writer.run("INSERT INTO photos VALUES (%s, %s)", i, encode(picture(i, (40, 30))))
        assert eventually(lambda: reader.one("SELECT count(*) FROM photos") == 4)
        assert reader.one("SELECT count(embedding) FROM photos") == 0
        reader.run(night)
        assert reader.rows(RIGHT) == [(i, True) for i in range(4)]
        writer.run("UPDATE photos SET image = %s WHERE id = 2", encode(picture(9, (40, 30))))
        wrong = [(0, True), (1, True), (2, False), (3, True)]
        assert eventually(lambda: reader.rows(RIGHT) == wrong)
        reader.run(night)
        assert reader.rows(RIGHT) == [(i, True) for i in range(4)]
    finally:
        reader.run("DROP SUBSCRIPTION photos")
        writer.run("DROP PUBLICATION photos; DROP TABLE photos")


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

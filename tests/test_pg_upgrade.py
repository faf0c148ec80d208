"""pg_upgrade from PostgreSQL 16 to 18: classifiers, their settings and their labels are kept."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from conftest import DATABASE, PG
from helpers.pictures import encode, picture
from helpers.session import session_of
from helpers.toy import create_points, create_random
from tools.cluster import Cluster
from tools.paths import pg_home

OLD, NEW = "16", "18"

SCORES = "SELECT p.id, c.* FROM points p, susx.classify('\"The Toy\"', p.embedding, 3) c ORDER BY p.id, c.rank"
SETTINGS = "SELECT * FROM susx.classifier ORDER BY classifier"
PETS = "SELECT category, score FROM susx.classify('pets', %s::bytea, 2)"


MADE_BY = "SELECT relation::text, model, model_sha256 FROM susx.embedding_column"


def versions(pg: str) -> set[str]:
    """The versions of susx that are installed in build/pg/NN."""
    control = pg_home(pg) / "share" / "postgresql" / "extension" / "susx.control"
    return set(control.read_text().splitlines()) if control.exists() else set()


@pytest.mark.skipif(PG != NEW, reason=f"it is one test for both versions, and runs with PostgreSQL {NEW}")
@pytest.mark.skipif(versions(OLD) != versions(NEW), reason=f"PostgreSQL {OLD} has no susx of this version yet")
def test_pg_upgrade(settings):
    image = encode(picture(2))
    folder = Path(tempfile.mkdtemp(prefix="susx-", dir="/tmp"))
    folder.chmod(0o711)
    old, new = (Cluster(pg, folder / pg, {**settings, "fsync": "off"}, sync=False) for pg in (OLD, NEW))
    try:
        old.init()
        old.start()
        old.create_database(DATABASE)
        with session_of(old) as sql:
            sql.run("SET client_min_messages = warning; CREATE EXTENSION susx CASCADE")
            create_random(sql, '"The Toy"', categories=5, dimensions=8)
            create_points(sql, "points", rows=100, dimensions=8)
            sql.run("SELECT susx.alter_classifier('\"The Toy\"', alpha => 0.3, gamma => 0.7)")
            sql.run("SELECT susx.create_classifier('pets', '{cat,dog}', model => 'tiny_split')")
            sql.connection.execute("SELECT susx.add_support('pets', 'cat', ARRAY[%s])", (encode(picture(1)),))
            sql.run(
                "CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector); "
                "INSERT INTO photos VALUES (1, 'no image', NULL)"
            )
            sql.run("CALL susx.embed_table('photos')")
            expected = sql.rows(SCORES), sql.rows(SETTINGS), sql.rows(PETS, image), sql.rows("TABLE susx.errors"), sql.rows(MADE_BY)
            assert len(expected[0]) == 300 and len(expected[1]) == 2 and len(expected[3]) == len(expected[4]) == 1
        old.stop()
        # PostgreSQL 18 makes clusters with checksums, and pg_upgrade wants both alike.
        old.program("pg_checksums", "--enable", "--no-sync", "-D", old.data_dir)
        new.init()
        new.start()
        new.stop()
        new.program(
            *("pg_upgrade", "--no-sync", "-U", "postgres", "-d", old.data_dir, "-D", new.data_dir),
            *("-b", old.home / "bin", "-B", new.home / "bin", "--socketdir", new.directory),
        )
        new.start()
        with session_of(new) as sql:
            found = sql.rows(SCORES), sql.rows(SETTINGS), sql.rows(PETS, image), sql.rows("TABLE susx.errors"), sql.rows(MADE_BY)
            assert found == expected
            # Images that have failed are known by the version of their row, which is the same.
            sql.run("CALL susx.embed_table('photos')")
            assert sql.rows("TABLE susx.errors") == expected[3]
            sql.run("SELECT susx.add_support('\"The Toy\"', 'c01', (SELECT array_agg(embedding) FROM points WHERE id < 9))")
            assert sql.rows(SCORES) != expected[0]
            sql.run("ALTER EXTENSION susx UPDATE")
            sql.run('DROP TABLE "The Toy", pets, photos')
            assert sql.rows(SETTINGS) == sql.rows("TABLE susx.errors") == sql.rows(MADE_BY) == []
    finally:
        for cluster in (old, new):
            cluster.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)

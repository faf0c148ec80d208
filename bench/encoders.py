"""What the benchmarks of the encoders share: pictures, a cluster with the default model, and threads on both sides."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Iterator, Sequence

import psycopg

from tests.helpers.pictures import encode, picture
from tools import test_models
from tools.cluster import Cluster
from tools.paths import MODELS, ONNXRUNTIME, ROOT, TEST_MODELS

from .report import similar
from .sql import DATABASE, session

PHOTOS = ROOT.parent / "shared" / "photos"
MODEL = MODELS / "demo"
# A CLIP with random weights, whose runs cost next to nothing.
TINY = "split"
# Both sides of every ratio have these.
THREADS = os.cpu_count() or 1
BATCH = 32

# The photographs that there are.
MOST = 1200


def photos(count: int = MOST) -> list[bytes]:
    """Photographs of every kind, or else pictures that are made here, JPEGs of similar size and about as many bytes."""
    files = sorted(PHOTOS.glob("*/*.jpg"), key=lambda path: (path.name, path.parent.name))
    if len(files) >= count:
        return [path.read_bytes() for path in files[:count]]
    return [encode(picture(seed, (300, 200 + seed % 100)), "JPEG", quality=95) for seed in range(count)]


@contextlib.contextmanager
def cluster_with_models(pg: str, folder: Path, **settings: object) -> Iterator[Cluster]:
    """A throwaway cluster that has the default model and a tiny one."""
    test_models.ensure()
    models = folder / "models"
    if not models.exists():
        models.mkdir()
        shutil.copytree(MODEL, models / "demo")
        shutil.copytree(TEST_MODELS / TINY, models / TINY)
    wanted = {
        "susx.model_dir": models,
        "susx.model": "demo",
        "susx.onnxruntime_library": ONNXRUNTIME,
        "susx.execution_provider": "cpu",
        "susx.threads": THREADS,
        "susx.batch_size": BATCH,
        "autovacuum": "off",
        "synchronous_commit": "off",
        "max_wal_size": "4GB",
        "max_connections": "150",
    }
    with Cluster.throwaway(pg, wanted | settings) as cluster:
        cluster.create_database(DATABASE)
        with session(cluster) as sql:
            sql.execute("SET client_min_messages = warning; CREATE EXTENSION susx CASCADE")
            # The server starts, and the model is loaded.
            sql.execute("SELECT susx.embed_text('a photo')")
        yield cluster


def fill(sql: psycopg.Connection, table: str, images: Sequence[bytes]) -> None:
    """A table (id, image, embedding), the ids from 0."""
    sql.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, image bytea, embedding vector)")
    with sql.cursor() as cursor, cursor.copy(f"COPY {table} (id, image) FROM STDIN") as stream:
        for row in enumerate(images):
            stream.write_row(row)
    sql.execute(f"VACUUM (FREEZE, ANALYZE) {table}")


def agreement(sql: psycopg.Connection, what: str, ours: str, theirs: str, rows: int) -> str:
    """The cell for two tables (id, embedding) that must have the same rows."""
    cosines = _cosines(sql, ours, theirs, rows)
    return similar(what, cosines[0])


def agreement_of_decoders(sql: psycopg.Connection, what: str, ours: str, theirs: str, rows: int) -> str:
    """The same where two JPEG decoders, which may differ by a grey level, decoded the images.

    The default model keeps the best of a thousand classes: at the edge of what it keeps, a grey level makes a leap.
    """
    cosines = _cosines(sql, ours, theirs, rows)
    least, half = similar(what, cosines[0], 0.98), similar(what, cosines[len(cosines) // 2], 0.999)
    return f"{least}, half of them {half.removeprefix('cosines ')}"


def _cosines(sql: psycopg.Connection, ours: str, theirs: str, rows: int) -> list[float]:
    """In ascending order; not a number where a row is missing."""
    query = f"SELECT 1 - (a.embedding <=> b.embedding) AS cosine FROM {ours} a JOIN {theirs} b USING (id) ORDER BY 1"
    cosines = [row[0] for row in sql.execute(query)]
    return cosines if len(cosines) == rows and None not in cosines else [float("nan")]

"""What the benchmarks of the encoders share: images, tables of them, and the comparison of two such tables."""

from __future__ import annotations

from typing import Sequence

import numpy as np
import psycopg
from PIL import Image

from tests.helpers.pictures import encode, picture
from tools.paths import ROOT

from .report import similar

PHOTOS = ROOT.parent / "shared" / "photos"
# How many photographs there are.
MOST = 1200


def photos(count: int = MOST) -> list[bytes]:
    """Photographs of every kind; without them, generated JPEGs of similar dimensions and size."""
    files = sorted(PHOTOS.glob("*/*.jpg"), key=lambda path: (path.name, path.parent.name))
    if len(files) >= count:
        return [path.read_bytes() for path in files[:count]]
    return [encode(picture(seed, (300, 200 + seed % 100)), "JPEG", quality=95) for seed in range(count)]


def large_photos(count: int) -> list[bytes]:
    """Pictures of 12 megapixels with the grain of a phone's photographs: twelve that repeat."""
    different = [encode(_grainy(seed), "JPEG", quality=92) for seed in range(min(count, 12))]
    return [different[number % len(different)] for number in range(count)]


def _grainy(seed: int) -> Image.Image:
    smooth = np.asarray(picture(seed, (4000, 3000)), np.float32)
    grain = np.random.default_rng(seed).normal(0, 5, (*smooth.shape[:2], 1)).astype(np.float32)
    return Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))


def fill(sql: psycopg.Connection, table: str, images: Sequence[bytes]) -> None:
    """Creates a table (id, image, embedding) with ids from 0."""
    sql.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, image bytea, embedding vector)")
    with sql.cursor() as cursor, cursor.copy(f"COPY {table} (id, image) FROM STDIN") as stream:
        for row in enumerate(images):
            stream.write_row(row)
    sql.execute(f"VACUUM (FREEZE, ANALYZE) {table}")


def agreement(sql: psycopg.Connection, what: str, ours: str, theirs: str, rows: int) -> str:
    """The table cell that says how well two tables (id, embedding) agree, which must have the same rows."""
    cosines = _cosines(sql, ours, theirs, rows)
    return similar(what, cosines[0])


def agreement_of_decoders(sql: psycopg.Connection, what: str, ours: str, theirs: str, rows: int) -> str:
    """The same for images that came from two JPEG decoders, which may differ by a grey level.

    The default model keeps only the best of a thousand classes, and a grey level can change which ones.
    """
    cosines = _cosines(sql, ours, theirs, rows)
    least, half = similar(what, cosines[0], 0.98), similar(what, cosines[len(cosines) // 2], 0.999)
    return f"{least}, half of them {half.removeprefix('cosines ')}"


def _cosines(sql: psycopg.Connection, ours: str, theirs: str, rows: int) -> list[float]:
    """The cosines in ascending order; a single NaN if a row is missing."""
    query = f"SELECT 1 - (a.embedding <=> b.embedding) AS cosine FROM {ours} a JOIN {theirs} b USING (id) ORDER BY 1"
    cosines = [row[0] for row in sql.execute(query)]
    return cosines if len(cosines) == rows and None not in cosines else [float("nan")]

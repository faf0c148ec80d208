"""Sets of images with two vectors: names by CLIP or by the default model, likeness by EfficientNet-Lite2."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import psycopg

from tools.harness import LIKENESS_MODEL

from . import sets
from .sets import CIFAR10, LABELLED, SHARED, Set


def names() -> list[str]:
    """The pairs whose files exist."""
    return [name for name, (needs, _) in PAIRS.items() if needs.exists()]


def load(sql: psycopg.Connection, name: str, limit: int | None) -> Set:
    """Loads a set into a table, with at most `limit` images of every part."""
    return PAIRS[name][1](sql, limit)


def _caltech(sql: psycopg.Connection, limit: int | None) -> Set:
    """The test photographs of the first 28 categories."""
    folder = SHARED / "clip-vectors" / "caltech101"
    lines = [line.split("\t") for line in (folder / "text_subset_classes.tsv").read_text().splitlines()[:28]]
    place = {int(number): c for c, (number, *_) in enumerate(lines)}
    rows = np.load(folder / "likeness_test_rows.i4.npy")
    vectors = np.load(folder / "test_f.f16.npy")[rows].astype(np.float32)
    truth = [place[int(y)] for y in np.load(folder / "test_y.i2.npy")[rows]]
    prototypes = np.load(folder / "text_subset.f32.npy")[: len(lines)]
    data = sets._vectors(
        sql, "Caltech-101, 28 categories", "caltech_pairs", [line[1] for line in lines], prototypes, vectors, truth,
        [LABELLED] * len(truth), limit,
    )  # fmt: skip
    likeness = np.load(folder / "likeness_test_f.f16.npy").astype(np.float32)
    return _with_likeness(sql, data, likeness)


def _cifar(sql: psycopg.Connection, limit: int | None) -> Set:
    """CLIP's vectors, and EfficientNet's of the same pictures."""
    pictures = _embedded(sql, sets.load(sql, "cifar_pixels", None))
    folder = SHARED / "clip-vectors" / "cifar10_500"
    vectors, truth = np.load(folder / "test_f.f32.npy"), np.load(folder / "test_y.i2.npy").tolist()
    data = sets._vectors(
        sql, "CIFAR-10", "cifar_pairs", CIFAR10, np.load(folder / "text10.f32.npy"), vectors, truth,
        [LABELLED] * len(truth), limit,
    )  # fmt: skip
    sql.execute(
        f"ALTER TABLE {data.table} ADD COLUMN likeness vector; "
        f"UPDATE {data.table} SET likeness = {pictures.table}.likeness FROM {pictures.table} "
        f"WHERE {data.table}.id = {pictures.table}.id; DROP TABLE {pictures.table}"
    )
    return replace(data, is_paired=True)


def _with_likeness(sql: psycopg.Connection, data: Set, likeness: np.ndarray) -> Set:
    sql.execute(f"ALTER TABLE {data.table} ADD COLUMN likeness vector({likeness.shape[1]})")
    with sql.cursor() as cursor:
        cursor.executemany(
            f"UPDATE {data.table} SET likeness = %s::vector WHERE id = %s",
            [("[" + ",".join(map(str, likeness[i].tolist())) + "]", i) for i in data.truth],
        )
    return replace(data, is_paired=True)


def _pictures(name: str):
    """A set of pictures by both of the demo's models."""

    def load_pictures(sql: psycopg.Connection, limit: int | None) -> Set:
        return replace(_embedded(sql, sets.load(sql, name, limit)), encoder="demo's models")

    return load_pictures


def _embedded(sql: psycopg.Connection, data: Set) -> Set:
    """Embeds a set's pictures by EfficientNet, too."""
    sql.execute(f"ALTER TABLE {data.table} ADD COLUMN likeness vector")
    sql.execute(
        "CALL susx.embed_table(%s, embedding_column => 'likeness', model => %s)", [data.table, LIKENESS_MODEL.name]
    )
    return replace(data, is_paired=True)


# As sets.SETS.
PAIRS = {
    "caltech_pairs": (SHARED / "clip-vectors" / "caltech101" / "likeness_test_f.f16.npy", _caltech),
    "cifar_pairs": (SHARED / "clip-vectors" / "cifar10_500", _cifar),
    "photos_pairs": (sets.SETS["photos"][0], _pictures("photos")),
    "cifar_pixels_pairs": (sets.SETS["cifar_pixels"][0], _pictures("cifar_pixels")),
    "stamps_pairs": (sets.SETS["stamps"][0], _pictures("stamps")),
}

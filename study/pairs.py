"""Sets of images with two vectors: names by CLIP, or by the half of the default model that knows them, and likeness by the
default model's other half, which is EfficientNet's."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import psycopg

from . import sets
from .sets import CIFAR10, LABELLED, SHARED, Set

# The default model's vectors are those of the names (ConSE), followed by those of the eyes (EfficientNet).
OF_NAMES, OF_EYES = 384, 128
# The first half is 0.4 of the vector, so its cosines are 1 / 0.16 of what they are in it. Its names know less than CLIP's
# beside the same eyes.
CONSE = {"logit_scale": 20 * 0.4, "lambda": 10.0}
TEMPLATE = "a photo of a {}."


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
    """CLIP's vectors, and the default model's eyes on the same pictures."""
    eyes = sets.load(sql, "cifar_pixels", None)
    folder = SHARED / "clip-vectors" / "cifar10_500"
    vectors, truth = np.load(folder / "test_f.f32.npy"), np.load(folder / "test_y.i2.npy").tolist()
    data = sets._vectors(
        sql, "CIFAR-10", "cifar_pairs", CIFAR10, np.load(folder / "text10.f32.npy"), vectors, truth,
        [LABELLED] * len(truth), limit,
    )  # fmt: skip
    text = sql.execute(f"SELECT {_eyes('embedding')}::text FROM {eyes.table} ORDER BY id").fetchall()
    sql.execute(f"DROP TABLE {eyes.table}")
    return _with_likeness(sql, data, np.array([json.loads(row) for (row,) in text]))


def _with_likeness(sql: psycopg.Connection, data: Set, likeness: np.ndarray) -> Set:
    sql.execute(f"ALTER TABLE {data.table} ADD COLUMN likeness vector({likeness.shape[1]})")
    with sql.cursor() as cursor:
        cursor.executemany(
            f"UPDATE {data.table} SET likeness = %s::vector WHERE id = %s",
            [("[" + ",".join(map(str, likeness[i].tolist())) + "]", i) for i in data.truth],
        )
    return replace(data, is_paired=True)


def _halves(name: str):
    """A set of pictures by the two halves of the default model."""

    def load_halves(sql: psycopg.Connection, limit: int | None) -> Set:
        whole = sets.load(sql, name, limit)
        table = f"{whole.table}_pairs"
        sql.execute(
            f"CREATE TABLE {table} AS SELECT id, subvector(embedding, 1, {OF_NAMES})::vector({OF_NAMES}) AS embedding, "
            f"{_eyes('embedding')}::vector({OF_EYES}) AS likeness FROM {whole.table}; "
            f"ALTER TABLE {table} ADD PRIMARY KEY (id); DROP TABLE {whole.table}"
        )
        prompts = [TEMPLATE.replace("{}", category) for category in whole.categories]
        rows = sql.execute(
            f"SELECT subvector(embedding, 1, {OF_NAMES})::text FROM susx.embed_texts(%s) ORDER BY ord", [prompts]
        )
        prototypes = np.array([json.loads(row) for (row,) in rows.fetchall()])
        return replace(whole, table=table, prototypes=prototypes, encoder="default model's halves", is_paired=True,
                       params=CONSE)  # fmt: skip

    return load_halves


def _eyes(column: str) -> str:
    return f"subvector({column}, {OF_NAMES + 1}, {OF_EYES})"


# As sets.SETS.
PAIRS = {
    "caltech_pairs": (SHARED / "clip-vectors" / "caltech101" / "likeness_test_f.f16.npy", _caltech),
    "cifar_pairs": (SHARED / "clip-vectors" / "cifar10_500", _cifar),
    "photos_pairs": (sets.SETS["photos"][0], _halves("photos")),
    "cifar_pixels_pairs": (sets.SETS["cifar_pixels"][0], _halves("cifar_pixels")),
    "stamps_pairs": (sets.SETS["stamps"][0], _halves("stamps")),
}

"""The labelled sets that the methods are measured on. A set is a table (id, embedding) of the cluster, or (id, embedding,
likeness): names by one encoder, likeness by another."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import psycopg
from PIL import Image

from bench.encoders import fill
from bench.sql import copy
from tools.paths import PICTURES, ROOT

from .stamps import stamps

SHARED = ROOT.parent / "shared"
CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck".split()

# A row's part: a labelled image, another image of the same categories, or one of no category.
LABELLED, OTHER, DISTRACTOR = "labelled", "other", "distractor"


@dataclass(frozen=True)
class Set:
    name: str
    table: str
    categories: list[str]
    # Text vectors of the categories, C x d; without them, the default model embeds the names.
    prototypes: np.ndarray | None
    truth: dict[int, int]
    part: dict[int, str]
    # What made the vectors.
    encoder: str = "CLIP"
    # Whether the table has likeness vectors.
    is_paired: bool = False

    def ids(self, part: str = LABELLED) -> np.ndarray:
        return np.array([id for id, its in self.part.items() if its == part], int)


def names() -> list[str]:
    """The sets whose files exist."""
    return [name for name, (needs, _) in SETS.items() if needs.exists()]


def load(sql: psycopg.Connection, name: str, limit: int | None) -> Set:
    """Loads a set into a table, with at most `limit` images of every part."""
    return SETS[name][1](sql, limit)


def _caltech(sql: psycopg.Connection, limit: int | None) -> Set:
    folder = SHARED / "clip-vectors" / "caltech101"
    lines = [line.split("\t") for line in (folder / "text_subset_classes.tsv").read_text().splitlines()]
    place = {int(number): c for c, (number, *_) in enumerate(lines)}
    vectors, truth, part = [], [], []
    for file, use in (("test", LABELLED), ("val", OTHER), ("keys16", OTHER)):
        of_file = np.load(folder / f"{file}_f.f16.npy").astype(np.float32)
        categories = [place.get(int(y), -1) for y in np.load(folder / f"{file}_y.i2.npy")]
        vectors.append(of_file)
        truth += categories
        part += [use if c >= 0 else DISTRACTOR for c in categories]
    prototypes = np.load(folder / "text_subset.f32.npy")
    return _vectors(
        sql, "Caltech-101", "caltech", [line[1] for line in lines], prototypes, np.vstack(vectors), truth, part, limit
    )


def _cifar(sql: psycopg.Connection, limit: int | None) -> Set:
    folder = SHARED / "clip-vectors" / "cifar10_500"
    vectors, truth = np.load(folder / "test_f.f32.npy"), np.load(folder / "test_y.i2.npy").tolist()
    part = [LABELLED] * len(truth)
    # Images of another set serve as distractors, without the classes that resemble one of these categories.
    other = SHARED / "clip-vectors" / "caltech101"
    distractors = np.load(other / "test_f.f16.npy").astype(np.float32)
    paths = (other / "test_paths.txt").read_text().splitlines()
    keep = [i for i, path in enumerate(paths) if path.split("/")[0] not in _LIKE_CIFAR]
    vectors = np.vstack([vectors, distractors[keep]])
    truth, part = truth + [-1] * len(keep), part + [DISTRACTOR] * len(keep)
    prototypes = np.load(folder / "text10.f32.npy")
    return _vectors(sql, "CIFAR-10", "cifar", CIFAR10, prototypes, vectors, truth, part, limit)


_LIKE_CIFAR = {"airplanes", "car_side", "cougar_body", "cougar_face", "wild_cat", "Leopards", "dalmatian", "emu",
               "flamingo", "flamingo_head", "ibis", "pigeon", "rooster", "ketch", "schooner", "ferry"}  # fmt: skip


def _vectors(sql, name, table, categories, prototypes, vectors, truth, part, limit) -> Set:
    keep = _first(part, truth, limit)
    sql.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, embedding vector({vectors.shape[1]}))")
    copy(sql, f"{table} (id, embedding)", np.array(keep), vectors[keep])
    sql.execute(f"ANALYZE {table}")
    return Set(name, table, categories, prototypes, {i: truth[i] for i in keep}, {i: part[i] for i in keep})


def _photos(sql: psycopg.Connection, limit: int | None) -> Set:
    files = sorted((SHARED / "photos").glob("*/*.jpg"))
    categories = sorted({path.parent.name.replace("_", " ") for path in files})
    images = [(path, categories.index(path.parent.name.replace("_", " "))) for path in files]
    # Stamps serve as distractors: none of them is one of the photographs.
    images += [(path, -1) for path, _ in stamps()[1]] if PICTURES.exists() else []
    return _images(sql, "Photographs", "photos", categories, [(path.read_bytes(), c) for path, c in images], limit)


def _cifar_pixels(sql: psycopg.Connection, limit: int | None) -> Set:
    folder = SHARED / "clip-vectors" / "cifar10_500"
    pixels, truth = np.load(folder / "images.u8.npy"), np.load(folder / "test_y.i2.npy").tolist()
    images = [(_png(Image.fromarray(image)), c) for image, c in zip(pixels, truth)]
    return _images(sql, "CIFAR-10", "cifar_pixels", CIFAR10, images, limit)


def _stamps(sql: psycopg.Connection, limit: int | None) -> Set:
    categories, pictures = stamps()
    known = {path: categories.index(truth) for path, truth in pictures}
    paths = sorted(PICTURES.rglob("*.png"))
    images = [(path.read_bytes(), known.get(path, -1)) for path in paths]
    return _images(sql, "Stamps", "stamps", categories, images, limit)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _images(sql, name, table, categories, images, limit) -> Set:
    truth = [c for _, c in images]
    part = [LABELLED if c >= 0 else DISTRACTOR for c in truth]
    keep = _first(part, truth, limit)
    fill(sql, table, [images[i][0] for i in keep])
    sql.execute("CALL susx.embed_table(%s)", [table])
    (failed,) = sql.execute(f"SELECT count(*) FROM {table} WHERE embedding IS NULL").fetchone()
    if failed:
        raise ValueError(f"{failed} images of {name} could not be embedded")
    return Set(name, table, categories, None, {i: truth[k] for i, k in enumerate(keep)},
               {i: part[k] for i, k in enumerate(keep)}, "default model")  # fmt: skip


def _first(part: list[str], truth: list[int], limit: int | None) -> list[int]:
    """Indices of the rows to keep: equally many of every category and part, about `limit` in all."""
    if limit is None:
        return list(range(len(part)))
    most = max(1, limit // len(set(truth)))
    seen: dict[tuple[str, int], int] = {}
    keep = []
    for i, key in enumerate(zip(part, truth)):
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= (limit if key[1] < 0 else most):
            keep.append(i)
    return keep


# Name: (the folder that must exist, the function that loads it). Those of pairs are in pairs.py.
SETS = {
    "caltech": (SHARED / "clip-vectors" / "caltech101", _caltech),
    "cifar": (SHARED / "clip-vectors" / "cifar10_500", _cifar),
    "photos": (SHARED / "photos", _photos),
    "cifar_pixels": (SHARED / "clip-vectors" / "cifar10_500", _cifar_pixels),
    "stamps": (PICTURES, _stamps),
}

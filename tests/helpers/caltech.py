"""CLIP's published vectors of Caltech-101, and the formula in float64: the oracle in the shared folder."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np

from helpers.session import Session, vector
from helpers.shared import folder


class Caltech:
    def __init__(self) -> None:
        path = folder("clip-vectors") / "caltech101"
        self.oracle = _module(folder("reference") / "tip_x.py")
        names = [line.split("\t")[1] for line in (path / "text_subset_classes.tsv").read_text().splitlines()]
        ids = [int(line.split("\t")[0]) for line in (path / "text_subset_classes.tsv").read_text().splitlines()]
        self.categories = names
        place = {category: i for i, category in enumerate(ids)}
        self.prototypes = np.load(path / "text_subset.f32.npy")
        self.queries, self.labels = _part(path, "test", place)
        self.validation, self.validation_labels = _part(path, "val", place)
        self.support, self.support_labels = _part(path, "keys16", place)

    def load_queries(self, sql: Session) -> None:
        """test_vectors(id, embedding, truth), as a user would have them: not of unit length."""
        self._load(sql, "test_vectors", self.queries, self.labels)

    def load_validation(self, sql: Session) -> None:
        """validation_vectors(id, embedding, truth)."""
        self._load(sql, "validation_vectors", self.validation, self.validation_labels)

    def _load(self, sql: Session, table: str, features: np.ndarray, labels: np.ndarray) -> None:
        dimensions = self.prototypes.shape[1]
        sql.run(f"CREATE TABLE {table} (id int PRIMARY KEY, embedding vector({dimensions}), truth text)")
        rows = zip(range(len(features)), map(vector, features), (self.categories[y] for y in labels))
        sql.copy(table, ["id", "embedding", "truth"], rows)

    def create_classifier(self, sql: Session, name: str, rows: np.ndarray | None = None) -> None:
        """A classifier of the text vectors and, category by category, of these rows of the support."""
        sql.run(
            "SELECT susx.create_classifier(%s, %s, text_embeddings => %s::vector[])",
            name,
            self.categories,
            [vector(row) for row in self.prototypes],
        )
        rows = np.arange(len(self.support)) if rows is None else rows
        for place, category in enumerate(self.categories):
            own = [vector(self.support[i]) for i in rows if self.support_labels[i] == place]
            if own:
                assert sql.one("SELECT susx.add_support(%s, %s, %s::vector[])", name, category, own) == len(own)

    def terms(self, alpha: float, beta: float, gamma: float, rows: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The logits of every method, N x C, with the columns in the order of `categories`."""
        rows = np.arange(len(self.support)) if rows is None else rows
        unit = self.oracle.unit
        zero_shot, cache, kl = self.oracle.logits(
            unit(self.queries),
            unit(self.support[rows]),
            self.support_labels[rows],
            unit(self.prototypes),
            alpha,
            beta,
            gamma,
        )
        return {"zero-shot": zero_shot, "tip-adapter": zero_shot + cache, "tip-x": zero_shot + cache + kl}


class Part(Caltech):
    """The first categories and dimensions of Caltech's vectors: small enough for an oracle with a fit for every row."""

    def __init__(self, categories: int = 55, dimensions: int = 40) -> None:
        super().__init__()
        self.categories = self.categories[:categories]
        self.prototypes = self.prototypes[:categories, :dimensions]
        for features, labels in (("queries", "labels"), ("support", "support_labels")):
            own = getattr(self, labels) < categories
            setattr(self, features, getattr(self, features)[own, :dimensions])
            setattr(self, labels, getattr(self, labels)[own])


def _part(path: Path, name: str, place: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The rows of all classes that have a text vector, and their indices among these classes."""
    features, labels = np.load(path / f"{name}_f.f16.npy"), np.load(path / f"{name}_y.i2.npy")
    keep = np.isin(labels, list(place))
    return features[keep].astype(np.float32), np.array([place[y] for y in labels[keep]])


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("tip_x_oracle", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

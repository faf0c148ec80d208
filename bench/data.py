"""Random vectors with the structure of CLIP's, from a fixed seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Data:
    """Unit rows of float32. The support set is sorted by category; category sizes differ by one row at most."""

    prompts: np.ndarray  # C x d
    support: np.ndarray  # M x d
    labels: np.ndarray  # M, the categories of the support set
    queries: np.ndarray  # N x d
    truth: np.ndarray  # N, the categories of the queries

    @property
    def offsets(self) -> np.ndarray:
        """Where each category's rows begin, C."""
        return np.searchsorted(self.labels, np.arange(len(self.prompts)))

    def save(self, folder: Path) -> Path:
        for name in ("prompts", "support", "labels", "queries", "truth"):
            np.save(folder / f"{name}.npy", getattr(self, name))
        return folder

    @classmethod
    def load(cls, folder: Path) -> Data:
        """Loads what the library's program has drawn: its queries cycle through the categories."""
        parts = {name: np.load(folder / f"{name}.npy") for name in ("prompts", "support", "labels", "queries")}
        return cls(**parts, truth=np.arange(len(parts["queries"])) % len(parts["prompts"]))


def clip_like(seed: int, categories: int, rows: int, queries: int, dimensions: int, noise: float = 1.2) -> Data:
    """Prompts around one direction, and images around another one and their prompt, like CLIP's two cones. The less `noise`, the
    more alike are the images of a category."""
    random = np.random.default_rng(seed)

    def directions(count: int) -> np.ndarray:
        return random.standard_normal((count, dimensions), np.float32) / np.float32(dimensions**0.5)

    text, image = directions(2)
    prompts = _unit(text + 0.6 * directions(categories))
    centres = image + 0.5 * prompts + 0.5 * directions(categories)

    def images(labels: np.ndarray) -> np.ndarray:
        return _unit(centres[labels] + np.float32(noise) * directions(len(labels)))

    labels = np.arange(rows) * categories // rows
    truth = np.arange(queries) % categories
    return Data(prompts, images(labels), labels, images(truth), truth)


def _unit(rows: np.ndarray) -> np.ndarray:
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32, copy=False)

"""What stands in a classifier's table, for oracles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helpers.gda import unit
from helpers.session import Session, array


@dataclass(frozen=True)
class Stored:
    """Categories in their order, unit prompts (C x d), and unit support images (M x d) with their categories, and whether
    they are labelled (M)."""

    categories: list[str]
    names: np.ndarray
    support: np.ndarray
    labels: np.ndarray
    labelled: np.ndarray


def stored(sql: Session, name: str) -> Stored:
    """Of a classifier with one prompt per category."""
    rows = sql.rows(f"SELECT category, kind, origin, embedding::text FROM {name} ORDER BY id")
    prompts = {category: array(text) for category, kind, _, text in rows if kind == "prompt"}
    categories = list(prompts)
    images = [(categories.index(category), origin == "labelled", array(text)) for category, kind, origin, text in rows if kind == "image"]
    # In the order of the support set, which decides between equal neighbours.
    images.sort(key=lambda image: image[0])
    return Stored(
        categories,
        unit(list(prompts.values())),
        unit([image for *_, image in images]),
        np.array([category for category, *_ in images]),
        np.array([labelled for _, labelled, _ in images]),
    )


def stored_likeness(sql: Session, name: str) -> np.ndarray:
    """The unit likeness vectors of the support images (M x e), in the order of `stored`."""
    rows = sql.rows(f"SELECT category, kind, likeness::text FROM {name} ORDER BY id")
    categories = list(dict.fromkeys(category for category, kind, _ in rows if kind == "prompt"))
    images = [(categories.index(category), array(text)) for category, kind, text in rows if kind == "image"]
    images.sort(key=lambda image: image[0])
    return unit([likeness for _, likeness in images])

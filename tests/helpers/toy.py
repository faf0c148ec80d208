"""Small classifiers of vectors, whose scores can be worked out by hand."""

from __future__ import annotations

import numpy as np

from helpers.session import Session, vector


def create_compass(sql: Session, name: str = "compass") -> str:
    """Two dimensions and two categories: east (1, 0) and north (0, 1). Zero-shot only."""
    sql.run(
        "SELECT susx.create_classifier(%s, '{east,north}', text_embeddings => ARRAY['[1,0]', '[0,1]']::vector[])", name
    )
    return name


def create_random(sql: Session, name: str, categories: int, dimensions: int, per_class: int = 8, seed: int = 0) -> None:
    """Categories c00, c01 … with random prototypes, and support images scattered around them."""
    random = np.random.default_rng(seed)
    names = [f"c{i:02}" for i in range(categories)]
    prototypes = random.normal(size=(categories, dimensions))
    sql.run(
        "SELECT susx.create_classifier(%s, %s, text_embeddings => %s::vector[])",
        name,
        names,
        [vector(row) for row in prototypes],
    )
    for category, prototype in zip(names, prototypes):
        support = prototype + 1.5 * random.normal(size=(per_class, dimensions))
        sql.run("SELECT susx.add_support(%s, %s, %s::vector[])", name, category, [vector(row) for row in support])


def create_points(sql: Session, name: str, rows: int, dimensions: int, seed: int = 1) -> None:
    """A table (id, embedding) of random vectors."""
    random = np.random.default_rng(seed)
    sql.run(f"CREATE TABLE {name} (id int PRIMARY KEY, embedding vector({dimensions}))")
    sql.copy(name, ["id", "embedding"], ((i, vector(random.normal(size=dimensions))) for i in range(rows)))
    sql.run(f"ANALYZE {name}")

"""Images of none of the categories: small tables of them, and the formulas written out."""

from __future__ import annotations

import numpy as np

from helpers.session import Session, array, vector
from helpers.toy import create_compass

# To the south-east of the compass there is something else.
OTHER = "SELECT susx.add_negatives('compass', '{south-east}', ARRAY['[1,-1]']::vector[])"


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def known(queries: np.ndarray, names: np.ndarray, others: np.ndarray, scale: float) -> np.ndarray:
    """The formula in float64: of all names, what the categories have; without others, the best name's share."""
    of_names = scale * unit(queries) @ unit(names).T
    of_others = scale * unit(queries) @ unit(others).T if len(others) else np.zeros((len(queries), 0))
    top = np.hstack([of_names, of_others]).max(axis=1, keepdims=True)
    a, b = np.exp(of_names - top), np.exp(of_others - top)
    if not len(others):
        return a.max(axis=1) / a.sum(axis=1)
    return a.sum(axis=1) / (a.sum(axis=1) + b.sum(axis=1))


def otsu(numbers: np.ndarray) -> float:
    """Of 0.01 to 0.99, the threshold with the smallest variance within both sides; the lowest of several."""
    costs = []
    for step in range(1, 100):
        below = numbers < np.float32(step) / np.float32(100)
        sides = [numbers[below].astype(np.float64), numbers[~below].astype(np.float64)]
        costs.append(sum(((side - side.mean()) ** 2).sum() for side in sides if len(side)))
    costs = np.array(costs)
    return float((np.flatnonzero(costs <= costs.min() * (1 + 1e-9))[0] + 1) / 100)


def vectors(sql: Session, query: str) -> np.ndarray:
    return np.array([array(text) for text in sql.column(query)])


def add(sql: Session, name: str, names: list[str], embeddings: np.ndarray) -> int:
    return sql.one(
        "SELECT susx.add_negatives(%s, %s, %s::vector[])", name, names, [vector(row) for row in embeddings]
    )


def create_points_around_the_compass(sql: Session) -> None:
    """Two points of each category, one near the south-east, and one between the categories."""
    create_compass(sql)
    sql.run("""
        CREATE TABLE points (id bigint PRIMARY KEY, embedding vector(2), truth text);
        INSERT INTO points VALUES (1, '[1,0]', 'east'), (2, '[1,0.1]', 'east'), (3, '[0,1]', 'north'),
            (4, '[0.1,1]', 'north'), (5, '[1,-0.9]', 'east'), (6, '[1,0.99]', 'east')""")

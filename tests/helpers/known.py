"""Images of none of the categories: small tables of them, and the formulas written out."""

from __future__ import annotations

import numpy as np

from helpers.gda import unit
from helpers.session import Session, array, vector
from helpers.toy import create_compass

# To the south-east of the compass there is something else.
OTHER = "SELECT susx.add_negatives('compass', '{south-east}', ARRAY['[1,-1]']::vector[])"


def known(
    queries: np.ndarray,
    names: np.ndarray,
    others: np.ndarray,
    scale: float,
    probability: np.ndarray | None = None,
    support: np.ndarray | None = None,
    likeness: np.ndarray | float = 1.0,
) -> np.ndarray:
    """The formula in float64. Without a support set, the probability is the softmax of the names."""
    of_names = scale * unit(queries) @ unit(names).T
    if probability is None:
        shares = np.exp(of_names - of_names.max(axis=1, keepdims=True))
        probability = shares.max(axis=1) / shares.sum(axis=1)
    if not len(others):
        return probability if support is None else np.sqrt(probability * likeness)

    def odds(rows: np.ndarray) -> np.ndarray:
        """The logarithm of the odds that a row is nearer to the categories than to the others."""
        a, b = (scale * unit(rows) @ unit(to).T for to in (names, others))
        return np.log(np.exp(a).sum(axis=1)) - np.log(np.exp(b).sum(axis=1))

    exponent = odds(queries)
    if support is not None:
        low, middle, high = np.quantile(odds(support), [0.25, 0.5, 0.75])
        exponent = 1.35 * (exponent - middle) / (high - low) + 2
    return np.sqrt(probability * likeness / (1 + np.exp(-exponent)))


def otsu(numbers: np.ndarray) -> float:
    """Of 0.01 to 0.99, the threshold with the smallest variance within both sides, the middle of several; 0.5 if it
    explains less than 0.82 of the variance."""
    costs = []
    for step in range(1, 100):
        below = numbers < np.float32(step) / np.float32(100)
        sides = [numbers[below].astype(np.float64), numbers[~below].astype(np.float64)]
        costs.append(sum(((side - side.mean()) ** 2).sum() for side in sides if len(side)))
    costs, total = np.array(costs), ((numbers - numbers.mean(dtype=np.float64)) ** 2).sum()
    if total == 0 or 1 - costs.min() / total < 0.82:
        return 0.5
    best = np.flatnonzero(costs <= costs.min() + 1e-9 * total)
    return float((best[0] + (len(best) - 1) // 2 + 1) / 100)


def best_reject(of_categories: np.ndarray, of_none: np.ndarray) -> float:
    """Of 0 and the middles between neighbouring values, the threshold with the largest balanced accuracy: the smallest
    of several."""
    values = np.unique(np.concatenate([of_categories, of_none]))
    thresholds = np.append(0, (values[:-1] + values[1:]) / 2)
    kept = (of_categories[:, None] >= thresholds).sum(axis=0)
    rejected = (of_none[:, None] < thresholds).sum(axis=0)
    # In whole numbers, equal ones are equal.
    return float(thresholds[np.argmax(kept * len(of_none) + rejected * len(of_categories))])


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

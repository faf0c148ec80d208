"""How likely images are to show each category, written out row by row in float64."""

from __future__ import annotations

import numpy as np

NEUTRAL, THINGS, PENALTY = 10, 4, 1e-3


def unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float64)
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)


def regression(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Logistic regression by Newton's method, with a penalty on all weights but the last."""
    penalty = np.array([PENALTY, PENALTY, 0])
    weights = np.zeros(3)
    for _ in range(100):
        p = 1 / (1 + np.exp(-(x @ weights)))
        slope = x.T @ (p - y) / len(y) + penalty * weights
        curvature = (x * (p * (1 - p))[:, None]).T @ x / len(y) + np.diag(penalty)
        weights = weights - np.linalg.solve(curvature, slope)
    assert np.abs(slope).max() < 1e-9
    return weights


class Reading:
    """What a name or a look says of an image, comparable between images and names."""

    def __init__(self, cosines: np.ndarray, labels: np.ndarray):
        counts = np.array([np.sum(labels == label) for label in labels])
        self.weights = 1 / counts / len(set(labels.tolist()))
        self.usual = self.mean(cosines)
        self.square = self.mean((cosines - self.usual) ** 2).mean()
        standard = np.array([self.over_names(row) for row in cosines])
        self.means = self.mean(standard)
        self.deviations = np.maximum(np.sqrt(self.mean((standard - self.means) ** 2)), 1e-6)

    def mean(self, matrix: np.ndarray) -> np.ndarray:
        return (self.weights[:, None] * matrix).sum(axis=0)

    def over_names(self, cosines: np.ndarray) -> np.ndarray:
        """One image: standardised over the names and ten others that are as usual."""
        x = cosines - self.usual
        count = len(x) + NEUTRAL
        mean = x.sum() / count
        deviation = np.sqrt((((x - mean) ** 2).sum() + NEUTRAL * self.square) / (count - 1))
        return (x - mean) / deviation

    def __call__(self, cosines: np.ndarray) -> np.ndarray:
        return (self.over_names(cosines) - self.means) / self.deviations


class Tags:
    """`support` and `likeness` are rows sorted by category, `labels` their categories."""

    def __init__(self, names, negatives, support, labels, likeness=None):
        self.count, self.labels = len(names), np.asarray(labels, int)
        self.names = unit(np.vstack([names, negatives]) if len(negatives) else names)
        self.support = unit(support) if len(support) else np.zeros((0, self.names.shape[1]))
        self.likeness = self.support if likeness is None else unit(likeness)
        shown = sorted(set(self.labels.tolist()))
        if len(shown) < 2:
            self.reading = None
            return
        self.reading = Reading(self.support @ self.names.T, self.labels)
        self.looked = [c for c in range(self.count) if np.sum(self.labels == c) > 1]
        self.look = None
        if len(self.looked) > 1:
            self.look = Reading(np.array([self.look_cosines(row, [i]) for i, row in enumerate(self.likeness)]), self.labels)
        x, y = [], []
        for rows in self.pictures(shown):
            picture = unit(self.support[rows].sum(axis=0)), unit(self.likeness[rows].sum(axis=0))
            names, looks = self.both(*picture, rows)
            x += list(zip(names, looks))
            shows = set(self.labels[rows].tolist())
            y += [c in shows for c in range(self.count)]
        self.weights = regression(np.column_stack([np.array(x), np.ones(len(x))]), np.array(y, float))

    def pictures(self, shown: list[int]) -> list[list[int]]:
        """The support rows of made-up pictures, by Knuth's generator."""
        state = 1

        def below(count: int) -> int:
            nonlocal state
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            return (state >> 33) % count

        found = []
        for picture in range(min(1000, max(64, 2**20 // self.count))):
            chosen: list[int] = []
            while len(chosen) < 1 + picture % min(THINGS, len(shown)):
                category = shown[below(len(shown))]
                if category not in chosen:
                    chosen.append(category)
            found.append([int(np.flatnonzero(self.labels == c)[below(int(np.sum(self.labels == c)))]) for c in chosen])
        return found

    def look_cosines(self, image: np.ndarray, members: list[int]) -> np.ndarray:
        """With the mean of each category's images, those left out that the image is made of."""
        others = np.setdiff1d(np.arange(len(self.labels)), members)
        return np.array([
            unit(self.likeness[others[self.labels[others] == c]].sum(axis=0)) @ image for c in self.looked
        ])  # fmt: skip

    def both(self, image: np.ndarray, likeness: np.ndarray, members: list[int]) -> tuple[np.ndarray, np.ndarray]:
        names = self.reading(self.names @ image)[: self.count]
        looks = names.copy()
        if self.look is not None:
            looks[self.looked] = self.look(self.look_cosines(likeness, members))
        return names, looks

    def probabilities(self, image: np.ndarray, likeness: np.ndarray | None = None) -> np.ndarray:
        image = unit(image)
        if self.reading is None:
            x = self.names @ image
            if len(x) < 2:
                return np.ones(1)
            things = min(THINGS, len(x) / 2)
            threshold = np.sqrt((len(x) - 1) * (len(x) - things) / (len(x) * things)) / 2
            return 1 / (1 + np.exp(-3 * ((x - x.mean()) / x.std(ddof=1) - threshold)))[: self.count]
        names, looks = self.both(image, image if likeness is None else unit(likeness), [])
        return 1 / (1 + np.exp(-(self.weights @ np.array([names, looks, np.ones(self.count)]))))

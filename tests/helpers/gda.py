"""The discriminant in float64, written from its formula: the oracle of SQL's `gda`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def softmax(rows: np.ndarray) -> np.ndarray:
    e = np.exp(rows - rows.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def scale_of(cosines: np.ndarray, target: float) -> float:
    """The factor at which the mean of the largest share of the softmax is `target`."""
    low, high = np.log(1e-2), np.log(1e5)
    for _ in range(80):
        middle = (low + high) / 2
        if softmax(np.exp(middle) * cosines).max(axis=1).mean() < target:
            low = middle
        else:
            high = middle
    return float(np.exp(high))


@dataclass(frozen=True)
class Gda:
    names: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    spreads: tuple[float, float]
    reliability: np.ndarray
    gate: float
    factor: float
    lambda_: float

    @staticmethod
    def fit(
        names: np.ndarray,
        support: np.ndarray,
        categories: np.ndarray,
        labelled: np.ndarray,
        logit_scale: float,
        lambda_: float = 3.0,
        ridge: float = 3.0,
    ) -> Gda:
        """Of unit prototypes (C x d) and unit support rows (M x d) of these categories (M)."""
        count, dimensions = names.shape
        cosines = support @ names.T
        judges = cosines if labelled.all() else cosines[~labelled]
        scale = min(scale_of(judges, 0.7), 0.8 * logit_scale)
        own = softmax(scale * cosines)[np.arange(len(support)), categories]
        confidence = np.where(labelled, 1.0, own)
        overall = confidence @ support / confidence.sum()
        means = np.tile(overall, (count, 1))
        reliability = np.zeros(count)
        for c in set(categories.tolist()):
            mine = categories == c
            means[c] = confidence[mine] @ support[mine] / confidence[mine].sum()
            reliability[c] = confidence[mine].sum() / (mine.sum() + 4)
        apart = support - means[categories]
        scatter = (confidence[:, None] * apart).T @ apart
        variance = np.trace(scatter) / dimensions
        covariance = scatter / variance if variance > 1e-12 else np.zeros_like(scatter)
        weights = np.linalg.solve(covariance + ridge * np.eye(dimensions), means.T).T
        bias = -0.5 * (means * weights).sum(axis=1)
        spreads = (cosines.std(axis=1).mean(), (support @ weights.T + bias).std(axis=1).mean())
        gate = scale_of(judges, 0.9)
        trust = softmax(gate * cosines) @ reliability
        factor = logit_scale / (1 + lambda_ * trust.mean())
        return Gda(names, weights, bias, spreads, reliability, gate, factor, lambda_)

    def terms(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The names' and the support's part of every score, N x C each, of unit queries."""
        cosines = queries @ self.names.T
        z = cosines - cosines.mean(axis=1, keepdims=True)
        g = queries @ self.weights.T + self.bias
        g = (g - g.mean(axis=1, keepdims=True)) * self.spreads[0] / self.spreads[1]
        say = self.lambda_ * (softmax(self.gate * cosines) @ self.reliability)[:, None]
        return self.factor * (1 + say * (1 - self.reliability)) * z, self.factor * say * self.reliability * g

    def scores(self, queries: np.ndarray) -> np.ndarray:
        return sum(self.terms(queries))

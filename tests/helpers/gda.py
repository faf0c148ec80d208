"""The discriminant in float64, written from its formula, as the oracle for `gda` in SQL."""

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
    for _ in range(60):
        middle = (low + high) / 2
        if softmax(np.exp(middle) * cosines).max(axis=1).mean() < target:
            low = middle
        else:
            high = middle
    return float(np.exp(high))


def means_of(rows: np.ndarray, categories: np.ndarray, weights: np.ndarray, count: int, empty: np.ndarray) -> np.ndarray:
    """The weighted mean of every category; `empty` for one without rows of any weight."""
    means = np.tile(empty, (count, 1))
    for c in range(count):
        mine = categories == c
        if weights[mine].sum() >= 1e-9:
            means[c] = weights[mine] @ rows[mine] / weights[mine].sum()
    return means


def scatter_of(rows: np.ndarray, categories: np.ndarray, weights: np.ndarray, means: np.ndarray) -> np.ndarray:
    apart = rows - means[categories]
    return (weights[:, None] * apart).T @ apart


def discriminant(means: np.ndarray, scatter: np.ndarray, variance: float, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """w (C x d) and b (C) of Gaussians with these means and one covariance."""
    covariance = scatter / variance if variance > 1e-12 else np.zeros_like(scatter)
    w = np.linalg.solve(covariance + ridge * np.eye(len(scatter)), means.T).T
    return w, -0.5 * (means * w).sum(axis=1)


def left_out(
    rows: np.ndarray, categories: np.ndarray, weights: np.ndarray, count: int, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    """Centred discriminants (M x C) of every row by the fit without it, and whether its category has others (M): one
    that has not is worth the mean of the other categories. A fit for every row."""
    empty = weights @ rows / weights.sum()
    means = means_of(rows, categories, weights, count, empty)
    variance = np.trace(scatter_of(rows, categories, weights, means)) / rows.shape[1]
    scores, has_others = np.zeros((len(rows), count)), np.ones(len(rows), bool)
    for i, own in enumerate(categories):
        others = np.arange(len(rows)) != i
        rest = (rows[others], categories[others], weights[others])
        without = means_of(*rest, count, empty)
        w, b = discriminant(without, scatter_of(*rest, without), variance, ridge)
        scores[i] = rows[i] @ w.T + b
        if weights[others & (categories == own)].sum() < 1e-9:
            has_others[i] = False
            scores[i, own] = np.delete(scores[i], own).mean()
    return scores - scores.mean(axis=1, keepdims=True), has_others


def agreement(
    rows: np.ndarray,
    categories: np.ndarray,
    labelled: np.ndarray,
    weights: np.ndarray,
    cosines: np.ndarray,
    logit_scale: float,
    ridge: float,
) -> np.ndarray:
    """How far the names and the discriminant without each row give it, together, its own category."""
    if labelled.all() or len(set(categories.tolist())) < 2:
        return np.ones(len(rows))
    g, has_others = left_out(rows, categories, weights, cosines.shape[1], ridge)
    g *= cosines.std(axis=1).mean() / g.std(axis=1).mean()
    both = softmax(2 * logit_scale * (cosines + g))[np.arange(len(rows)), categories]
    return np.where(labelled | ~has_others, 1.0, both)


@dataclass(frozen=True)
class Gda:
    names: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    spreads: tuple[float, float]
    shift: np.ndarray
    reliability: np.ndarray
    gate: float
    factor: float
    lambda_: float
    # Probability that every support row shows its category, M.
    trust: np.ndarray

    @staticmethod
    def fit(
        names: np.ndarray,
        support: np.ndarray,
        categories: np.ndarray,
        labelled: np.ndarray,
        logit_scale: float,
        lambda_: float = 2.0,
        ridge: float = 3.0,
    ) -> Gda:
        """Of unit prototypes (C x d) and unit support rows (M x d) of these categories (M)."""
        count, dimensions = names.shape
        cosines = support @ names.T
        judges = cosines if labelled.all() else cosines[~labelled]
        scale = min(scale_of(judges, 0.7), 0.8 * logit_scale)
        own = softmax(scale * cosines)[np.arange(len(support)), categories]
        confidence = np.where(labelled, 1.0, own)
        agrees = agreement(support, categories, labelled, confidence, cosines, logit_scale, ridge)
        row_weights = confidence * agrees
        means = means_of(support, categories, row_weights, count, row_weights @ support / row_weights.sum())
        scatter = scatter_of(support, categories, row_weights, means)
        weights, bias = discriminant(means, scatter, np.trace(scatter) / dimensions, ridge)
        probability = softmax(logit_scale * cosines)[np.arange(len(support)), categories]
        trust = np.where(labelled, 1.0, probability) * agrees
        reliability = np.bincount(categories, trust, minlength=count) / (np.bincount(categories, minlength=count) + 4)
        spreads = (cosines.std(axis=1).mean(), (support @ weights.T + bias).std(axis=1).mean())
        unsettled = (~labelled).mean() * min(1.0, 2 * (1 - trust.mean()))
        shift = np.zeros(count)
        # It is a fit for every row.
        if unsettled > 0:
            preferred, _ = left_out(support, categories, row_weights, count, ridge)
            shift = unsettled * preferred.mean(axis=0) * spreads[0] / spreads[1]
        lambda_ = lambda_ * min(4, (2 / (logit_scale * spreads[0])) ** 2)
        gate = scale_of(judges, 0.9)
        return Gda(names, weights, bias, spreads, shift, reliability, gate, 1.75 * logit_scale, lambda_, trust)

    def terms(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The names' and the support's part of every score, N x C each, of unit queries."""
        cosines = queries @ self.names.T
        z = cosines - cosines.mean(axis=1, keepdims=True)
        g = queries @ self.weights.T + self.bias
        g = (g - g.mean(axis=1, keepdims=True)) * self.spreads[0] / self.spreads[1] - self.shift
        say = self.lambda_ * (softmax(self.gate * cosines) @ self.reliability)[:, None] ** 3
        return self.factor * z / (1 + say), self.factor * say * g / (1 + say)

    def scores(self, queries: np.ndarray) -> np.ndarray:
        return sum(self.terms(queries))

"""Gated TIP-X in float64, written from its formulas, as the oracle for `gated-tip-x` in SQL."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helpers.gda import Gda, softmax


@dataclass(frozen=True)
class Params:
    logit_scale: float
    alpha: float
    beta: float
    gamma: float
    temperature: float


class TipX:
    """TIP-X as its formula reads, with the scale of the KL term from the pairs of support rows."""

    def __init__(self, names: np.ndarray, support: np.ndarray, categories: np.ndarray, params: Params):
        self.names, self.support, self.params = names, support, params
        self.one_hot = np.eye(len(names))[categories]
        self.counts = self.one_hot.sum(axis=0)
        self.log_q = self._log_distribution(support)
        others = ~np.eye(len(support), dtype=bool)
        affinity = (support @ support.T)[others]
        divergence = self._divergences(support)[others]
        self.a = np.ptp(affinity) / np.ptp(divergence)
        self.b = affinity.min() - self.a * divergence.min()

    def _log_distribution(self, rows: np.ndarray) -> np.ndarray:
        return np.log(softmax(rows @ self.names.T / self.params.temperature))

    def _divergences(self, queries: np.ndarray) -> np.ndarray:
        """KL(p || q_i), N x M."""
        log_p = self._log_distribution(queries)
        p = np.exp(log_p)
        return (p * log_p).sum(axis=1)[:, None] - p @ self.log_q.T

    def terms(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The cache and the KL term, N x C; 0 for a category without support."""
        balance = self.counts.mean() / np.maximum(self.counts, 1)
        sharpened = np.exp(-self.params.beta * (1 - queries @ self.support.T))
        scaled = self.a * self._divergences(queries) + self.b
        return (
            self.params.alpha * (sharpened @ self.one_hot) * balance,
            -self.params.gamma * (scaled @ self.one_hot) * balance,
        )


@dataclass(frozen=True)
class Gated:
    tip_x: TipX
    sharpness: float
    # Of the categories, C.
    mean: np.ndarray
    spread: np.ndarray
    unlabelled: np.ndarray
    reliability: np.ndarray
    claimed: np.ndarray
    absent: np.ndarray
    known: tuple[float, float]

    @staticmethod
    def fit(
        names: np.ndarray, support: np.ndarray, categories: np.ndarray, labelled: np.ndarray, params: Params, ridge: float = 3
    ) -> Gated:
        """Of unit prototypes (C x d) and unit support rows (M x d) of these categories (M): at most 32 categories, of at
        most 64 rows each, so that all rows may be neighbours."""
        rows, counts = np.arange(len(support)), np.bincount(categories, minlength=len(names))
        discriminant = Gda.fit(names, support, categories, labelled, params.logit_scale, ridge=ridge)

        def mean(values: np.ndarray) -> np.ndarray:
            return np.bincount(categories, values, minlength=len(names)) / np.maximum(counts, 1)

        own = (support @ names.T)[rows, categories]
        within = ((own - mean(own)[categories]) ** 2).sum()
        variance = (within + (counts > 0).sum() * own.var()) / len(support)
        spread = max(variance**0.5, 1e-6) * (1 + 1 / np.maximum(counts, 1)) ** 0.5
        unlabelled = mean((~labelled).astype(float))

        affinities = support @ support.T
        np.fill_diagonal(affinities, -np.inf)
        nearest = np.argsort(-affinities, axis=1, kind="stable")[:, : len(support) - 1]

        def votes(row: int, count: int) -> tuple[int, int, int]:
            """For the row's category with the row's own vote, for the strongest other one, and which that is."""
            found = np.bincount(categories[nearest[row, :count]], minlength=len(names))
            mine = found[categories[row]] + 1
            found[categories[row]] = 0
            rival = max(range(len(names)), key=lambda c: (found[c], counts[c] if found[c] else 0, -c))
            return mine, found[rival], rival

        agreement, claim = np.ones(len(support)), np.zeros(len(support))
        for row in rows[~labelled]:
            mine, others, _ = votes(row, 5)
            agreement[row] = mine / (mine + others)
        reliability = mean(discriminant.trust * agreement)
        for row in rows[~labelled]:
            mine, others, rival = votes(row, 16)
            if others > mine:
                smaller = max(0, 1 - counts[categories[row]] / counts[rival])
                claim[row] = (others - mine) / 15 * smaller * min(1, reliability[rival] / 0.5)
        of_all = min(1, (reliability * counts).sum() / len(support) / 0.5)
        usual = (counts**2).sum() / len(support)
        return Gated(
            TipX(names, support, categories, params),
            discriminant.gate,
            mean(own),
            spread,
            unlabelled,
            reliability,
            np.where(counts > 0, mean(claim), of_all),
            (counts == 0) | ((counts < 0.15 * usual) & (unlabelled > 0)),
            tuple(np.quantile(affinities.max(axis=1), [0.35, 0.9])),
        )

    def gates(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """g, V and rho of unit queries, N each."""
        cosines = queries @ self.tip_x.names.T
        share = softmax(self.sharpness * cosines)
        novelty = 1 / (1 + np.exp(-np.clip(((cosines - self.mean) / self.spread - 1) / 0.3, -40, 40)))
        familiar = share * (1 - self.unlabelled * novelty)
        familiarity, trust = familiar.sum(axis=1), familiar @ self.reliability
        return familiarity**4 * np.minimum(1, trust / 0.5) ** 2, familiarity, trust

    def likeness(self, queries: np.ndarray) -> np.ndarray:
        """How close unit queries are to the names that they may be of, beside the support images, N."""
        cosines = queries @ self.tip_x.names.T
        supported = self.tip_x.counts > 0
        mean = np.where(supported, self.mean, self.mean[supported].mean())
        unlike = np.exp(-np.clip(((cosines - mean) / self.spread + 2) / 0.5, -40, 40))
        return (softmax(self.sharpness * cosines) / (1 + unlike)).sum(axis=1)

    def terms(self, queries: np.ndarray) -> dict[str, np.ndarray]:
        """The terms of the logits, N x C each, of unit queries."""
        gate, *_ = self.gates(queries)
        cache, kl = self.tip_x.terms(queries)
        best = np.where(self.absent, -np.inf, cache + kl).argmax(axis=1)
        every = np.arange(len(queries))
        for term, less in ((cache, 0.5), (kl, 0)):
            term[:, self.absent] = (term[every, best] - less)[:, None]
        low, high = self.known
        likeness = (queries @ self.tip_x.support.T).max(axis=1)
        known = np.clip((likeness - low) / max(high - low, 1e-3), 0, 1)
        return {
            "zero_shot": self.tip_x.params.logit_scale * queries @ self.tip_x.names.T,
            "cache": gate[:, None] * cache,
            "kl": gate[:, None] * kl,
            "claims": -5 * known[:, None] * self.claimed,
        }

    def scores(self, queries: np.ndarray) -> np.ndarray:
        return sum(self.terms(queries).values())

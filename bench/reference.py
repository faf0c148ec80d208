"""TIP-X in NumPy and float32: a literal reading of the published code, and the fastest code that we could write.

The published code (github.com/vishaal27/SuS-X, tipx.py) takes the scale of the KL term, `a KL + b`, from the batch;
susx freezes it. Comparisons of results use the frozen scale; timed runs compute their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .data import Data

Scale = tuple[float, float]


@dataclass(frozen=True)
class Params:
    alpha: float
    beta: float
    gamma: float
    temperature: float
    logit_scale: float


CLIP = Params(alpha=1.0, beta=5.5, gamma=3.0, temperature=0.5, logit_scale=100.0)


class Published:
    """The published code, with its own names."""

    def __init__(self, data: Data, params: Params):
        self.data, self.params = data, params
        self.one_hot = np.zeros((len(data.labels), len(data.prompts)), np.float32)
        # The published code has ones here, because its categories have equally many images, so n / n_c is 1.
        counts = np.bincount(data.labels, minlength=len(data.prompts))
        self.one_hot[np.arange(len(data.labels)), data.labels] = (counts.mean() / counts)[data.labels]
        self.train_distribution = self.distribution(data.support)

    def distribution(self, features: np.ndarray) -> np.ndarray:
        cosines = features @ self.data.prompts.T / np.float32(self.params.temperature)
        cosines = np.exp(cosines - cosines.max(1, keepdims=True))
        return cosines / cosines.sum(1, keepdims=True)

    def kl_divs_sim(self, queries: np.ndarray) -> np.ndarray:
        """KL of every query and support image, N x M. Takes the logarithms of M x C numbers for every query."""
        kl = np.empty((len(queries), len(self.data.support)), np.float32)
        q = self.train_distribution
        for i, p in enumerate(self.distribution(queries)):
            kl[i] = (p * (np.log(p) - np.log(q))).sum(-1)
        return kl

    def affinity(self, queries: np.ndarray) -> np.ndarray:
        return queries @ self.data.support.T

    def cache_logits(self, affinity: np.ndarray, beta: float) -> np.ndarray:
        beta = np.float32(beta)
        return np.exp(-(beta - beta * affinity)) @ self.one_hot

    def kl_logits(self, kl: np.ndarray, affinity: np.ndarray, frozen: Scale | None = None) -> np.ndarray:
        if frozen is None:
            y = (kl - kl.min()) / (kl.max() - kl.min())
            y *= affinity.max() - affinity.min()
            y += affinity.min()
        else:
            y = np.float32(frozen[0]) * kl + np.float32(frozen[1])
        return -y @ self.one_hot

    def clip_logits(self, queries: np.ndarray) -> np.ndarray:
        return np.float32(self.params.logit_scale) * (queries @ self.data.prompts.T)

    def logits(self, queries: np.ndarray, kl: np.ndarray, frozen: Scale | None = None) -> np.ndarray:
        """Everything but the KL divergences themselves."""
        affinity = self.affinity(queries)
        logits = self.clip_logits(queries)
        if self.params.alpha:
            logits += self.cache_logits(affinity, self.params.beta) * np.float32(self.params.alpha)
        if self.params.gamma:
            logits += self.kl_logits(kl, affinity, frozen) * np.float32(self.params.gamma)
        return logits


class Best:
    """The same logits from one matrix product, in-place arithmetic, segment sums, and the collapsed KL term.

    The constructor computes everything that does not depend on the queries: it multiplies `beta` into the support set,
    and the weights of the terms into their constants. With `folded=False`, `beta` stays in the timed part.
    """

    def __init__(self, data: Data, params: Params, frozen: Scale, folded: bool = True):
        self.data, self.params, self.folded = data, params, folded
        counts = np.bincount(data.labels, minlength=len(data.prompts))
        self.offsets = data.offsets
        beta = np.float32(params.beta)
        self.beta = beta
        self.support = (data.support * beta if folded else data.support).T
        weight = params.alpha * counts.mean() / counts * (np.exp(-params.beta) if folded else 1.0)
        self.cache_weight = weight.astype(np.float32)

        weights, temperature = data.prompts.astype(np.float64), params.temperature
        phi = np.stack([rows.mean(0, dtype=np.float64) for rows in np.split(data.support, self.offsets[1:])])
        cosines = data.support.astype(np.float64) @ weights.T / temperature
        lse = np.log(np.exp(cosines).sum(1))
        lambdas = np.add.reduceat(lse, self.offsets) / counts
        centre = phi.mean(0)
        self.centre_lambda = lambdas.mean()
        self.centre_log_q = (weights @ centre / temperature).astype(np.float32)
        a, b = frozen
        self.kl_weight = params.gamma * counts.mean()
        self.a, self.b = a, b
        self.phi = (self.kl_weight * a * (phi - centre) / temperature).T.astype(np.float32)
        self.lambdas = (self.kl_weight * a * (lambdas - self.centre_lambda)).astype(np.float32)

    def logits(self, queries: np.ndarray, block: int) -> np.ndarray:
        if block >= len(queries):
            return self._logits(queries)
        return np.concatenate([self._logits(queries[i : i + block]) for i in range(0, len(queries), block)])

    def _logits(self, queries: np.ndarray) -> np.ndarray:
        affinity = queries @ self.support
        if not self.folded:
            affinity -= 1
            affinity *= self.beta
        np.exp(affinity, out=affinity)
        cache = np.add.reduceat(affinity, self.offsets, axis=1)
        cache *= self.cache_weight

        logits = queries @ self.data.prompts.T
        scaled = logits * np.float32(1 / self.params.temperature)
        p = np.exp(scaled)
        total = p.sum(1, dtype=np.float32)
        p /= total[:, None]
        scaled -= self.centre_log_q
        # One number per query in float64, which all its KL divergences share.
        shared = np.einsum("nc,nc->n", p, scaled) - np.log(total.astype(np.float64)) + self.centre_lambda
        kl = (p @ self.data.prompts) @ self.phi
        kl -= self.lambdas
        kl -= (self.kl_weight * (self.a * shared + self.b)).astype(np.float32)[:, None]

        logits *= np.float32(self.params.logit_scale)
        logits += cache
        logits += kl
        return logits

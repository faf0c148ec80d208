"""Likeness in float64, written from its formulas, as the oracle for `likeness` in SQL: names by one encoder (x), likeness
between images by another (y)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helpers.gda import discriminant, means_of, scale_of, scatter_of, softmax

# How sharp the cache is, in standard deviations of the affinities of support rows.
SHARP = 0.2
# Rows of a category that are as much as what is known beforehand.
DOUBT = 4.0


@dataclass(frozen=True)
class Params:
    logit_scale: float
    # Twice the weight of the likeness beside the names, as a multiple of the spread of their logits.
    lambda_: float
    ridge: float


def centred(rows: np.ndarray) -> np.ndarray:
    return rows - rows.mean(axis=1, keepdims=True)


def left_out(rows, categories, weights, count, ridge):
    """As helpers.gda.left_out (tested against it), by a change of rank one of the inverse in place of a fit for every row;
    not centred. Scores (M x C), and whether the row's category has others (M)."""
    every, d = np.arange(len(rows)), rows.shape[1]
    means = means_of(rows, categories, weights, count, weights @ rows / weights.sum())
    scatter = scatter_of(rows, categories, weights, means)
    variance = np.trace(scatter) / d
    inverse = np.linalg.inv((scatter / variance if variance > 1e-12 else 0 * scatter) + ridge * np.eye(d))
    total = np.bincount(categories, weights, minlength=count)
    rest = total[categories] - weights
    others = rest >= 1e-9
    apart = rows - means[categories]
    moved = apart @ inverse
    by_mean, scores, squares = moved @ means.T, rows @ inverse @ means.T, np.einsum("cd,cd->c", means @ inverse, means)
    along, own = (rows * moved).sum(axis=1), (apart * moved).sum(axis=1)
    step = np.where(others, weights / np.where(others, rest, 1), 0)
    factor = step * total[categories] / variance if variance > 1e-12 else 0 * step
    factor = factor / (1 - factor * own)
    without = scores + (factor * along)[:, None] * by_mean - 0.5 * (squares + factor[:, None] * by_mean**2)
    mine = by_mean[every, categories]
    new = mine - step * own
    without[every, categories] = (
        scores[every, categories] - step * along + factor * along * new
        - 0.5 * (squares[categories] - 2 * step * mine + step**2 * own + factor * new**2)
    )  # fmt: skip
    for i in np.flatnonzero(~others):
        rival = np.arange(count) != categories[i]
        without[i, categories[i]] = without[i, rival].mean() if rival.any() else 0.0
    return without, others


@dataclass(frozen=True)
class Likeness:
    params: Params
    names: np.ndarray
    support: np.ndarray
    likeness: np.ndarray
    categories: np.ndarray
    labelled: np.ndarray
    counts: np.ndarray
    # As in Gated.
    sharpness: float
    mean: np.ndarray
    spread: np.ndarray
    unlabelled: np.ndarray
    reliability: np.ndarray
    claimed: np.ndarray
    absent: np.ndarray
    known: tuple[float, float]
    # Of the likeness: weights of the rows (M), mean and standard deviation of the affinities of pairs of rows, the
    # discriminant, and what the cache and the discriminant are multiplied by.
    weights: np.ndarray
    affinity: tuple[float, float]
    discriminant: tuple[np.ndarray, np.ndarray]
    factors: tuple[float, float]
    # The cache and the discriminant of every row by the fit without it, times the factors: M x C each.
    without: tuple[np.ndarray, np.ndarray]
    # What the claims are multiplied by.
    trusted: float

    @staticmethod
    def fit(names, support, likeness, categories, labelled, params: Params) -> Likeness:
        """Of unit names (C x d), unit support rows (M x d) of these categories (M), and their unit likeness (M x e)."""
        rows, count, total = np.arange(len(support)), len(names), len(support)
        counts = np.bincount(categories, minlength=count)
        usual = (counts**2).sum() / total
        cosines = support @ names.T
        own = cosines[rows, categories]
        judges = cosines if labelled.all() else cosines[~labelled]
        probability = np.where(labelled, 1.0, softmax(params.logit_scale * cosines)[rows, categories])

        def mean(values):
            return np.bincount(categories, values, minlength=count) / np.maximum(counts, 1)

        # What Gda has: the confidence, and the agreement of the names with the discriminant, here by likeness.
        confidence = softmax(min(scale_of(judges, 0.7), 0.8 * params.logit_scale) * cosines)[rows, categories]
        confidence = np.where(labelled, 1.0, confidence)
        agrees = np.ones(total)
        if not labelled.all() and (counts > 0).sum() >= 2:
            g, others = left_out(likeness, categories, confidence, count, params.ridge)
            g = centred(g) * cosines.std(axis=1).mean() / max(g.std(axis=1).mean(), 1e-12)
            both = softmax(2 * params.logit_scale * (cosines + g))[rows, categories]
            agrees = np.where(labelled | ~others, 1.0, both)

        # What Gated has, with neighbours by likeness.
        within = ((own - mean(own)[categories]) ** 2).sum()
        variance = (within + (counts > 0).sum() * own.var()) / total
        affinities = likeness @ likeness.T
        pairs = affinities[~np.eye(total, dtype=bool)]
        np.fill_diagonal(affinities, -np.inf)
        nearest = np.argsort(-affinities, axis=1, kind="stable")[:, : total - 1]

        def votes(row, number):
            found = np.bincount(categories[nearest[row, :number]], minlength=count)
            mine = found[categories[row]] + 1
            found[categories[row]] = 0
            rival = max(range(count), key=lambda c: (found[c], counts[c] if found[c] else 0, -c))
            return mine, found[rival], rival

        agreement, claim = np.ones(total), np.zeros(total)
        for row in rows[~labelled]:
            mine, rivals, _ = votes(row, 5)
            agreement[row] = mine / (mine + rivals)
        reliability = mean(probability * agrees * agreement)
        for row in rows[~labelled]:
            mine, rivals, rival = votes(row, 16)
            if rivals > mine:
                smaller = max(0, 1 - counts[categories[row]] / counts[rival])
                claim[row] = (rivals - mine) / 15 * smaller * min(1, reliability[rival] / 0.5)
        of_all = (reliability * counts).sum() / total
        unlabelled = mean((~labelled).astype(float))
        absent = (counts == 0) | ((counts < 0.15 * usual) & (unlabelled > 0))

        # The likeness. Both parts get the same spread over the support rows without themselves, that of the names' logits.
        weights = probability
        affinity = (pairs.mean(), max(pairs.std(), 0.01)) if total > 1 else (0.0, 1.0)
        means = means_of(likeness, categories, weights, count, weights @ likeness / weights.sum())
        scatter = scatter_of(likeness, categories, weights, means)
        w, bias = discriminant(means, scatter, np.trace(scatter) / likeness.shape[1], params.ridge)
        one_hot = weights[:, None] * np.eye(count)[categories]

        def cache(affinities, less=0):
            kernel = np.exp(SHARP * (affinities - affinity[0]) / affinity[1])
            return kernel @ one_hot / np.maximum(one_hot.sum(axis=0) - less, 1e-9)

        def spread_of(part):
            """Among the categories with support: the names without any do not count."""
            return part[:, counts > 0].std(axis=1).mean()

        loo, others = left_out(likeness, categories, weights, count, params.ridge)
        parts = [cache(affinities, one_hot), loo]
        # A category of one row has nothing without it; where there are no others, the rows judge themselves.
        judged = parts
        if not others.any():
            others, judged = ~others, [cache(likeness @ likeness.T), likeness @ w.T + bias]
        spreads = [spread_of(part[others]) for part in judged]
        share = of_all * usual / (usual + DOUBT)
        size = params.lambda_ / 2 * usual / (usual + DOUBT) * params.logit_scale * cosines.std(axis=1).mean()
        factors = np.array([s * size / spread if spread > 1e-9 else 0.0 for s, spread in zip((1 - share, share), spreads)])
        # How often the likeness alone finds a row's category without it, beyond chance: 0 if this encoder tells nothing.
        beyond = 1.0
        several = np.flatnonzero(counts[categories] > 1)
        if len(several) and usual < total:
            alone = np.where(counts > 0, factors[0] * parts[0] + factors[1] * parts[1], -np.inf)[several].argmax(axis=1)
            chance = usual / total
            share_right = (alone == categories[several]).mean()
            # With its standard error, so that few rows do not condemn it.
            share_right += (share_right * (1 - share_right) / len(several)) ** 0.5
            beyond = (share_right - chance) / (1 - chance)
        beyond = max(0.0, beyond)
        factors = min(1, beyond / 0.5) ** 2 * factors
        return Likeness(
            params, names, support, likeness, categories, labelled, counts,
            scale_of(judges, 0.9),
            mean(own),
            max(variance**0.5, 1e-6) * (1 + 1 / np.maximum(counts, 1)) ** 0.5,
            unlabelled,
            reliability,
            # Labels are no claims.
            np.where(counts > 0, mean(claim), min(1, of_all / 0.5)) * (not labelled.all()),
            absent,
            tuple(np.quantile(affinities.max(axis=1), [0.35, 0.9])) if total > 1 else (0.0, 1.0),
            weights,
            affinity,
            (w, bias),
            factors,
            tuple(factor * part for factor, part in zip(factors, parts)),
            min(1, beyond / 0.25),
        )  # fmt: skip

    def gates(self, queries):
        """g, V and rho of unit queries by names, N each."""
        cosines = queries @ self.names.T
        share = softmax(self.sharpness * cosines)
        novelty = 1 / (1 + np.exp(-np.clip(((cosines - self.mean) / self.spread - 1) / 0.3, -40, 40)))
        familiar = share * (1 - self.unlabelled * novelty)
        familiarity, trust = familiar.sum(axis=1), familiar @ self.reliability
        return familiarity**4 * np.minimum(1, trust / 0.5) ** 2, familiarity, trust

    def familiar(self, nearest):
        """How like a support row, by the affinity to the nearest one: 0 to 1."""
        low, high = self.known
        if self.labelled.all():
            return np.zeros(len(nearest))
        return np.clip((nearest - low) / max(high - low, 1e-3), 0, 1)

    def lend(self, cache, discriminant):
        """Both centred among the categories with support, and an absent category with the terms of the best of the others,
        less a half."""
        supported = self.counts > 0
        cache = cache - cache[:, supported].mean(axis=1, keepdims=True)
        discriminant = discriminant - discriminant[:, supported].mean(axis=1, keepdims=True)
        if self.absent.all():
            return 0 * cache, 0 * discriminant
        best = np.where(self.absent, -np.inf, cache + discriminant).argmax(axis=1)
        every = np.arange(len(cache))
        cache[:, self.absent] = (cache[every, best] - 0.5)[:, None]
        discriminant[:, self.absent] = discriminant[every, best][:, None]
        return cache, discriminant

    def terms(self, queries, likeness):
        """The terms of the logits, N x C each, of unit queries and their unit likeness."""
        gate, *_ = self.gates(queries)
        affinities = likeness @ self.likeness.T
        one_hot = self.weights[:, None] * np.eye(len(self.names))[self.categories]
        kernel = np.exp(SHARP * (affinities - self.affinity[0]) / self.affinity[1])
        cache = kernel @ one_hot / np.maximum(one_hot.sum(axis=0), 1e-9)
        w, bias = self.discriminant
        cache, g = self.lend(self.factors[0] * cache, self.factors[1] * (likeness @ w.T + bias))
        return {
            "zero_shot": self.params.logit_scale * queries @ self.names.T,
            "cache": gate[:, None] * cache,
            "discriminant": gate[:, None] * g,
            "claims": -5 * self.trusted * self.familiar(affinities.max(axis=1))[:, None] * self.claimed,
        }

    def scores(self, queries, likeness):
        return sum(self.terms(queries, likeness).values())

    def evidence(self, queries, likeness):
        gate, *_ = self.gates(queries)
        return gate * (1 + self.familiar((likeness @ self.likeness.T).max(axis=1)))

    def sharpness_of_logits(self) -> tuple[float, float]:
        """k and t of the factor k / (1 + t g (1 + h)): as in sharpness.rs, but for the accuracy that is expected."""
        count = len(self.names)
        many = np.log(1000 / count) / np.log(100)
        names = 1 + 0.3 * min(1, max(0, many))
        rows = np.flatnonzero(self.counts[self.categories] > 1)
        if not len(rows):
            return names, 0.0
        own, labelled = self.categories[rows], self.labelled[rows]
        affinities = self.likeness @ self.likeness.T
        np.fill_diagonal(affinities, -np.inf)
        nearest = affinities.max(axis=1)[rows]
        gate, *_ = self.gates(self.support[rows])
        support = sum(self.lend(*(part[rows] for part in self.without)))
        zero_shot = self.params.logit_scale * self.support[rows] @ self.names.T
        familiar = self.familiar(nearest)
        logits = zero_shot + gate[:, None] * support - 5 * self.trusted * familiar[:, None] * self.claimed
        confidence = softmax(names * zero_shot).max(axis=1)
        evidence = gate * (1 + familiar)

        def expected():
            """The accuracy that is expected of rows like these. The fit without a labelled row is right as often as it is.
            Without labels it is a mean of what names and likeness together keep, and of how sure the names are."""
            right = logits.argmax(axis=1) == own
            total = 0.0
            if labelled.any():
                share, sure = right[labelled].mean(), confidence[labelled].mean()
                least = sure - (sure * (1 - sure) / labelled.sum()) ** 0.5
                total += labelled.sum() * max(share, least)
            if not labelled.all():
                weight = 1 - self.claimed[own[~labelled]]
                share = (weight * right[~labelled]).sum() / weight.sum() if weight.sum() > 0 else 0.0
                total += (~labelled).sum() * (share + confidence[~labelled].mean()) / 2
            return total / len(rows)

        def sure(k, t):
            return softmax((k / (1 + t * evidence))[:, None] * logits).max(axis=1).mean()

        def bisect(low, high, below):
            for _ in range(40):
                middle = (low + high) / 2
                low, high = (middle, high) if below(middle) else (low, middle)
            return (low + high) / 2

        accuracy = expected()
        if sure(names, 0) >= accuracy:
            return names, bisect(1e-3, 20, lambda t: sure(names, t) > accuracy)
        return bisect(names, 2.6, lambda k: sure(k, 0) < accuracy), 0.0

    def probabilities(self, queries, likeness):
        k, t = self.sharpness_of_logits()
        return softmax((k / (1 + t * self.evidence(queries, likeness)))[:, None] * self.scores(queries, likeness))

"""The search for alpha, beta and gamma: the library against the published loop."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from .data import clip_like
from .library import Library
from .reference import CLIP, Published
from .report import Disagreement, Section, faster
from .timing import alternate, seconds

ALPHAS = [i * (50 - 0.1) / 20 + 0.1 for i in range(20)]
BETAS = [i * (50 - 1) / 200 + 1 for i in range(200)]
GAMMAS = [i * (30 - 0.1) / 50 + 0.1 for i in range(50)]

TEXT = """\
This searches the published grid of 20 × 200 × 50 = 200,000 triples of alpha, beta and gamma. The library also searches
alpha = 0 and gamma = 0. The published code loops over alpha, beta and gamma, with alpha outermost. For each (alpha, beta)
it computes affinities, `exp`, the scale of the KL term and three matrix products; for each gamma, the sum of the three
terms and the accuracy (here with `argmax`, which is faster than its top-5). In the second row, the reference precomputes
affinities and KL divergences and computes all terms for each triple. Both are timed on a part of the grid and extrapolated."""


def measure(library: Library, folder: Path, quick: bool) -> Section:
    categories, rows, queries, dimensions, part = (8, 36, 40, 64, 6) if quick else (55, 900, 900, 512, 30)
    data = clip_like(2, categories, rows, queries, dimensions)
    data.save(folder)
    scale = library.do("fit", name="tune", folder=folder, params=asdict(CLIP))["affinity_scale"]
    published = Published(data, CLIP)
    kl = published.kl_divs_sim(data.queries)
    affinity = published.affinity(data.queries)
    sizes = f"N = {queries:,}, M = {rows:,}, C = {categories}, d = {dimensions}"

    pairs = [(ALPHAS[i * 7 % 20], BETAS[i * 199 // (part - 1)]) for i in range(part)]
    triples = [(alpha, beta, GAMMAS[i * 11 % 50]) for i, (alpha, beta) in enumerate(pairs)]
    kept: dict[str, float] = {}

    def loop() -> float:
        """The published loop over some pairs of alpha and beta, and every gamma."""
        best = 0.0
        for alpha, beta in pairs:
            cache = published.cache_logits(published.affinity(data.queries), beta)
            clip = published.clip_logits(data.queries)
            divergence = published.kl_logits(kl, affinity)
            for gamma in GAMMAS:
                logits = clip + divergence * np.float32(gamma) + cache * np.float32(alpha)
                best = max(best, _accuracy(logits, data.truth))
        return best

    def anew(frozen: tuple[float, float] | None = None) -> float:
        """Every term for every triple."""
        best = 0.0
        clip = published.clip_logits(data.queries)
        for alpha, beta, gamma in triples:
            cache = published.cache_logits(affinity, beta)
            divergence = published.kl_logits(kl, affinity, frozen)
            logits = clip + cache * np.float32(alpha) + divergence * np.float32(gamma)
            best = max(best, _accuracy(logits, data.truth))
        return best

    def search() -> float:
        answer = library.do(
            "tune", name="tune", queries=folder / "queries.npy", labels=folder / "truth.npy", repetitions=1
        )
        kept.update(answer["tuned"])
        return answer["seconds"][0]

    spent = alternate(1 if quick else 5, loop=lambda: seconds(loop), anew=lambda: seconds(anew), library=search)
    spent["loop"] *= len(ALPHAS) * len(BETAS) / part
    spent["anew"] *= len(ALPHAS) * len(BETAS) * len(GAMMAS) / part
    loop_measured = f"{part} of 4,000 pairs timed"
    anew_measured = f"{part} of 200,000 triples timed"
    section = Section("Tuning", TEXT)
    what = ("the published loop in numpy", "all terms computed for each triple")
    agreement = _check(published, data, kl, affinity, scale, kept, anew(scale))
    library.do("drop", name="tune")
    for name, side, measured, target in zip(what, ("loop", "anew"), (loop_measured, anew_measured), (500, None)):
        section.rows.append(
            faster(name, sizes, spent[side], spent["library"], target, measured=measured, agreement=agreement)
        )
    return section


def _check(published, data, kl, affinity, scale, found: dict, best_of_some: float) -> str:
    """Checks that the library reports the accuracy of its triple, and that no triple tried here is better."""
    logits = published.clip_logits(data.queries)
    logits += published.cache_logits(affinity, found["beta"]) * np.float32(found["alpha"])
    logits += published.kl_logits(kl, affinity, scale) * np.float32(found["gamma"])
    accuracy = _accuracy(logits, data.truth)
    # One query may be a tie to the last bit.
    row = 1 / len(data.truth) + 1e-9
    if abs(accuracy - found["accuracy"]) > row or found["accuracy"] < best_of_some - row:
        raise Disagreement(
            f"tune: the library says {found}; its triple has accuracy {accuracy}, and another has {best_of_some}"
        )
    return f"accuracy {found['accuracy']:.4f}, by numpy {accuracy:.4f}"


def _accuracy(logits: np.ndarray, truth: np.ndarray) -> float:
    return float((logits.argmax(1) == truth).mean())


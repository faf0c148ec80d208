"""TIP-X for a batch of queries: the library against the published code and against the best NumPy."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from .data import clip_like
from .library import Library
from .reference import CLIP, Best, Published
from .report import Disagreement, Section, agree, faster
from .timing import alternate, seconds

TEXT = """\
This computes all logits of a batch of queries with the method `tip-x`. The first reference is a literal NumPy port of the
published code, which computes the KL divergence of each query and support image (float32, one query at a time where it
needs M × C numbers). The second reference is our fastest NumPy version. It uses one matrix product for the affinities,
with or without beta multiplied in beforehand, in-place arithmetic, `np.add.reduceat` over rows sorted by category, and a
collapsed KL term in which everything independent of the queries is precomputed. The fastest of several block sizes
counts. It takes the frozen scale of the KL term (a, b) from the library and computes its other constants itself. The third
row asks for labels only: the reference takes the largest of its logits, and the library leaves out the support images of
categories that cannot win. The last rows compare the default methods in the library, with all gates open: `gated-tip-x`
with `tip-x`, and `likeness`, which uses a second vector per image, with `gated-tip-x`."""


def measure(library: Library, folder: Path, quick: bool) -> Section:
    categories, rows, queries, dimensions, part = (20, 90, 40, 64, 4) if quick else (1000, 16000, 1000, 512, 10)
    rounds = 2 if quick else 5
    data = clip_like(1, categories, rows, queries, dimensions)
    data.save(folder)
    scale = library.do("fit", name="predict", folder=folder, params=asdict(CLIP))["affinity_scale"]
    ask = {"name": "predict", "queries": folder / "queries.npy", "method": "tip-x"}
    ours = library.result("logits", **ask)
    sizes = f"{queries:,} queries, C = {categories:,}, M = {rows:,}, d = {dimensions}"

    published = Published(data, CLIP)
    some = data.queries[:part]
    kl = published.kl_divs_sim(some)
    difference = np.abs(published.logits(some, kl, scale) - ours[:part]).max()
    literal_agrees = agree("the published code", difference, 0.1)
    # The matrix products run at full size. Only the work per query is extrapolated.
    full = np.resize(kl, (queries, kl.shape[1]))
    literal = alternate(
        2,
        divergences=lambda: seconds(lambda: published.kl_divs_sim(some)),
        rest=lambda: seconds(lambda: published.logits(data.queries, full)),
        library=lambda: library.seconds("logits", **ask),
    )
    del published, full, kl

    sides = {folded: Best(data, CLIP, scale, folded) for folded in (True, False)}
    blocks = sorted({queries, *(block for block in (64, 128, 256, 512) if block < queries)})
    trials = {
        f"{folded}/{block}": lambda best=best, block=block: seconds(lambda: best.logits(data.queries, block))
        for folded, best in sides.items()
        for block in blocks
    }
    tried = alternate(rounds=2, **trials)
    winner = min(tried, key=tried.get)
    folded, block = winner.split("/")[0] == "True", int(winner.split("/")[1])
    best = sides[folded]
    difference = np.abs(best.logits(data.queries, block) - ours).max()
    best_agrees = agree("the best numpy", difference, 0.05)
    numpy = alternate(rounds, numpy=trials[winner], library=lambda: library.seconds("logits", **ask))

    def best_labels() -> np.ndarray:
        return best.logits(data.queries, block).argmax(1)

    ask_labels = {**ask, "one_by_one": False}
    same = int((library.result("labels", **ask_labels) == best_labels()).sum())
    # The best numpy rounds in another order, which may decide between nearly equal logits.
    if same < 0.998 * queries:
        raise Disagreement(f"the best numpy and the library agree on {same} of {queries} labels")
    labels = alternate(
        rounds, numpy=lambda: seconds(best_labels), library=lambda: library.seconds("labels", **ask_labels)
    )
    gated = {**ask, "method": "gated-tip-x"}
    library.result("logits", **gated)
    methods = alternate(
        rounds, plain=lambda: library.seconds("logits", **ask), gated=lambda: library.seconds("logits", **gated)
    )
    support, of_queries = (folder / f"likeness_of_{name}.npy" for name in ("support", "queries"))
    other = clip_like(2, categories, rows, queries, 384 if dimensions > 384 else dimensions)
    np.save(support, other.support)
    np.save(of_queries, other.queries)
    library.do("fit", name="pairs", folder=folder, params=asdict(CLIP), likeness=support)
    both = {**ask, "name": "pairs", "likeness": of_queries, "method": "likeness"}
    library.result("logits", **both)
    pairs = alternate(
        rounds, one=lambda: library.seconds("logits", **gated), two=lambda: library.seconds("logits", **both)
    )
    library.do("drop", name="predict")
    library.do("drop", name="pairs")

    spent = literal["divergences"] / part * queries + literal["rest"]
    measured = f"KL of {part} queries timed and extrapolated"
    how = f"{'all at once' if block >= queries else f'blocks of {block}'}, beta multiplied in " + (
        "beforehand" if folded else "in the clock"
    )
    return Section(
        "Predicting",
        TEXT,
        [
            faster(
                "the published code in numpy",
                sizes,
                spent,
                literal["library"],
                100,
                measured=measured,
                agreement=literal_agrees,
            ),
            faster(
                "the best numpy", sizes, numpy["numpy"], numpy["library"], 1.0, measured=how, agreement=best_agrees
            ),
            faster(
                "labels only, by the best numpy",
                sizes,
                labels["numpy"],
                labels["library"],
                1.5,
                measured=how,
                agreement=f"{same:,} of {queries:,} labels equal",
            ),
            faster("`tip-x`, for `gated-tip-x`", sizes, methods["plain"], methods["gated"], 0.95),
            faster(
                "`gated-tip-x`, for `likeness`",
                f"{sizes}, likeness of {other.queries.shape[1]}",
                pairs["one"],
                pairs["two"],
                0.67,
            ),
        ],
    )

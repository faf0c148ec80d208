"""What a user's table may look like: the images to retrieve from, and those that are judged."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .sets import DISTRACTOR, LABELLED, OTHER, Set

SHOTS = (1, 2, 4, 8, 16)
PER_CLASS = (1, 2, 4, 8, 16, 32, 64)
# Draws of two to ten categories.
SUBSETS = 30
# Draws of a tenth of the names.
FEW_NAMES = 5
# Scenarios without labels, with the default size of the support set.
UNLABELLED = (
    "balanced",
    "other images",
    "half, all judged",
    "half, judged on those",
    "unbalanced",
    "with distractors",
    "only distractors",
    "few names",
    "subset",
)


@dataclass(frozen=True)
class Scenario:
    kind: str
    # The classifier's categories, as indices into those of the set.
    categories: list[int]
    # Ids of the images to retrieve the support set from, and of those to label and judge.
    pool: np.ndarray
    judged: np.ndarray
    # Ids of labelled support images.
    labelled: np.ndarray = field(default_factory=lambda: np.array([], int))
    # None is the default.
    per_class: int | None = None
    tuned: bool = False


def of(data: Set, quick: bool) -> list[Scenario]:
    """The scenarios of a set. The random ones come from fixed seeds, so a set always has the same."""
    random = np.random.default_rng(7)
    ids, count = data.ids(), len(data.categories)
    everything = list(range(count))
    truth = np.array([data.truth[i] for i in ids])
    distractors = data.ids(DISTRACTOR)
    found = [Scenario("balanced", everything, ids, ids, tuned=True)]
    shuffled = random.permutation(ids)
    half = len(ids) // 2
    found.append(Scenario("other images", everything, shuffled[:half], np.sort(shuffled[half:]), tuned=True))
    for odd in (0, 1):
        found.append(Scenario("half, all judged", everything, ids[truth % 2 == odd], ids, tuned=True))
    for _ in range(1 if quick else 3):
        wanted = np.exp(random.uniform(np.log(2), np.log(40), count)).round().astype(int)
        thinned = [random.permutation(ids[truth == c])[: wanted[c]] for c in everything]
        some = np.sort(np.concatenate(thinned))
        found.append(Scenario("unbalanced", everything, some, some, tuned=True))
    if len(distractors):
        found.append(Scenario("with distractors", everything, np.concatenate([ids, distractors]), ids, tuned=True))
        found.append(Scenario("only distractors", everything, distractors, ids, tuned=True))
    for per_class in (1, 4) if quick else PER_CLASS:
        found.append(Scenario(f"K = {per_class}", everything, ids, ids, per_class=per_class, tuned=not quick))
    for _ in range(2 if quick else SUBSETS):
        size = random.integers(2, min(10, count) + 1)
        chosen = np.sort(random.permutation(count)[:size])
        some = ids[np.isin(truth, chosen)]
        found.append(Scenario("subset", chosen.tolist(), some, some))
    found += _few_shot(data, random, (2,) if quick else SHOTS, 1 if quick else 2)
    return found + _some_names(ids, truth, everything, 1 if quick else FEW_NAMES)


def _some_names(ids: np.ndarray, truth: np.ndarray, everything: list[int], draws: int) -> list[Scenario]:
    """Scenarios of a table that shows some of the listed names only, a half or a tenth of them.

    They have random numbers of their own, so the others keep theirs.
    """
    random = np.random.default_rng(8)
    shown = [("half, judged on those", everything[odd::2]) for odd in (0, 1)]
    size = max(2, round(len(everything) / 10))
    shown += [("few names", random.permutation(everything)[:size]) for _ in range(draws)]
    found = []
    for kind, chosen in shown:
        some = ids[np.isin(truth, chosen)]
        found.append(Scenario(kind, everything, some, some, tuned=True))
    return found


def _few_shot(data: Set, random: np.random.Generator, shots: tuple[int, ...], draws: int) -> list[Scenario]:
    """Scenarios whose support images are labelled, and not among those that are judged."""
    others = data.ids(OTHER)
    source = others if len(others) else data.ids(LABELLED)
    truth = np.array([data.truth[i] for i in source])
    found = []
    for count in shots:
        for _ in range(draws):
            chosen = []
            for c in range(len(data.categories)):
                own = random.permutation(source[truth == c])
                # At most half of a category's images, so that some remain to be judged.
                chosen.append(own[: min(count, max(1, len(own) // 2))])
            labelled = np.sort(np.concatenate(chosen))
            judged = np.setdiff1d(data.ids(), labelled)
            found.append(Scenario(f"{count} labelled", list(range(len(data.categories))), np.array([], int), judged,
                                  labelled))  # fmt: skip
    return found

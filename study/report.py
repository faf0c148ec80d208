"""The tables of docs/methods.md."""

from __future__ import annotations

from collections import defaultdict
from typing import Callable, Iterable, Sequence

import numpy as np

from .measure import METHODS, TUNED, Labels, Measured
from .scenarios import PER_CLASS, SHOTS, UNLABELLED

ALL = (*METHODS[:3], TUNED, METHODS[3])
BINS = 15


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def accuracy(labels: Labels) -> str:
    share = labels.right.mean()
    return f"{100 * share:.1f} ± {100 * (share * (1 - share) / len(labels.right)) ** 0.5:.1f}"


def gain(all_labels: Sequence[dict[str, Labels]], method: str) -> str:
    """The mean gain over zero-shot, with the standard error of pairs, because both methods label the same images."""
    if any(method not in labels for labels in all_labels):
        return ""
    differences = [labels[method].right.astype(float) - labels["zero-shot"].right for labels in all_labels]
    mean = float(np.mean([100 * d.mean() for d in differences]))
    # Draws share images, so the error of a mean over draws counts as large as that of one draw.
    error = float(np.mean([100 * d.std() / len(d) ** 0.5 for d in differences]))
    return f"{mean:+.1f} ± {error:.1f}"


def expected_calibration_error(right: np.ndarray, probability: np.ndarray) -> float:
    """The mean difference of probability and share of right labels over equally wide bins (Guo et al., 2017)."""
    place = np.minimum((probability * BINS).astype(int), BINS - 1)
    total = 0.0
    for b in range(BINS):
        own = place == b
        if own.any():
            total += own.sum() * abs(right[own].mean() - probability[own].mean())
    return total / len(right)


class Study:
    def __init__(self, measured: Sequence[Measured]):
        self.measured = measured
        self.by_set: dict[str, dict[str, list[Measured]]] = {}
        for one in measured:
            self.by_set.setdefault(title(one), defaultdict(list))[one.scenario.kind].append(one)

    def summary(self) -> str:
        """Mean and least gain of every method, over the scenarios without labels and with the default size."""
        rows = []
        for method in ALL[1:]:
            per_set, least, single = [], (0.0, ""), []
            for name, found in self.by_set.items():
                gains = {
                    kind: [one.gain(method) for one in found[kind] if method in one.labels]
                    for kind in UNLABELLED
                    if found.get(kind)
                }
                gains = {kind: values for kind, values in gains.items() if values}
                if not gains:
                    continue
                per_set.append(float(np.mean([np.mean(values) for values in gains.values()])))
                for kind, values in gains.items():
                    single += values
                    least = min(least, (min(values), f"{name}: {kind}"))
            below = sum(value < -0.3 for value in single)
            rows.append([f"`{method}`" if method != TUNED else method, f"{np.mean(per_set):+.2f}",
                         f"{least[0]:+.2f}" + (f" ({least[1]})" if least[1] else ""),
                         f"{below} of {len(single)}"])  # fmt: skip
        return table(["method", "mean gain", "worst single run", "runs below −0.3"], rows)

    def by_scenario(self) -> str:
        rows = []
        for name, found in self.by_set.items():
            for kind in UNLABELLED[:-1]:
                if found.get(kind):
                    rows.append([name, kind, *_cells(found[kind])])
        return table(["set", "scenario", "images", "zero-shot", *ALL[1:]], rows)

    def by_size(self) -> str:
        rows = []
        for name, found in self.by_set.items():
            for size in PER_CLASS:
                if found.get(f"K = {size}"):
                    rows.append([name, str(size), *_cells(found[f"K = {size}"])])
        return table(["set", "K", "images", "zero-shot", *ALL[1:]], rows)

    def few_shot(self) -> str:
        rows = []
        methods = [method for method in ALL if method != TUNED]
        for name, found in self.by_set.items():
            for count in SHOTS:
                if found.get(f"{count} labelled"):
                    rows.append([name, str(count), *_cells(found[f"{count} labelled"], methods)])
        return table(["set", "labelled", "images", "zero-shot", *methods[1:]], rows)

    def subsets(self) -> str:
        rows = []
        methods = [method for method in ALL if method != TUNED]
        for name, found in self.by_set.items():
            runs = found.get("subset", [])
            if not runs:
                continue
            images = [len(one.scenario.judged) for one in runs]
            zero_shot = np.mean([one.labels["zero-shot"].accuracy for one in runs])
            cells = []
            for method in methods[1:]:
                gains = [one.gain(method) for one in runs]
                cells.append(f"{np.mean(gains):+.2f} / {min(gains):+.2f}")
            rows.append([name, str(len(runs)), f"{min(images)}–{max(images)}", f"{zero_shot:.1f}", *cells])
        return table(["set", "draws", "images", "zero-shot", *methods[1:]], rows)

    def calibration(self) -> str:
        rows = []
        methods = [method for method in ALL if method != TUNED]
        for name, found in self.by_set.items():
            for kind in UNLABELLED[:-1]:
                runs = found.get(kind)
                if runs:
                    cells = [f"{np.mean([_error(one.labels[method]) for one in runs]):.3f}" for method in methods]
                    rows.append([name, kind, *cells])
        return table(["set", "scenario", *methods], rows)


def title(one: Measured) -> str:
    return f"{one.data.name}, {'CLIP' if one.data.is_clip else 'default model'}"


def _error(labels: Labels) -> float:
    return expected_calibration_error(labels.right, labels.probability)


def _cells(runs: Sequence[Measured], methods: Sequence[str] = ALL) -> list[str]:
    """The number of images, the accuracy of zero-shot, and the gain of every other method."""
    labels = [one.labels for one in runs]
    sizes = sorted({len(one.scenario.judged) for one in runs})
    images = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]}–{sizes[-1]}"
    times = f" × {len(runs)}" if len(runs) > 1 else ""
    share: Callable[[dict], str] = lambda one: accuracy(one["zero-shot"])  # noqa: E731
    zero_shot = share(labels[0]) if len(runs) == 1 else f"{np.mean([one['zero-shot'].accuracy for one in labels]):.1f}"
    return [images + times, zero_shot, *(gain(labels, method) for method in methods[1:])]

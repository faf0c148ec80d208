"""The tables of docs/methods.md."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Callable, Iterable, Sequence

import numpy as np

from .measure import DEFAULT, METHODS, TUNED, Labels, Measured
from .scenarios import PER_CLASS, SHOTS, UNLABELLED
from .sets import Set

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


def mean_of_worst_tenth(gains: np.ndarray) -> float:
    """What a user gains who is among the least lucky tenth: "expected tail accuracy" (OGA, arXiv 2501.04352)."""
    return float(np.sort(gains)[: math.ceil(len(gains) / 10)].mean())


class Study:
    def __init__(self, measured: Sequence[Measured], methods: Sequence[str] = METHODS, default: str = DEFAULT):
        self.measured, self.methods, self.default = measured, methods, default
        self.all = (*methods, TUNED)
        self.by_set: dict[str, dict[str, list[Measured]]] = {}
        for one in measured:
            self.by_set.setdefault(title(one.data), defaultdict(list))[one.scenario.kind].append(one)

    def summary(self) -> str:
        """How every method does over the scenarios without labels and with the default size."""
        rows = []
        for method in self.all[1:]:
            gains = self._gains(method)
            per_set: dict[str, list[float]] = defaultdict(list)
            for (name, _), values in gains.items():
                per_set[name].append(float(np.mean(values)))
            runs = np.concatenate(list(gains.values()))
            rows.append([
                self._heading(method),
                f"{np.mean([np.mean(means) for means in per_set.values()]):+.2f}",
                _worst({place: float(np.mean(values)) for place, values in gains.items()}),
                _worst({place: min(values) for place, values in gains.items()}),
                f"{mean_of_worst_tenth(runs):+.2f}",
                f"{np.sum(runs < -0.3)} of {len(runs)}",
            ])  # fmt: skip
        return table(["method", "mean gain", "worst scenario", "worst single run", "mean of the worst 10 % of the runs",
                      "runs below −0.3"], rows)  # fmt: skip

    def _heading(self, method: str) -> str:
        """A method's name in the summary."""
        if method == self.default:
            return f"**`{method}`, the default**"
        return method if method == TUNED else f"`{method}`"

    def _gains(self, method: str) -> dict[tuple[str, str], list[float]]:
        """The gains of the runs, by set and scenario; those without any are left out."""
        gains = {}
        for name, found in self.by_set.items():
            for kind in UNLABELLED:
                values = [one.gain(method) for one in found.get(kind, []) if method in one.labels]
                if values:
                    gains[name, kind] = values
        return gains

    def by_scenario(self) -> str:
        rows = []
        for name, found in self.by_set.items():
            for kind in UNLABELLED[:-1]:
                if found.get(kind):
                    rows.append([name, kind, *_cells(found[kind], self.all)])
        return table(["set", "scenario", "images", "zero-shot", *self.all[1:]], rows)

    def by_size(self) -> str:
        rows = []
        for name, found in self.by_set.items():
            for size in PER_CLASS:
                if found.get(f"K = {size}"):
                    rows.append([name, str(size), *_cells(found[f"K = {size}"], self.all)])
        return table(["set", "K", "images", "zero-shot", *self.all[1:]], rows)

    def few_shot(self) -> str:
        rows = []
        for name, found in self.by_set.items():
            for count in SHOTS:
                if found.get(f"{count} labelled"):
                    rows.append([name, str(count), *_cells(found[f"{count} labelled"], self.methods)])
        return table(["set", "labelled", "images", "zero-shot", *self.methods[1:]], rows)

    def subsets(self) -> str:
        rows = []
        for name, found in self.by_set.items():
            runs = found.get("subset", [])
            if not runs:
                continue
            images = [len(one.scenario.judged) for one in runs]
            zero_shot = np.mean([one.labels["zero-shot"].accuracy for one in runs])
            cells = []
            for method in self.methods[1:]:
                gains = [one.gain(method) for one in runs]
                cells.append(f"{np.mean(gains):+.2f} / {min(gains):+.2f}")
            rows.append([name, str(len(runs)), f"{min(images)}–{max(images)}", f"{zero_shot:.1f}", *cells])
        return table(["set", "draws", "images", "zero-shot", *self.methods[1:]], rows)

    def calibration(self) -> str:
        rows = []
        by_model: dict[str, list[list[float]]] = defaultdict(list)
        for name, found in self.by_set.items():
            for kind in UNLABELLED[:-1]:
                runs = found.get(kind)
                if runs:
                    errors = [float(np.mean([_error(one.labels[method]) for one in runs])) for method in self.methods]
                    by_model[runs[0].data.encoder].append(errors)
                    rows.append([name, kind, *(f"{error:.3f}" for error in errors)])
        for model, errors in by_model.items():
            for what, over in (("mean", np.mean), ("worst", np.max)):
                rows.append([f"**{model}**", f"**{what}**", *(f"{error:.3f}" for error in over(errors, axis=0))])
        return table(["set", "scenario", *self.methods], rows)


def title(data: Set) -> str:
    return f"{data.name}, {data.encoder}"


def _worst(gains: dict[tuple[str, str], float]) -> str:
    """The least gain, and of which set and scenario it is."""
    name, kind = min(gains, key=gains.__getitem__)
    return f"{gains[name, kind]:+.2f} ({name}: {kind})"


def _error(labels: Labels) -> float:
    return expected_calibration_error(labels.right, labels.probability)


def _cells(runs: Sequence[Measured], methods: Sequence[str]) -> list[str]:
    """The number of images, the accuracy of zero-shot, and the gain of every other method."""
    labels = [one.labels for one in runs]
    sizes = sorted({len(one.scenario.judged) for one in runs})
    images = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]}–{sizes[-1]}"
    times = f" × {len(runs)}" if len(runs) > 1 else ""
    share: Callable[[dict], str] = lambda one: accuracy(one["zero-shot"])  # noqa: E731
    zero_shot = share(labels[0]) if len(runs) == 1 else f"{np.mean([one['zero-shot'].accuracy for one in labels]):.1f}"
    return [images + times, zero_shot, *(gain(labels, method) for method in methods[1:])]

"""The rows and sections of docs/benchmarks.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .chart import Chart


class Disagreement(Exception):
    """The two sides of a benchmark computed different results."""


@dataclass(frozen=True)
class Row:
    what: str
    sizes: str
    reference: str
    ours: str
    ratio: str
    target: str = ""
    met: bool | None = None
    agreement: str = ""

    def cells(self) -> list[str]:
        met = {True: "met", False: "**missed**", None: ""}[self.met]
        return [self.what, self.sizes, self.reference, self.ours, self.ratio, self.target, met, self.agreement]


HEADER = ["what", "sizes", "reference", "ours", "ratio", "target", "", "agreement"]


@dataclass
class Section:
    """One benchmark: a description of what it compares, and its rows."""

    title: str
    text: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    # For the first screen of the page.
    chart: Chart | None = None
    # When and where it was measured.
    facts: str = ""

    def markdown(self) -> str:
        lines = [f"## {self.title}", "", self.text, "", _line(HEADER), "|---" * len(HEADER) + "|"]
        lines += [_line(row.cells()) for row in self.rows]
        for note in self.notes:
            lines += ["", note]
        if self.facts:
            lines += ["", self.facts]
        return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def faster(what: str, sizes: str, reference: float, ours: float, at_least: float | None, **more: str) -> Row:
    """A row whose ratio says how many times faster ours is. `measured` says how the reference was timed."""
    ratio = reference / ours
    measured = more.pop("measured", "")
    return Row(
        what,
        sizes,
        duration(reference) + (f" ({measured})" if measured else ""),
        duration(ours),
        times(ratio),
        f"≥ {at_least:g} ×" if at_least else "",
        ratio >= at_least if at_least else None,
        **more,
    )


def duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{digits(seconds / size)} {unit}"
    return f"{digits(seconds / 1e-9)} ns"


def times(ratio: float) -> str:
    return f"{digits(ratio)} ×"


def digits(value: float) -> str:
    """Three significant digits."""
    decimals = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{decimals}f}"


def per_second(count: int, what: str, seconds: float) -> str:
    return f"{digits(count / seconds)} {what}/s"


def megabytes(size: float) -> str:
    return f"{digits(size / 2**20)} MB"


def similar(what: str, least: float, limit: float = 0.9999) -> str:
    """The table cell with the least cosine of two results."""
    if not least >= limit:
        raise Disagreement(f"{what}: a cosine is {least:.6f}, and {limit:g} is the least allowed")
    return f"cosines ≥ {int(least * 1e6) / 1e6:.6f}"


def agree(what: str, difference: float, limit: float) -> str:
    """The table cell with the largest difference of two results."""
    if not difference <= limit:
        raise Disagreement(f"{what}: the results differ by {difference:.3g}, and {limit:g} is allowed")
    return f"logits differ by ≤ {difference:.1e}"

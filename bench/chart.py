"""Bar charts of docs/benchmarks.md, as SVG that follows a reader's light or dark theme."""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

from .report import times

WIDTH, LABELS, VALUES, ROW, BAR, TITLE = 720, 270, 70, 30, 18, 34

STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-size: 15px; font-weight: 600 }
.peer { fill: #8c959f }
.susx { fill: #0969da }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .peer { fill: #6e7681 } .susx { fill: #4493f8 } }"""


@dataclass(frozen=True)
class Chart:
    """How fast something is in several ways: the names of the ways, and their rates in any unit.

    The first way is what the others are compared with. Names that begin with "susx" are drawn in another colour.
    """

    name: str
    question: str
    rates: dict[str, float]

    def svg(self) -> str:
        first, most = next(iter(self.rates.values())), max(self.rates.values())
        height = TITLE + ROW * len(self.rates)
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img">',
            f"<title>{escape(self.question)} {escape(self.summary())}</title>",
            f"<style>{STYLE}</style>",
            f'<text class="title" x="0" y="18">{escape(self.question)}</text>',
        ]
        for place, (way, rate) in enumerate(self.rates.items()):
            top = TITLE + ROW * place
            middle = top + BAR / 2 + 5
            length = (WIDTH - LABELS - VALUES) * rate / most
            kind = "susx" if way.startswith("susx") else "peer"
            lines += [
                f'<text x="{LABELS - 10}" y="{middle:g}" text-anchor="end">{escape(way)}</text>',
                f'<rect class="{kind}" x="{LABELS}" y="{top}" width="{length:.1f}" height="{BAR}" rx="2"/>',
                f'<text x="{LABELS + length + 8:.1f}" y="{middle:g}">{times(rate / first)}</text>',
            ]
        return "\n".join([*lines, "</svg>"]) + "\n"

    def summary(self) -> str:
        """What the bars show, for those who do not see them."""
        first = next(iter(self.rates.values()))
        return ", ".join(f"{way}: {times(rate / first)}" for way, rate in self.rates.items())

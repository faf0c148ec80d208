"""Measures the accuracy of every method and writes docs/methods.md. `make study` prepares and runs it.

usage: python -m study.run [--pg 18] [--sets caltech,cifar,…] [--quick] [--output FILE]
"""

from __future__ import annotations

import sys
import time
from datetime import date
from pathlib import Path

from tools.console import say
from tools.harness import chosen, cluster_with_models, commit, options, public_folder, publish, session
from tools.paths import ROOT

from . import none_of_these, pairs, scenarios, sets
from .measure import LIKENESS, OF_PAIRS, Measured, measure
from .report import Study

PAGE = ROOT / "docs" / "methods.md"
QUICK_LIMIT = 60

INTRODUCTION = (Path(__file__).parent / "introduction.md").read_text()
CHOSEN = (Path(__file__).parent / "chosen.md").read_text()
LIKENESS_INTRODUCTION = (Path(__file__).parent / "likeness.md").read_text()


def main() -> None:
    parser = options("study", PAGE)
    parser.add_argument("--sets", help="some of " + ",".join([*sets.SETS, *pairs.PAIRS]))
    parser.add_argument("--quick", action="store_true", help="a few images and scenarios, to see that everything runs")
    arguments = parser.parse_args()
    there = [*sets.names(), *pairs.names()]
    wanted = chosen(parser, "set", arguments.sets, there)
    missing = [name for name in [*sets.SETS, *pairs.PAIRS] if name not in there]
    if missing:
        say(f"not measured, because their files are missing: {', '.join(missing)}")

    started = time.monotonic()
    measured, paired, rejected = [], [], []
    with (
        public_folder("study") as folder,
        cluster_with_models(arguments.pg, folder) as cluster,
        session(cluster) as sql,
    ):
        sql.execute("SET client_min_messages = error")
        for name in wanted:
            say(f"loading {name}")
            of = pairs if name in pairs.PAIRS else sets
            data = of.load(sql, name, QUICK_LIMIT if arguments.quick else None)
            planned = scenarios.of(data, arguments.quick)
            say(f"measuring {len(planned)} scenarios of {name}")
            found = [measure(sql, data, scenario) for scenario in planned]
            if data.is_paired:
                paired += found
            else:
                measured += found
                rejected += none_of_these.measure(sql, data)
            # The pairs load some of them again.
            sql.execute(f"DROP TABLE {data.table}")
    text = page(measured, paired, rejected, missing, arguments.quick, time.monotonic() - started)
    is_whole = not missing and not arguments.quick and not arguments.sets
    publish(text, arguments.output or (PAGE if is_whole else None))


def page(
    measured: list[Measured],
    paired: list[Measured],
    rejected: list[none_of_these.Run],
    missing: list[str],
    quick: bool,
    took: float,
) -> str:
    study = Study(measured)
    facts = [f"measured: {date.today()}, commit {commit(PAGE)}, in {took / 60:.0f} minutes"]
    if quick:
        facts.append("sizes: tiny, the figures mean nothing (--quick)")
    if missing:
        facts.append(f"**not measured**, because their files are missing: {', '.join(missing)}")
    parts = [INTRODUCTION + "\n" + "\n".join(f"- {fact}" for fact in facts), CHOSEN.rstrip()]
    if measured:
        parts += _one_vector(study, rejected)
    if paired:
        parts += _two_vectors(Study(paired, OF_PAIRS, LIKENESS))
    return "\n\n".join(parts) + "\n"


def _one_vector(study: Study, rejected: list[none_of_these.Run]) -> list[str]:
    return [
        "## Without labels, in short\n\n"
        "The mean is over sets, of the mean over scenarios (those of the next table, and the random subsets). A "
        "scenario with several draws counts by their mean. The mean of the worst 10 % of the runs is the *expected "
        "tail accuracy* of OGA (arXiv 2501.04352), as a gain over zero-shot.",
        study.summary().rstrip(),
        "## By scenario\n\nGains over zero-shot in points, with standard errors. Several runs are averaged.",
        study.by_scenario().rstrip(),
        "## By the size of the support set\n\nThe pool is the table itself; K images per category at most.",
        study.by_size().rstrip(),
        "## Few-shot\n\nSupport images with their true labels, and nothing retrieved. Means over two draws.",
        study.few_shot().rstrip(),
        "## Random subsets\n\nTwo to ten categories, and the images of these alone: mean / least gain over the draws.",
        study.subsets().rstrip(),
        "## Calibration\n\nExpected calibration error of `probability`, 15 bins: 0 is perfect. The last rows are "
        "the mean and the worst of the scenarios with each kind of model.",
        study.calibration().rstrip(),
        none_of_these.INTRODUCTION,
        none_of_these.section(rejected).rstrip(),
    ]


def _two_vectors(study: Study) -> list[str]:
    return [
        LIKENESS_INTRODUCTION.rstrip(),
        "### Likeness, in short",
        study.summary().rstrip(),
        "### Likeness, by scenario",
        study.by_scenario().rstrip(),
        "### Likeness, by the size of the support set",
        study.by_size().rstrip(),
        "### Likeness, few-shot",
        study.few_shot().rstrip(),
        "### Likeness, random subsets",
        study.subsets().rstrip(),
        "### Likeness, calibration",
        study.calibration().rstrip(),
    ]


if __name__ == "__main__":
    sys.exit(main())

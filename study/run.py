"""Measures the accuracy of every method and writes docs/methods.md. `make study` prepares and runs it.

usage: python -m study.run [--pg 18] [--sets caltech,cifar,…] [--only several,copies,queue] [--quick] [--output FILE]

With --only, these sections alone are measured, and replaced in the page.
"""

from __future__ import annotations

import sys
import time
from datetime import date
from pathlib import Path

from tools.console import say
from tools.harness import chosen, cluster_with_models, commit, options, public_folder, publish, session
from tools.paths import ROOT

from . import copies, none_of_these, pairs, queue, scenarios, several, sets
from .measure import LIKENESS, OF_PAIRS, Measured, measure
from .report import Study

PAGE = ROOT / "docs" / "methods.md"
QUICK_LIMIT = 60

# Sections of their own, on sets with one vector per image. Each has what a quick run takes.
SECTIONS = {"several": (several, {"pictures": 40}), "copies": (copies, {"draws": 1}),
            "queue": (queue, {"splits": 1, "draws": 1})}  # fmt: skip

INTRODUCTION = (Path(__file__).parent / "introduction.md").read_text()
CHOSEN = (Path(__file__).parent / "chosen.md").read_text()
LIKENESS_INTRODUCTION = (Path(__file__).parent / "likeness.md").read_text()


def main() -> None:
    parser = options("study", PAGE)
    parser.add_argument("--sets", help="some of " + ",".join([*sets.SETS, *pairs.PAIRS]))
    parser.add_argument("--only", help="some of " + ",".join(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="a few images and scenarios, to see that everything runs")
    arguments = parser.parse_args()
    there = [*sets.names(), *pairs.names()]
    wanted = chosen(parser, "set", arguments.sets, there)
    sections = chosen(parser, "section", arguments.only, list(SECTIONS))
    missing = [name for name in [*sets.SETS, *pairs.PAIRS] if name not in there]
    if missing:
        say(f"not measured, because their files are missing: {', '.join(missing)}")

    started = time.monotonic()
    measured, paired, rejected = [], [], []
    found_in: dict[str, list] = {name: [] for name in sections}
    with (
        public_folder("study") as folder,
        cluster_with_models(arguments.pg, folder) as cluster,
        session(cluster) as sql,
    ):
        sql.execute("SET client_min_messages = error")
        for name in wanted:
            of = pairs if name in pairs.PAIRS else sets
            if arguments.only and of is pairs:
                continue
            say(f"loading {name}")
            data = of.load(sql, name, QUICK_LIMIT if arguments.quick else None)
            if not data.is_paired:
                for which, runs in found_in.items():
                    say(f"measuring {which} of {name}")
                    module, quick = SECTIONS[which]
                    runs += _list(module.measure(sql, data, **(quick if arguments.quick else {})))
            if arguments.only:
                sql.execute(f"DROP TABLE {data.table}")
                continue
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
    own = {name: section(name, runs) for name, runs in found_in.items() if runs}
    if arguments.only:
        text = (arguments.output if arguments.output and arguments.output.exists() else PAGE).read_text()
        for name, its in own.items():
            text = with_section(text, SECTIONS[name][0].TITLE, its)
    else:
        text = page(measured, paired, rejected, list(own.values()), missing, arguments.quick, time.monotonic() - started)
    is_whole = not missing and not arguments.quick and not arguments.sets
    publish(text, arguments.output or (PAGE if is_whole else None))


def _list(found) -> list:
    return found if isinstance(found, list) else [found]


def section(name: str, runs: list) -> str:
    """A section of the page with its heading."""
    module, _ = SECTIONS[name]
    measured = f"Measured {date.today()}, commit {commit(PAGE)}."
    return f"{module.INTRODUCTION}\n\n{measured}\n\n{module.section(runs).rstrip()}"


def with_section(text: str, title: str, section: str) -> str:
    """The page with a section instead of that of this title, or before the section of two vectors."""
    heading, two_vectors = f"\n## {title}\n", "\n## " + LIKENESS_INTRODUCTION.split("\n")[0].removeprefix("## ") + "\n"
    if heading in text:
        before, after = text.split(heading)
        rest = after.find("\n## ")
        return before + "\n" + section + ("\n" + after[rest:] if rest >= 0 else "\n")
    before, _, after = text.partition(two_vectors)
    return before + "\n" + section + "\n" + two_vectors + after if after else text + "\n" + section + "\n"


def page(
    measured: list[Measured],
    paired: list[Measured],
    rejected: list[none_of_these.Run],
    sections: list[str],
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
        parts += [*_one_vector(study, rejected), *sections]
    if paired:
        parts += _two_vectors(Study(paired, OF_PAIRS, LIKENESS))
    return "\n\n".join(parts) + "\n"


def _one_vector(study: Study, rejected: list[none_of_these.Run]) -> list[str]:
    return [
        "## Without labels, in short\n\n"
        "The mean is the mean over sets of the mean over scenarios (those of the next table, and the random subsets). A "
        "scenario with several draws counts with their mean. The mean of the worst 10 % of the runs is the *expected "
        "tail accuracy* of OGA (arXiv 2501.04352), as a gain over zero-shot.",
        study.summary().rstrip(),
        "## By scenario\n\nGains over zero-shot in points, with standard errors. If there are several runs, the table shows "
        "their mean.",
        study.by_scenario().rstrip(),
        "## By the size of the support set\n\nThe pool is the table itself, with at most K images per category.",
        study.by_size().rstrip(),
        "## Few-shot\n\nThe support images have their true labels; nothing is retrieved. Means over two draws.",
        study.few_shot().rstrip(),
        "## Random subsets\n\nTwo to ten categories, and only the images of these: mean / smallest gain over the draws.",
        study.subsets().rstrip(),
        "## Calibration\n\nExpected calibration error of `probability`, 15 bins: 0 is perfect. The last rows are "
        "the mean and the worst value over the scenarios with each kind of model.",
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

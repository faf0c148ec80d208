"""Measures susx against reference implementations and writes docs/benchmarks.md. `make bench` prepares and runs it.

usage: python -m bench.run --program tip_x --encoders embed --diffusion diffusion
                           [--pg 18] [--only predict,tune,…] [--quick] [--output FILE]
"""

from __future__ import annotations

import os

# One thread on both sides of the method's benchmarks. NumPy reads this on import; onnxruntime has threads of its own.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"

import contextlib
import platform
import re
import sys
from datetime import date
from pathlib import Path

import numpy as np
import onnxruntime
import PIL
import tokenizers

from tools.console import say
from tools.harness import THREADS, chosen, commit, options, publish
from tools.paths import ROOT
from tools.steps import scratch

from . import busy, cancel, diffusion, embed, kl, label, memory, pairs, predict, sessions, sql, texts, tune
from .library import Library
from .report import Disagreement, Section

BENCHMARKS = (
    *("predict", "tune", "kl", "sql", "label", "busy"),
    *("embed", "pairs", "sessions", "texts", "memory", "cancel", "diffusion"),
)
PAGE = ROOT / "docs" / "benchmarks.md"

INTRODUCTION = """\
# Benchmarks

Written by `make bench`. Every row compares two sides that computed the same thing: where results differ by more than
rounding, the run fails and writes nothing. A target that is missed is marked, and fails nothing.

**Only the ratios mean something.** Absolute times on a shared machine prove nothing; both sides are measured
alternately in one run, and the least time of each counts, so that a busy moment hits neither alone. Both sides have the
same threads: one where the method is measured, one per core where the encoders are. The method's inputs are random unit
vectors with the structure of CLIP's, from fixed seeds; the encoders' are photographs and prompts, and the default model
on the CPU. A reference that would take too long is timed on a part and extrapolated, and its row says so.
"""


def main() -> None:
    parser = options("bench", PAGE)
    parser.add_argument("--program", type=Path, required=True, help="the built crates/susx-core/benches/tip_x.rs")
    parser.add_argument("--encoders", type=Path, required=True, help="the built crates/susx-core/benches/embed.rs")
    parser.add_argument(
        "--diffusion", type=Path, required=True, help="the built crates/susx-diffusion/benches/diffusion.rs"
    )
    parser.add_argument("--only", help="some of " + ",".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs and agrees")
    parser.add_argument("--rows", type=int, help="of the table that label measures, instead of 100,000")
    arguments = parser.parse_args()
    only = chosen(parser, "benchmark", arguments.only, BENCHMARKS)

    before = os.getloadavg()[0]
    sections, facts = [], machine()
    if arguments.quick:
        facts["sizes"] = "tiny: the figures mean nothing (--quick)"
    with scratch() as folder, contextlib.closing(Library(arguments.program, folder)) as library:
        for name in BENCHMARKS:
            if name not in only:
                continue
            say(f"measuring {name}")
            try:
                sections.append(measure(name, library, folder, arguments, facts))
            except Disagreement as disagreement:
                sys.exit(f"error: {disagreement}")
            say(sections[-1].markdown())
    is_whole = set(only) == set(BENCHMARKS) and not arguments.quick
    after = os.getloadavg()[0]
    facts["load"] = f"{before:.1f} in the minute before the run, {after:.1f} at its end; its own is 1 to {THREADS}"
    if output := arguments.output or (PAGE if is_whole else None):
        publish(page(sections, facts), output)


def measure(name: str, library: Library, folder: Path, arguments, facts: dict[str, str]) -> Section:
    match name:
        case "predict":
            return predict.measure(library, folder, arguments.quick)
        case "tune":
            return tune.measure(library, folder, arguments.quick)
        case "kl":
            return kl.measure(library, folder, arguments.quick)
        case "label":
            return label.measure(library, folder, arguments.quick, arguments.pg, arguments.rows)
        case "embed":
            return embed.measure(arguments.encoders, folder, arguments.quick, arguments.pg)
        case "pairs":
            return pairs.measure(folder, arguments.quick, arguments.pg)
        case "sessions":
            return sessions.measure(folder, arguments.quick, arguments.pg)
        case "texts":
            return texts.measure(folder, arguments.quick, arguments.pg)
        case "memory":
            return memory.measure(folder, arguments.quick, arguments.pg)
        case "busy":
            return busy.measure(folder, arguments.quick, arguments.pg)
        case "cancel":
            return cancel.measure(folder, arguments.quick, arguments.pg)
        case "diffusion":
            return diffusion.measure(arguments.diffusion, folder, arguments.quick)
        case _:
            section, versions = sql.measure(library, folder, arguments.quick, arguments.pg)
            facts.update(versions)
            return section


def page(sections: list[Section], facts: dict[str, str]) -> str:
    machine = "\n".join(f"- {name}: {fact}" for name, fact in facts.items())
    return "\n".join([INTRODUCTION, machine + "\n", *(section.markdown() for section in sections)])


def machine() -> dict[str, str]:
    """The machine and the software that were measured."""
    return {
        "measured": f"{date.today()}, commit {commit(PAGE)}",
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "numpy": f"{np.__version__} with {_blas()}, Python {platform.python_version()}",
        "Python's packages": f"onnxruntime {onnxruntime.__version__}, Pillow {PIL.__version__}, "
        f"tokenizers {tokenizers.__version__}",
    }


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _blas() -> str:
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{blas['name']} {blas['version']}"


if __name__ == "__main__":
    main()

"""Measures susx against reference implementations and writes docs/benchmarks.md. `make bench` prepares and runs it.

usage: python -m bench.run --program tip_x --encoders embed --diffusion diffusion
                           [--pg 18] [--only predict,tune,…] [--update] [--quick] [--output FILE]
"""

from __future__ import annotations

import os

# One thread on both sides of the method's benchmarks. NumPy reads this on import; onnxruntime has threads of its own.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"

import contextlib
import platform
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import onnxruntime
import PIL
import tokenizers

from tools.console import say
from tools.harness import THREADS, chosen, commit, options, publish
from tools.paths import ROOT, pg_bin
from tools.steps import scratch

from . import busy, bystander, cancel, diffusion, embed, kl, label, memory, pairs, predict, scale, sessions, sql, texts, tune
from .library import Library
from .page import Page, draw
from .report import Disagreement, Section

BENCHMARKS = (
    *("predict", "tune", "kl", "sql", "label", "scale", "busy"),
    *("embed", "pairs", "sessions", "texts", "memory", "cancel", "bystander", "diffusion"),
)
PAGE = ROOT / "docs" / "benchmarks.md"


def main() -> None:
    parser = options("bench", PAGE)
    parser.add_argument("--program", type=Path, required=True, help="the built crates/susx-core/benches/tip_x.rs")
    parser.add_argument("--encoders", type=Path, required=True, help="the built crates/susx-core/benches/embed.rs")
    parser.add_argument(
        "--diffusion", type=Path, required=True, help="the built crates/susx-diffusion/benches/diffusion.rs"
    )
    parser.add_argument("--only", help="some of " + ",".join(BENCHMARKS))
    parser.add_argument("--update", action="store_true", help="write what was measured into the page, and keep the rest")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs and agrees")
    parser.add_argument("--rows", type=int, help="of the table that label measures, instead of 100,000")
    arguments = parser.parse_args()
    only = chosen(parser, "benchmark", arguments.only, BENCHMARKS)

    sections, facts = [], machine(arguments.pg)
    if arguments.quick:
        facts.append("tiny sizes: the figures mean nothing (--quick)")
    with scratch() as folder, contextlib.closing(Library(arguments.program, folder)) as library:
        for name in BENCHMARKS:
            if name not in only:
                continue
            say(f"measuring {name}")
            before = os.getloadavg()[0]
            try:
                section = measure(name, library, folder, arguments)
            except Disagreement as disagreement:
                sys.exit(f"error: {disagreement}")
            load = f"load {before:.1f} before and {os.getloadavg()[0]:.1f} after, of which 1 to {THREADS} is its own"
            section.facts = "; ".join([*facts, load]) + "."
            sections.append(section)
            say(section.markdown())
    is_whole = set(only) == set(BENCHMARKS) and not arguments.quick
    output = arguments.output or (PAGE if is_whole or arguments.update else None)
    if output:
        page = Page(output.read_text() if arguments.update and output.exists() else "")
        page.update(sections)
        publish(page.text(), output)
        draw((section.chart for section in sections if section.chart), output.parent)


def measure(name: str, library: Library, folder: Path, arguments) -> Section:
    match name:
        case "predict":
            return predict.measure(library, folder, arguments.quick)
        case "tune":
            return tune.measure(library, folder, arguments.quick)
        case "kl":
            return kl.measure(library, folder, arguments.quick)
        case "label":
            return label.measure(library, folder, arguments.quick, arguments.pg, arguments.rows)
        case "scale":
            return scale.measure(arguments.quick, arguments.pg)
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
        case "bystander":
            return bystander.measure(folder, arguments.quick, arguments.pg)
        case "diffusion":
            return diffusion.measure(arguments.diffusion, folder, arguments.quick)
        case _:
            return sql.measure(library, folder, arguments.quick, arguments.pg)


def machine(pg: str) -> list[str]:
    """The machine and the software that is measured."""
    return [
        f"Measured on {date.today()} at commit {commit(PAGE)}",
        f"{_processor()} with {os.cpu_count()} cores",
        f"PostgreSQL {_postgres(pg)}",
        f"Python {platform.python_version()} with numpy {np.__version__} ({_blas()}), onnxruntime {onnxruntime.__version__}, "
        f"Pillow {PIL.__version__} and tokenizers {tokenizers.__version__}",
    ]


def _postgres(pg: str) -> str:
    """The versions of PostgreSQL and pgvector."""

    def config(option: str) -> str:
        return subprocess.run([pg_bin(pg, "pg_config"), option], capture_output=True, text=True, check=True).stdout.strip()

    control = (Path(config("--sharedir")) / "extension" / "vector.control").read_text()
    vector = re.search(r"default_version\s*=\s*'(.*)'", control)
    return f"{config('--version').split()[1]} with pgvector {vector[1] if vector else 'of an unknown version'}"


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _blas() -> str:
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{blas['name']} {blas['version']}"


if __name__ == "__main__":
    main()

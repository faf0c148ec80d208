"""Prepares and runs `make bench`, `make soak` and `make study`, on susx in the embedded PostgreSQL 18.

usage: python3 -m tools.measure bench|soak|study [option …], whose options are those of bench/run.py and its like;
with --data those of study/paper.py
"""

from __future__ import annotations

import sys

from . import bench_programs, install, model, onnxruntime, pictures, python_env
from .console import Failure, main, run
from .paths import PYTHON, pg_bin

PG = "18"
KINDS = ("bench", "soak", "study")


def measure() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in KINDS:
        raise Failure(f"usage: python3 -m tools.measure {'|'.join(KINDS)} [option …]")
    kind, *options = sys.argv[1:]
    python_env.with_requirements()
    onnxruntime.ensure()
    model.ensure()
    program = f"{kind}.run"
    if kind == "study" and "--data" in options:
        program = "study.paper"
    elif kind == "study":
        pictures.ensure()
    if kind == "bench":
        options = [*bench_programs.optimised(), *options]
    install.install(pg_bin(PG, "pg_config"))
    run([PYTHON, "-m", program, "--pg", PG, *options], echo=True)


if __name__ == "__main__":
    main(measure)

"""Builds what `make soak` needs and runs soak/run.py on susx in the embedded PostgreSQL 18."""

from __future__ import annotations

import sys

from . import install, model, onnxruntime, python_env
from .console import main, run
from .paths import PYTHON, pg_bin

PG = "18"


def soak() -> None:
    python_env.with_requirements()
    onnxruntime.ensure()
    model.ensure()
    install.install(pg_bin(PG, "pg_config"))
    run([PYTHON, "-m", "soak.run", "--pg", PG, *sys.argv[1:]], echo=True)


if __name__ == "__main__":
    main(soak)

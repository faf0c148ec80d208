"""Builds what `make study` needs and runs study/run.py on susx in the embedded PostgreSQL 18."""

from __future__ import annotations

import sys

from . import install, model, onnxruntime, pictures, python_env
from .console import main, run
from .paths import PYTHON, pg_bin

PG = "18"


def study() -> None:
    python_env.with_requirements()
    onnxruntime.ensure()
    model.ensure()
    pictures.ensure()
    install.install(pg_bin(PG, "pg_config"))
    run([PYTHON, "-m", "study.run", "--pg", PG, *sys.argv[1:]], echo=True)


if __name__ == "__main__":
    main(study)

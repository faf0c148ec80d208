"""Prepares and runs `make test-exporters`: full-size models by the exporters that people use.

The exporters come from PyPI into build/exporters, about 6 GB, because PyPI's torch for Linux brings CUDA.
"""

from __future__ import annotations

import os
import sys

from . import install, onnxruntime, python_env
from .console import main, run, say
from .paths import BUILD, PYTHON, ROOT, pg_bin
from .steps import digest, step

PG = "18"
UV = "uv==0.13.9"
REQUIREMENTS = ROOT / "tests" / "exporters" / "requirements.txt"
EXPORTERS = BUILD / "exporters" / "bin" / "python"


def ensure() -> None:
    def make() -> None:
        python_env.with_requirements()
        say("installing the exporters")
        run([PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", UV])
        environment = EXPORTERS.parent.parent
        run([PYTHON, "-m", "uv", "venv", "--quiet", "--clear", "--python", PYTHON, environment])
        # The list is complete, so nothing is resolved anew.
        run([PYTHON, "-m", "uv", "pip", "install", "--quiet", "--python", EXPORTERS, "--no-deps", "-r", REQUIREMENTS])

    step("exporters", f"{UV} {digest([REQUIREMENTS])}", EXPORTERS, make)


def exporters() -> None:
    ensure()
    onnxruntime.ensure()
    install.install(pg_bin(PG, "pg_config"))
    # No library may look for anything on the internet.
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(ROOT / "tests")}
    run([EXPORTERS, "-m", "tests.exporters.run", "--pg", PG, *sys.argv[1:]], env, echo=True)


if __name__ == "__main__":
    main(exporters)

"""Builds what `make bench` needs and runs bench/run.py: the library's programs, susx in the embedded PostgreSQL 18."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from . import install, model, onnxruntime, python_env, toolchain
from .console import Failure, main, run, say
from .paths import PYTHON, pg_bin

PG = "18"


def program(crate: str, name: str, *features: str) -> Path:
    """Builds crates/CRATE/benches/NAME.rs and returns the program."""
    say(f"building the library's benchmark program {name}")
    env = {**os.environ, **toolchain.environment()}
    build = ["cargo", "bench", "--no-run", "--package", crate, *features, "--bench", name]
    for line in run([*build, "--message-format", "json"], env):
        # Cargo's own words stand between the messages.
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("executable") and message["target"]["name"] == name:
            return Path(message["executable"])
    raise Failure("cargo named no benchmark program")


def programs() -> list[object]:
    """The programs that bench/run.py measures, as its arguments."""
    # The method does without the encoders, and so does its program.
    method = program("susx-core", "tip_x", "--no-default-features")
    encoders, diffusion = program("susx-core", "embed"), program("susx-diffusion", "diffusion")
    return ["--program", method, "--encoders", encoders, "--diffusion", diffusion]


def bench() -> None:
    python_env.with_requirements()
    onnxruntime.ensure()
    model.ensure()
    built = programs()
    install.install(pg_bin(PG, "pg_config"))
    run([PYTHON, "-m", "bench.run", *built, "--pg", PG, *sys.argv[1:]], echo=True)


if __name__ == "__main__":
    main(bench)

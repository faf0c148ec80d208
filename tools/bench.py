"""Builds what `make bench` needs and runs bench/run.py: the library's program, susx in the embedded PostgreSQL 18."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from . import install, python_env, toolchain
from .console import Failure, main, run, say
from .paths import PYTHON, pg_bin

PG = "18"


def program() -> Path:
    """crates/susx-core/benches/tip_x.rs, built."""
    say("building the library's benchmark program")
    env = {**os.environ, **toolchain.environment()}
    build = ["cargo", "bench", "--no-run", "--package", "susx-core", "--no-default-features", "--bench", "tip_x"]
    for line in run([*build, "--message-format", "json"], env):
        # Cargo's own words stand between the messages.
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("executable") and message["target"]["name"] == "tip_x":
            return Path(message["executable"])
    raise Failure("cargo named no benchmark program")


def bench() -> None:
    python_env.with_requirements()
    built = program()
    install.install(pg_bin(PG, "pg_config"))
    run([PYTHON, "-m", "bench.run", "--program", built, "--pg", PG, *sys.argv[1:]], echo=True)


if __name__ == "__main__":
    main(bench)

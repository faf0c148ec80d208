"""Builds the programs of crates/*/benches, which are the library's side of `make bench`."""

from __future__ import annotations

import json
import os
from pathlib import Path

from . import toolchain
from .check import CRATES, rust_environment
from .console import Failure, run, say

# The option of bench/run.py, and the program that goes with it.
_PROGRAMS = {"--program": "tip_x", "--encoders": "embed", "--diffusion": "diffusion"}


def optimised() -> list[object]:
    """The programs to measure, as arguments of bench/run.py."""
    say("building the library's benchmark programs")
    env = {**os.environ, **toolchain.environment()}
    command = ["cargo", "bench", "--no-run"]
    # The extension links the methods without the encoders, so this is how they are measured.
    methods = _build([*command, "-p", "susx-core", "--no-default-features"], env, ["--program"])
    return methods + _build([*command, "-p", "susx-core", "-p", "susx-diffusion"], env, ["--encoders", "--diffusion"])


def unoptimised() -> list[object]:
    """The same for a test: only the programs themselves are compiled, as the Rust tests have built all they need."""
    return _build(["cargo", "test", "--no-run", *CRATES], rust_environment(), list(_PROGRAMS))


def _build(command: list[str], env: dict[str, str], options: list[str]) -> list[object]:
    programs = {option: _PROGRAMS[option] for option in options}
    names = [word for name in programs.values() for word in ("--bench", name)]
    built = {}
    for line in run([*command, *names, "--message-format", "json"], env):
        # Cargo prints its progress between the JSON messages.
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("executable"):
            built[message["target"]["name"]] = Path(message["executable"])
    if missing := set(programs.values()) - set(built):
        raise Failure(f"cargo built no benchmark program {', '.join(sorted(missing))}")
    return [word for option, name in programs.items() for word in (option, built[name])]

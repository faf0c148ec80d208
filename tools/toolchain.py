"""pgrx's configuration, and the environment in which Cargo builds the extension."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import Sequence

from . import fixtures, libclang, nasm, onnxruntime, postgres
from .console import Failure, main, run, say
from .paths import ONNXRUNTIME, PG_VERSIONS, PGRX_HOME, TOOLS, pg_bin
from .steps import step, write


def environment(pg_config: Path | None = None) -> dict[str, str]:
    """Variables for Cargo, to build for the PostgreSQL of `pg_config` or for those of build/pg."""
    prerequisites()
    settings = {"PGRX_HOME": str(PGRX_HOME), **libclang.environment(), **nasm.environment()}
    if pg_config is None:
        postgres.ensure_all()
        configs = "".join(f'pg{pg} = "{pg_bin(pg, "pg_config")}"\n' for pg in PG_VERSIONS)
        _write_if_changed(PGRX_HOME / "config.toml", f"[configs]\n{configs}")
    else:
        PGRX_HOME.mkdir(parents=True, exist_ok=True)
        settings["PGRX_PG_CONFIG_PATH"] = str(pg_config)
    return settings


_RUST = "install the Rust toolchain with rustup, https://rustup.rs, and open a new shell (or: . ~/.cargo/env)"
_PREREQUISITES = {
    "cargo": _RUST,
    "rustc": _RUST,
    "cc": "install a C compiler (on Debian and Ubuntu: apt-get install build-essential)",
}


def prerequisites() -> None:
    """An error unless the programs are there that nothing fetches."""
    for program, what_to_do in _PREREQUISITES.items():
        if not shutil.which(program):
            raise Failure(f"`{program}` is not in PATH: {what_to_do}")


def _write_if_changed(path: Path, text: str) -> None:
    # A newer modification time makes pgrx generate its bindings again, which takes a minute.
    if not path.exists() or path.read_text() != text:
        write(path, text)


def cargo_program(crate: str, version: str, options: Sequence[str] = ()) -> Path:
    """A program of crates.io in exactly this version, installed below build/tools. `options` choose its features."""

    def install() -> None:
        say(f"building {crate} {version} (a few minutes, once)")
        target = TOOLS / "target" / crate
        # It runs for seconds, and compiles in half the time without optimisation.
        env = {**os.environ, "CARGO_TARGET_DIR": str(target), "CARGO_PROFILE_DEV_DEBUG": "0"}
        command = ["cargo", "install", "--debug", "--root", TOOLS, crate, "--version", f"={version}", "--locked"]
        run([*command, *options], env)
        shutil.rmtree(target)

    prerequisites()
    program = TOOLS / "bin" / crate
    step(crate, version, program, install)
    return program


def print_environment() -> None:
    settings = environment()
    onnxruntime.ensure()
    settings["ORT_DYLIB_PATH"] = str(ONNXRUNTIME)
    settings.update(fixtures.environment(required=False))
    for name, value in settings.items():
        print(f"export {name}={shlex.quote(value)}")


if __name__ == "__main__":
    main(print_environment)

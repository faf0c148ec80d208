"""Every check there is, the cheapest first: formatting, lint, licences, Rust tests, then SQL tests on each PostgreSQL."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from . import fixtures, install, model, onnxruntime, pictures, python_env, test_models, toolchain
from .console import main, run, say
from .paths import ONNXRUNTIME, PG_VERSIONS, PYTHON, ROOT, SUPPORTED_PG, pg_bin
from .pins import CARGO_DENY

CRATES = ("-p", "susx-core", "-p", "susx-diffusion", "-p", "susx-server", "-p", "susx-fuzz")
NEWEST = PG_VERSIONS[-1]


def check() -> None:
    # Whoever has set a variable of a fixture means it.
    fixed = {**fixtures.environment(required=True), **os.environ}
    env = {**fixed, **toolchain.environment(), "ORT_DYLIB_PATH": str(ONNXRUNTIME)}
    closing = _lint(env)

    onnxruntime.ensure()
    model.ensure()
    test_models.ensure()
    say("running the Rust tests")
    lines = run(["cargo", "test", *CRATES], env, echo=True)
    closing += [f"cargo test: {line}" for line in lines if line.startswith("test result:")]

    python_env.with_requirements()
    pictures.ensure()
    for pg in PG_VERSIONS:
        install.install(pg_bin(pg, "pg_config"))
    # They wait for clusters and processes more than they compute; the newest takes as long as the others together.
    with ThreadPoolExecutor(2) as pool:
        newest = pool.submit(_sql_tests, NEWEST)
        others = pool.submit(lambda: [_sql_tests(pg) for pg in PG_VERSIONS if pg != NEWEST])
        closing += [*others.result(), newest.result()]

    say("\nall checks passed")
    for line in closing:
        say(f"  {line}")


def _lint(env: dict[str, str]) -> list[str]:
    warnings_are_errors = ["--all-targets", "--", "-D", "warnings"]
    say("checking the formatting")
    run(["cargo", "fmt", "--all", "--check"], env)

    say("linting the library, the server and the fuzz targets")
    run(["cargo", "clippy", *CRATES, *warnings_are_errors], env)
    say("linting the server without image generation")
    without = ["-p", "susx-server", "--no-default-features", "--features", "server"]
    run(["cargo", "clippy", *without, *warnings_are_errors], env)
    for pg in SUPPORTED_PG:
        # By itself, as it is shipped: together with the others it would share their features.
        say(f"linting the extension for PostgreSQL {pg}")
        without_headers = {"DOCS_RS": "1", "RUSTC_WRAPPER": str(ROOT / "tools" / "published_bindings.sh")}
        extension = ["-p", "susx", "--no-default-features", "--features", f"pg{pg}"]
        bindings = {} if pg in PG_VERSIONS else without_headers
        run(["cargo", "clippy", *extension, *warnings_are_errors], {**env, **bindings})

    say("checking the licences and sources of the dependencies")
    deny = toolchain.cargo_program("cargo-deny", CARGO_DENY)
    run([deny, "--workspace", "--all-features", "check", "licenses", "bans", "sources"], env)
    return [
        "cargo fmt: nothing to change",
        f"cargo clippy: no warnings, for PostgreSQL {', '.join(SUPPORTED_PG)}",
        "cargo deny: licenses, bans and sources ok",
    ]


def _sql_tests(pg: str) -> str:
    """The closing line of the tests on one PostgreSQL: all of them on the newest."""
    some = [] if pg == NEWEST else ["-m", "not same_everywhere"]
    say(f"running the SQL tests on PostgreSQL {pg}")
    lines = run([PYTHON, "-m", "pytest", "tests", *some], {**os.environ, "SUSX_TEST_PG": pg}, echo=pg == NEWEST)
    return f"PostgreSQL {pg}: {lines[-1].strip('= ')}"


if __name__ == "__main__":
    main(check)

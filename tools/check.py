"""Every check there is, the cheapest first: formatting, lint, Rust tests, then SQL tests on each PostgreSQL."""

from __future__ import annotations

import os

from . import install, model, onnxruntime, pictures, python_env, test_models, toolchain
from .console import main, run, say
from .paths import ONNXRUNTIME, PG_VERSIONS, PYTHON, pg_bin


def check() -> None:
    env = {**os.environ, **toolchain.environment(), "ORT_DYLIB_PATH": str(ONNXRUNTIME)}
    lint = ["--all-targets", "--", "-D", "warnings"]
    closing = []

    say("checking the formatting")
    run(["cargo", "fmt", "--all", "--check"], env)
    closing.append("cargo fmt: nothing to change")

    say("linting the library and the server")
    run(["cargo", "clippy", "-p", "susx-core", "-p", "susx-server", *lint], env)
    for pg in PG_VERSIONS:
        # By itself, as it is shipped: together with the others it would share their features.
        say(f"linting the extension for PostgreSQL {pg}")
        run(["cargo", "clippy", "-p", "susx", "--no-default-features", "--features", f"pg{pg}", *lint], env)
    closing.append("cargo clippy: no warnings")

    onnxruntime.ensure()
    model.ensure()
    test_models.ensure()
    say("running the Rust tests")
    lines = run(["cargo", "test", "-p", "susx-core", "-p", "susx-server"], env, echo=True)
    closing += [f"cargo test: {line}" for line in lines if line.startswith("test result:")]

    python_env.with_requirements()
    pictures.ensure()
    for pg in PG_VERSIONS:
        install.install(pg_bin(pg, "pg_config"))
        say(f"running the SQL tests on PostgreSQL {pg}")
        lines = run([PYTHON, "-m", "pytest", "tests"], {**os.environ, "SUSX_TEST_PG": pg}, echo=True)
        closing.append(f"PostgreSQL {pg}: {lines[-1].strip('= ')}")

    say("\nall checks passed")
    for line in closing:
        say(f"  {line}")


if __name__ == "__main__":
    main(check)

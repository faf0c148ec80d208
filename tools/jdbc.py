"""build/jdbc/postgresql.jar: PostgreSQL's JDBC driver, from Debian's package: for the tests."""

from __future__ import annotations

from . import debs
from .console import main
from .paths import JDBC
from .steps import replace, scratch, step

_PACKAGE = "libpostgresql-jdbc-java"


def ensure() -> None:
    def unpack() -> None:
        with scratch() as directory:
            debs.extract(debs.fetch(_PACKAGE, f"Put postgresql.jar at {JDBC} and try again."), directory)
            replace(directory / "usr" / "share" / "java" / "postgresql.jar", JDBC)

    if not JDBC.exists():
        step("jdbc", _PACKAGE, JDBC, unpack)


if __name__ == "__main__":
    main(ensure)

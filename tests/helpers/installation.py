"""A copy of a PostgreSQL installation, in which files of susx can be replaced."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Iterator

from tools.paths import BUILD, ROOT, pg_home
from tools.postgres import libraries
from tools.steps import scratch

# What CREATE EXTENSION ran in each older version, the first one first. They are copies of the file that `make install`
# made of that version; the library of today is not what they describe.
OLDER_VERSIONS = ("0.1.0", "0.2.0")
FIRST_VERSION = OLDER_VERSIONS[0]
OLDER_SCHEMAS = [ROOT / "tests" / "upgrade" / f"susx--{version}.sql" for version in OLDER_VERSIONS]


class Installation:
    def __init__(self, home: Path):
        self.home = home
        self.library = home / "lib" / "postgresql" / "susx.so"
        self.scripts = home / "share" / "postgresql" / "extension"

    def add(self, script: Path) -> None:
        """Puts a script of the extension where CREATE EXTENSION finds it."""
        shutil.copy(script, self.scripts / script.name)


@contextlib.contextmanager
def copied(pg: str) -> Iterator[Installation]:
    """A copy of build/pg/NN, which PostgreSQL takes for a place of its own, that is gone afterwards."""
    with scratch() as folder:
        home = folder / "pg" / pg
        shutil.copytree(pg_home(pg), home, symlinks=True)
        # As far above the programs as there.
        (folder / libraries(pg)).symlink_to(BUILD / libraries(pg))
        yield Installation(home)

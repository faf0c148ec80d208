"""A copy of a PostgreSQL installation, in which files of susx can be replaced."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Iterator

from tools.paths import BUILD, ROOT, pg_home
from tools.postgres import LIBRARIES
from tools.steps import scratch

# The scripts that CREATE EXTENSION ran in each older version, oldest first: copies of the file that `make install`
# made of that version, and do not describe the present library.
OLDER_VERSIONS = ("0.1.0", "0.2.0")
FIRST_VERSION = OLDER_VERSIONS[0]
OLDER_SCHEMAS = [ROOT / "tests" / "upgrade" / f"susx--{version}.sql" for version in OLDER_VERSIONS]


class Installation:
    def __init__(self, home: Path):
        self.home = home
        self.library = home / "lib" / "postgresql" / "susx.so"
        self.scripts = home / "share" / "postgresql" / "extension"

    def add(self, script: Path) -> None:
        """Puts a script of the extension into the folder where CREATE EXTENSION looks."""
        shutil.copy(script, self.scripts / script.name)


@contextlib.contextmanager
def copied(pg: str) -> Iterator[Installation]:
    """A copy of build/pg/NN that works as an installation of its own, and is removed afterwards."""
    with scratch() as folder:
        home = folder / "pg" / pg
        shutil.copytree(pg_home(pg), home, symlinks=True)
        # The programs look for libraries at the same distance above them.
        for libraries in LIBRARIES.values():
            (folder / libraries).symlink_to(BUILD / libraries)
        yield Installation(home)

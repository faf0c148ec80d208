"""Stops the embedded clusters, and removes everything that was fetched or built."""

from __future__ import annotations

import shutil

from . import embedded
from .console import main
from .paths import BUILD, PG_VERSIONS, ROOT


def clean() -> None:
    for pg in PG_VERSIONS:
        embedded.down(pg)
    for folder in (BUILD, ROOT / "target"):
        if folder.exists():
            shutil.rmtree(folder)


if __name__ == "__main__":
    main(clean)

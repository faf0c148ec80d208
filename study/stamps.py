"""The stamps of build/pictures that stamps.tsv gives a category."""

from __future__ import annotations

from pathlib import Path

from tools.paths import PICTURES

_LIST = Path(__file__).with_suffix(".tsv")


def stamps() -> tuple[list[str], list[tuple[Path, str]]]:
    """The categories, and the images of all folders that belong to one."""
    lines = _LIST.read_text().splitlines()
    folders = dict(line.split("\t") for line in lines if line and not line.startswith("#"))
    pictures = []
    for path in sorted(PICTURES.rglob("*.png")):
        for folder in path.relative_to(PICTURES).parents:
            if str(folder) in folders:
                pictures.append((path, folders[str(folder)]))
                break
    return list(dict.fromkeys(folders.values())), pictures

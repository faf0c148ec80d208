"""Labelled images in folders, as published sets are unpacked: <folder>/<set>/<category>/*.jpg, or one set alone.

A set that has CoOp's file split_zhou_*.json is read by that instead: its "test" images are judged, and its "train"
images are those that a support set is retrieved from.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from demo.run import SUFFIXES
from tools.console import Failure

# An image, and the name of its category.
Image = tuple[Path, str]


@dataclass(frozen=True)
class Folder:
    name: str
    categories: list[str]
    judged: list[Image]
    # None: the judged images themselves.
    pool: list[Image] | None
    # Sentences that describe the categories, as CuPL publishes them; empty without a file.
    sentences: dict[str, list[str]]


def find(folder: Path) -> list[Folder]:
    """The sets of a folder, or the one set that it is."""
    if not folder.is_dir():
        raise Failure(f"there is no folder {folder}")
    folder = folder.resolve()
    places = [folder] if _is_set(folder) else [place for place in _folders(folder) if _is_set(place)]
    if not places:
        raise Failure(f"no folder of categories with images in {folder}: expected <set>/<category>/<image>")
    return [_read(place, folder / "prompts" / f"{place.name}.json") for place in places]


def _is_set(folder: Path) -> bool:
    return _split_file(folder) is not None or any(_images(category) for category in _folders(folder))


def _read(folder: Path, prompts: Path) -> Folder:
    split = _split_file(folder)
    if split:
        categories, judged, pool = _by_split(folder, split)
    else:
        judged = [(path, _name(category.name)) for category in _folders(folder) for path in _images(category)]
        categories, pool = sorted({category for _, category in judged}), None
    sentences = json.loads(prompts.read_text()) if prompts.exists() else {}
    return Folder(
        folder.name, categories, judged, pool, {_name(category): texts for category, texts in sentences.items()}
    )


def _by_split(folder: Path, file: Path) -> tuple[list[str], list[Image], list[Image]]:
    parts = json.loads(file.read_text())
    rows = [row for part in ("train", "test") for row in parts[part]]
    # Its paths begin at the folder of the images, whose name no rule gives: `images`, `jpg`, `2750`, `SUN397` …
    first = parts["test"][0][0].lstrip("/")
    root = next((place for place in (folder, *_folders(folder)) if (place / first).is_file()), None)
    if root is None:
        raise Failure(f"{file} names {first}, which is not in {folder} nor in a folder there")
    by_label = {label: _name(category) for _, label, category in rows}
    images = {
        part: [(root / path.lstrip("/"), by_label[label]) for path, label, _ in parts[part]]
        for part in ("train", "test")
    }
    return [by_label[label] for label in sorted(by_label)], images["test"], images["train"]


def _split_file(folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob("split_zhou_*.json"))), None)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())


def _name(category: str) -> str:
    return category.replace("_", " ")

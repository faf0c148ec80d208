"""build/book: the manual as HTML pages with a table of contents and a search, made by mdBook."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from . import toolchain
from .console import main, run, say
from .paths import BUILD, ROOT
from .pins import MDBOOK
from .steps import replace, scratch

BOOK = BUILD / "book"
DOCS = ROOT / "docs"
SUMMARY = DOCS / "SUMMARY.md"

# Pages that have another name in the book, because mdBook only takes files of one folder. The first page is the
# project's README.md. As README.md, it would become index.html, but mdBook would not change the links to it.
_RENAMED = {
    ROOT / "README.md": "index.md",
    DOCS / "README.md": "contents.md",
    ROOT / "CONTRIBUTING.md": "contributing.md",
    ROOT / "CHANGELOG.md": "changelog.md",
}

# A block of code, or a link with its text, its file and its anchor. Code has no links.
_CODE_OR_LINK = re.compile(r"^```.*?^```$|\[([^\]]*)\]\((?!https?:)([^)#\s]*)(#[^)\s]*)?\)", re.MULTILINE | re.DOTALL)


def build() -> None:
    # Without the server and the watcher, which need most of the dependencies.
    mdbook = toolchain.cargo_program("mdbook", MDBOOK, ["--no-default-features", "--features", "search"])
    with scratch() as directory:
        assemble(directory)
        run([mdbook, "build", directory])
        replace(directory / "build" / "book", BOOK)
    say(f"built {BOOK.relative_to(ROOT)}/index.html")


def assemble(directory: Path) -> None:
    """Copies book.toml and all pages to `directory`, with links as they must be in the book."""
    shutil.copy(ROOT / "book.toml", directory)
    (directory / "docs").mkdir()
    for page in {*DOCS.glob("*.md"), *_RENAMED}:
        text = _CODE_OR_LINK.sub(lambda found: _in_book(page, found), page.read_text())
        (directory / "docs" / _name(page)).write_text(text)


def _name(page: Path) -> str:
    return _RENAMED.get(page, page.name)


def _in_book(page: Path, found: re.Match[str]) -> str:
    text, file, anchor = found.groups()
    target = (page.parent / file).resolve() if file else page
    if text is None or target == page:
        return found[0]
    if target in _RENAMED or target.parent == DOCS:
        return f"[{text}]({_name(target)}{anchor or ''})"
    # The sources are not part of the book. Their paths can still be read.
    return text


if __name__ == "__main__":
    main(build)

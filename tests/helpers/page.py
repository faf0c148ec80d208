"""A page of HTML as a tree. A tag that is not closed, or closed twice, is an error."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Iterator

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Element:
    """An element with its attributes, and what is in it: elements and texts."""

    def __init__(self, tag: str, attributes: dict[str, str | None]):
        self.tag, self.attributes = tag, attributes
        self.content: list[Element | str] = []

    def __getitem__(self, attribute: str) -> str:
        return self.attributes[attribute] or ""

    def all(self, *tags: str, **attributes: str) -> Iterator[Element]:
        """The elements below this one with one of these tags, or with any, and with these attributes."""
        for child in self.content:
            if isinstance(child, Element):
                wanted = attributes.items() <= {k.replace("-", "_"): v for k, v in child.attributes.items()}.items()
                if (not tags or child.tag in tags) and wanted:
                    yield child
                yield from child.all(*tags, **attributes)

    def first(self, *tags: str, **attributes: str) -> Element:
        return next(self.all(*tags, **attributes))

    def classed(self, name: str) -> list[Element]:
        return [element for element in self.all() if name in (element.attributes.get("class") or "").split()]

    @property
    def source_text(self) -> str:
        return "".join(child if isinstance(child, str) else child.source_text for child in self.content)

    @property
    def text(self) -> str:
        """The text as a reader sees it."""
        return " ".join(self.source_text.split())

    def rows(self) -> list[list[str]]:
        """The texts of a table's cells."""
        return [[cell.text for cell in row.all("td", "th")] for row in self.first("tbody").all("tr")]


class Page(HTMLParser):
    """The tree is in `root`."""

    def __init__(self, text: str):
        super().__init__()
        self.source = text
        self.declaration = ""
        self.root = Element("", {})
        self._open = [self.root]
        self.feed(text)
        self.close()
        assert self._open == [self.root], f"not closed: {[element.tag for element in self._open]}"

    def handle_decl(self, decl: str) -> None:
        self.declaration = decl

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute of {tag} is there twice: {attrs}"
        element = Element(tag, dict(attrs))
        self._open[-1].content.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        raise AssertionError(f"<{tag}/> is not HTML")

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1].tag == tag, f"</{tag}> in {self._open[-1].tag}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self._open[-1].content.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

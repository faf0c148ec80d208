"""The examples in README.md and in docs/ work as they stand, and the reference matches the extension."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.session import Session
from study.stamps import stamps
from tools import docs, reference
from tools.console import Failure
from tools.paths import PICTURES, ROOT

README = ROOT / "README.md"
DOCS = ROOT / "docs"
# The book's table of contents is no page.
PAGES = sorted({*DOCS.glob("*.md")} - {docs.SUMMARY})

# A fence, what stands after it, and the lines up to the next fence.
FENCE = re.compile(r"^```(.*)\n((?:(?!```).*\n)*)```$", re.MULTILINE)
# The target of a link: a file, with an anchor or without, or an anchor alone.
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[str]:
    return [text for kind, text in FENCE.findall(page.read_text()) if kind == "sql"]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [README, *PAGES], ids=name)
def test_every_sql_block_is_run(page):
    """Every SQL example is found: none is excluded, and none uses another spelling."""
    for kind, text in FENCE.findall(page.read_text()):
        assert kind in {"", "json", "python", "sh", "sql", "yaml"}, f"an unknown kind of block: {kind}"
        assert kind == "sql" or not re.search(r"^\s*(SELECT|CREATE|UPDATE|INSERT|ALTER)\b", text, re.MULTILINE), text


@pytest.mark.parametrize("page", [README, ROOT / "CONTRIBUTING.md", docs.SUMMARY, *PAGES], ids=name)
def test_links_lead_somewhere(page):
    for file, anchor in LINK.findall(FENCE.sub("", page.read_text())):
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{page.name} links to {file}, which does not exist"
        assert not anchor or anchor in anchors(target), f"{page.name} links to #{anchor}, which {target.name} lacks"


def test_the_manual_lists_every_page():
    listed = set(re.findall(r"\]\((\S+?\.md)\)", (DOCS / "README.md").read_text()))
    assert listed >= {page.name for page in PAGES} - {"README.md"}


def test_the_book_has_every_page_once():
    """mdBook leaves out a page of docs/ that the table of contents lacks."""
    listed = [(DOCS / file).resolve() for file, _ in LINK.findall(docs.SUMMARY.read_text())]
    assert len(set(listed)) == len(listed) and set(listed) >= set(PAGES)


def test_links_stay_in_the_book(tmp_path):
    """Also those of pages that have another name there."""
    docs.assemble(tmp_path)
    pages = {page.name: page for page in (tmp_path / "docs").iterdir()}
    listed = [file for file, _ in LINK.findall(pages["SUMMARY.md"].read_text())]
    assert sorted(["SUMMARY.md", *listed]) == sorted(pages)
    for page in pages.values():
        for file, anchor in LINK.findall(FENCE.sub("", page.read_text())):
            assert not file or file in pages, f"{page.name} links to {file}, which is not in the book"
            assert not anchor or anchor in anchors(pages[file or page.name]), f"{page.name} links to {file}#{anchor}"


def run(cluster, database: str, page: Path) -> None:
    """The page's blocks in psql, in their order."""
    for number, text in enumerate(blocks(page)):
        file = cluster.directory / f"{page.stem}{number}.sql"
        file.write_text(text)
        output = cluster.program(
            "psql", "-X", "-v", "ON_ERROR_STOP=1", "--dbname", cluster.url(database), "--file", file
        )
        # Every example has a result.
        assert "(0 rows)" not in output, f"{text}\n{output}"


@pytest.fixture
def photos(connect, fresh_database) -> Session:
    """The table that the quick start begins with: some of Tux Paint's stamps."""
    assert PICTURES.is_dir(), "the pictures are not there: run `make pictures`"
    assert "`photos(id bigint PRIMARY KEY, image bytea)`" in README.read_text()
    _, pictures = stamps()
    wanted = []
    for category in ("bird", "flower", "fruit", "tool"):
        wanted += [path for path, truth in pictures if truth == category][:8]
    session = connect(fresh_database)
    session.run("CREATE TABLE photos (id bigint PRIMARY KEY, image bytea)")
    session.copy("photos", ["id", "image"], ((i, path.read_bytes()) for i, path in enumerate(wanted, 1)))
    return session


def pages_with_examples() -> list:
    """README runs on every version of PostgreSQL, the manual on one."""
    pages = [pytest.param(page, marks=pytest.mark.same_everywhere, id=name(page)) for page in PAGES if blocks(page)]
    return [pytest.param(README, id=name(README)), *pages]


@pytest.mark.parametrize("page", pages_with_examples())
def test_the_examples(cluster, photos: Session, fresh_database, page):
    """In psql, statement by statement, after those of the quick start."""
    run(cluster, fresh_database, README)
    if page != README:
        run(cluster, fresh_database, page)
    assert photos.rows("SELECT count(*), count(embedding) FROM photos") == [(32, 32)]
    assert photos.one("SELECT count(*) FROM kinds WHERE kind = 'image'") > 8


def test_the_program_that_loads_a_folder(cluster, connect, fresh_database, tmp_path):
    """The tutorial's, on a folder with pictures and something else."""
    tutorial = (DOCS / "tutorial.md").read_text()
    (program,) = [text for kind, text in FENCE.findall(tutorial) if kind == "python"]
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.PNG").write_bytes(b"one")
    (tmp_path / "b.jpg").write_bytes(b"two")
    (tmp_path / "notes.txt").write_bytes(b"three")
    session = connect(fresh_database)
    session.run(re.search(r"^=> (CREATE TABLE photos .*;)$", tutorial, re.MULTILINE)[1])
    subprocess.run([sys.executable, "-c", program, tmp_path, cluster.url(fresh_database)], check=True)
    assert session.rows("SELECT path, image FROM photos ORDER BY path") == [
        (str(tmp_path / "b.jpg"), b"two"),
        (str(tmp_path / "below" / "a.PNG"), b"one"),
    ]


@pytest.mark.same_everywhere
def test_the_reference_is_that_of_the_catalogue(sql):
    """If this fails: functions, relations, settings or their comments have changed. Run `make reference`."""
    sql.run("LOAD 'susx'")
    page = reference.PAGE.read_text()
    assert reference.update(page, sql.one(reference.QUERY)) == page


def test_the_reference_changes_with_the_catalogue(connect, fresh_database):
    """A comment, an argument and a setting of the page are those that \\df+ and SHOW have."""
    session = connect(fresh_database)
    session.run("SET client_min_messages = warning; CREATE EXTENSION susx CASCADE; LOAD 'susx'")
    page = reference.PAGE.read_text()
    assert "| `thumbnail(image bytea, size integer DEFAULT 160, format text DEFAULT 'jpeg')` | `bytea` |" in page
    assert f"| `susx.hang_timeout` | `{session.one('SHOW susx.hang_timeout')}` | reload |" in page
    session.run("COMMENT ON FUNCTION susx.thumbnail IS 'Something else'")
    changed = reference.update(page, session.one(reference.QUERY))
    assert changed != page and "| `bytea` | Something else |" in changed
    session.run("CREATE FUNCTION susx.unknown() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    with pytest.raises(Failure, match="unknown"):
        reference.update(page, session.one(reference.QUERY))


def test_the_figures_of_the_study():
    """docs/accuracy.md has the figures that `make study` wrote, rounded."""
    cells = (r"`([\w-]+)`(?:, the default)?", r"(\S+)", r"(\S+)[^|]*", r"(\S+)[^|]*", r"(?:[^|]*\|)?([^|]*)")
    row = re.compile(rf"^\| \**{cells[0]}\** \| {cells[1]} \| {cells[2]} \| {cells[3]} \|{cells[4]}\|$", re.MULTILINE)
    minus = str.maketrans("−", "-")
    study = {
        (method, runs.strip()): [float(value) for value in values]
        for method, *values, runs in row.findall((DOCS / "methods.md").read_text())
        if " of " in runs
    }
    claims = row.findall((DOCS / "accuracy.md").read_text())
    assert {method for method, *_ in claims} == {"tip-adapter", "tip-x", "gda", "gated-tip-x", "likeness"}
    for method, *values, runs in claims:
        measured = study[method, runs.strip()]
        for claim, value in zip(values, measured, strict=True):
            assert abs(float(claim.translate(minus)) - value) <= 0.051, f"{method}: {claim} is {value} in methods.md"


def test_the_python_example(connect, cluster, fresh_database, tmp_path):
    """A folder of pictures becomes a table with embeddings, by the lines of the manual."""
    (program,) = [text for _, text in FENCE.findall((DOCS / "embeddings.md").read_text()) if "import pathlib" in text]
    paths = [path for path, _ in stamps()[1]][:5]
    for number, path in enumerate(paths):
        (tmp_path / f"{number}.jpg").write_bytes(path.read_bytes())
    assert "dbname=mydb" in program and "/some/folder" in program
    session = connect(fresh_database)
    session.run("SET client_min_messages = warning; CREATE EXTENSION susx CASCADE")
    exec(program.replace("dbname=mydb", cluster.url(fresh_database)).replace("/some/folder", str(tmp_path)), {})
    assert session.rows("SELECT count(*), count(embedding), count(DISTINCT name) FROM photos") == [(5, 5, 5)]
    assert session.column("SELECT image FROM photos ORDER BY name") == [path.read_bytes() for path in paths]

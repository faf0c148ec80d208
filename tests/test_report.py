"""`susx.report`: an HTML page that is complete, safe and readable, with the numbers that plain SQL finds."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from html import unescape

import numpy as np
import pytest
from PIL import Image

from helpers.page import Page
from helpers.pictures import encode, picture
from helpers.session import vector
from helpers.toy import create_compass, create_random

pytestmark = pytest.mark.same_everywhere

CATEGORIES, DIMENSIONS, ROWS = 6, 12, 400
POINTS = "SELECT id, image, embedding FROM points"


def report(sql, query: str, classifier: str = "random", **arguments: object) -> Page:
    named = "".join(f", {name} => %s" for name in arguments)
    return Page(sql.one(f"SELECT susx.report(%s, %s{named})", classifier, query, *arguments.values()))


@pytest.fixture
def points(sql):
    """A classifier of vectors, and rows with an image, an embedding and what is true of them."""
    create_random(sql, "random", CATEGORIES, DIMENSIONS)
    sql.run("CREATE TABLE points (id int PRIMARY KEY, image bytea, embedding vector, truth text)")
    random = np.random.default_rng(5)
    # More images than are shown, of a few kinds: which of them a row has makes no difference to its label.
    files = [encode(picture(seed, (90, 60))) for seed in range(12)]
    embeddings = random.normal(size=(ROWS, DIMENSIONS))
    sql.copy(
        "points",
        ["id", "image", "embedding"],
        ((i, files[i % 12], vector(embedding)) for i, embedding in enumerate(embeddings)),
    )
    sql.run("UPDATE points SET truth = CASE WHEN id % 3 = 0 THEN 'c03' ELSE susx.label('random', embedding) END")
    return sql


def section(page: Page, id: str):
    return page.root.first(id=id)


def figures(element) -> dict[str, str]:
    """The tiles of figures."""
    tiles = element.first("dl", **{"class": "figures"})
    return {tile.first("dt").text: tile.first("dd").text for tile in tiles.all("div")}


def keys(element) -> list[str]:
    return [key.text for key in element.classed("key")]


def parts(sheet) -> dict[str, list[str]]:
    """The keys below each heading of a sheet."""
    found, heading = {}, None
    for child in sheet.all("h4", "ul"):
        if child.tag == "h4":
            heading = re.sub(" of .*", "", child.text)
        elif heading:
            found[heading] = keys(child)
    return found


def check(page: Page) -> None:
    """What holds for every page."""
    html = page.root.first("html")
    everything = list(page.root.all())
    assert page.declaration.lower() == "doctype html" and html["lang"] == "en"
    assert len(page.source.encode()) < 10_000_000
    # Nothing from elsewhere, and no code.
    assert not {element.tag for element in everything} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    assert not re.search(r"https?:|url\(|@import|javascript:", page.source, re.IGNORECASE)
    for element in everything:
        assert not [name for name in element.attributes if name.startswith("on") or name == "style"], element.attributes
        assert element.attributes.get("src", "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
        assert element.attributes.get("href", "#").startswith("#")
    (style,) = html.all("style")
    digest = base64.b64encode(hashlib.sha256("".join(style.content).encode()).digest()).decode()
    policy = html.first("meta", http_equiv="Content-Security-Policy")["content"]
    rules = dict(rule.split(None, 1) for rule in policy.split("; "))
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": f"'sha256-{digest}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    # For keyboards and screen readers.
    ids = [element["id"] for element in everything if "id" in element.attributes]
    assert len(set(ids)) == len(ids)
    for element in everything:
        targets = [element["href"][1:]] if "href" in element.attributes else []
        targets += element.attributes.get("aria-labelledby", "").split()
        assert set(targets) <= set(ids)
    for tag in ("header", "main", "nav", "footer", "h1"):
        assert len(list(html.all(tag))) == 1, tag
    levels = [int(element.tag[1]) for element in html.all("h1", "h2", "h3", "h4", "h5")]
    assert levels[0] == 1 and all(after <= before + 1 for before, after in zip(levels, levels[1:])), levels
    assert len(list(html.first("head").all("title"))) == 1
    assert all(image["alt"] for image in html.all("img"))
    assert all(cell["scope"] in ("row", "col") for cell in html.all("th"))
    for scroll in html.classed("scroll"):
        assert scroll["tabindex"] == "0" and scroll["role"] == "region"
    for image in html.all("img"):
        Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1]))).verify()


@pytest.mark.parametrize("truth", [False, True])
def test_every_page_is_complete_and_safe(points, truth):
    query = POINTS.replace(" FROM", ", truth FROM") if truth else POINTS
    page = report(points, query)
    check(page)
    assert len(list(page.root.all("img"))) > 6 * CATEGORIES
    assert bool(list(page.root.all(id="truth"))) == truth


@pytest.mark.parametrize("method", [None, "zero-shot"])
def test_the_counts_are_those_of_sql(points, method):
    page = report(points, POINTS, method=method)
    expected = points.rows(
        """SELECT c.category, count(*), count(*) / 400.0, avg(c.probability)
           FROM points p, susx.classify('random', p.embedding, 1, %s) c GROUP BY 1""",
        method,
    )
    assert len(expected) > 3
    found = {row[0]: row for row in section(page, "summary").first("table").rows()}
    for category, n, share, probability in expected:
        _, images, _, shown_share, mean, support = found.pop(category)
        assert (int(images), support) == (n, "8")
        assert float(shown_share.rstrip(" %")) == pytest.approx(100 * float(share), abs=0.051)
        assert float(mean.rstrip(" %")) == pytest.approx(100 * probability, abs=0.051)
    assert all(row[1] == "0" for row in found.values())
    assert figures(section(page, "summary"))["Labelled"] == f"{ROWS} 100.0 %"


def test_the_surest_and_the_least_sure_are_shown(points):
    page = report(points, POINTS, thumbnails_per_category=9)
    (category,) = points.rows(
        """SELECT l.category, array_agg(p.id::text ORDER BY l.probability DESC)
           FROM points p, susx.classify('random', p.embedding) l GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"""
    )
    name, ranked = category
    sheet = next(it for it in page.root.classed("category") if it.first("h3").text == name)
    found = parts(sheet)
    assert set(found["Most certain"]) == set(ranked[:3])
    assert set(found["Least certain"]) == set(ranked[-3:])
    assert set(found["A sample"]) <= set(ranked[3:-3]) and len(found["A sample"]) == 3


def test_the_page_is_the_same_every_time(points):
    page = report(points, POINTS).source
    assert report(points, POINTS).source == page
    assert report(points, f"{POINTS} ORDER BY id DESC").source == page
    # With other keys it is another sample.
    assert report(points, "SELECT id + 1000, image, embedding FROM points").source != page


def test_support_images_are_beside_their_category(points):
    files = [encode(picture(seed, (64, 64))) for seed in (50, 51)]
    points.run("UPDATE random SET image = %s WHERE id = (SELECT min(id) FROM random WHERE kind = 'image')", files[0])
    page = report(points, POINTS)
    category, id = points.rows("SELECT category, id FROM random WHERE image IS NOT NULL")[0]
    for sheet in page.root.classed("category"):
        support = parts(sheet).get("Support images", [])
        assert support == ([f"support {id}"] if sheet.first("h3").text == category else [])


def test_truth_is_compared_as_by_evaluate(points):
    labelled = "SELECT embedding, truth FROM points"
    page = report(points, "SELECT id, embedding, truth FROM points")
    check(page)
    whole = points.dicts("SELECT * FROM susx.evaluate('random', %s) WHERE category IS NULL", labelled)[0]
    found = figures(section(page, "truth"))
    names = {"Right": "top1", "Among the first five": "top5", "Mean precision": "precision", "Mean recall": "recall"}
    for shown, column in {**names, "Calibration error": "calibration_error"}.items():
        assert float(found[shown].rstrip(" %")) == pytest.approx(100 * whole[column], abs=0.051)
    assert found["Compared"] == str(whole["n"])

    matrix = section(page, "truth").first("table", **{"class": "matrix"})
    columns = [cell.text for cell in matrix.first("thead").all("th")]
    cells = {
        (row[0], predicted): int(n) for row in matrix.rows() for predicted, n in zip(columns, row[1:]) if n != "·"
    }
    expected = points.rows("SELECT truth, predicted, n FROM susx.confusion_matrix('random', %s)", labelled)
    assert cells == {(truth, predicted): n for truth, predicted, n in expected}
    # Every mistake leads to its images.
    for row in matrix.first("tbody").all("tr"):
        truth = row.first("th").text
        for predicted, cell in zip(columns, row.all("td")):
            links = list(cell.all("a"))
            assert len(links) == (cell.text != "·")
            if links and truth != predicted:
                behind = keys(section(page, links[0]["href"][1:]))
                labels = points.column(
                    "SELECT truth || ' ' || susx.label('random', embedding) FROM points WHERE id = ANY (%s)",
                    [int(key) for key in behind],
                )
                assert set(labels) == {f"{truth} {predicted}"} and len(labels) == len(behind)

    tables = section(page, "truth").all("table")
    bins = [table for table in tables if "shares of correct labels" in table.first("caption").text]
    calibration = points.rows("SELECT n, probability, accuracy FROM susx.calibration('random', %s)", labelled)
    for (_, n, probability, right), (expected_n, *shares) in zip(bins[0].rows(), calibration, strict=True):
        assert int(n) == expected_n
        for shown, share in zip((probability, right), shares):
            assert shown == "–" if share is None else float(shown.rstrip(" %")) == pytest.approx(100 * share, abs=0.051)

    mistakes = dict(
        points.rows(
            """SELECT p.id::text, c.probability FROM points p, susx.classify('random', p.embedding) c
               WHERE c.category <> p.truth"""
        )
    )
    order = [child for child in section(page, "truth").all("h3", "ul")]
    shown = keys(order[[child.text for child in order].index("The most confident mistakes") + 1])
    # Several may be equally sure.
    surest = sorted(mistakes.values(), reverse=True)
    assert [mistakes[key] for key in shown] == pytest.approx(surest[: len(shown)], abs=1e-6) and len(shown) > 10


def test_a_null_truth_is_none_of_the_categories(points):
    points.run("UPDATE points SET truth = NULL WHERE id < 10")
    points.run("SELECT susx.alter_classifier('random', reject => 0.5)")
    page = report(points, "SELECT id, embedding, truth FROM points")
    check(page)
    labelled = "SELECT embedding, truth FROM points"
    rejected, top1 = points.rows("SELECT rejected, top1 FROM susx.evaluate('random', %s) WHERE category IS NULL", labelled)[0]
    assert 0 < rejected < ROWS
    assert figures(section(page, "summary"))["None of these"].split()[0] == str(rejected)
    assert float(figures(section(page, "truth"))["Right"].rstrip(" %")) == pytest.approx(100 * top1, abs=0.051)
    known = dict(points.rows("SELECT id::text, susx.known('random', embedding) FROM points"))
    shown = parts(section(page, "rejected"))
    assert min(map(known.get, known)) == known[shown["Clearly none"][0]]
    assert all(known[key] < 0.5 for keys in shown.values() for key in keys)


def test_an_unknown_truth_is_an_error(points):
    refusal = points.fails("SELECT susx.report('random', 'SELECT 1, embedding, ''no such'' AS truth FROM points')")
    assert refusal.sqlstate == "42704" and "no such" in refusal.message and "row 1" in refusal.message


HOSTILE = [
    "<script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    "\" onmouseover=\"alert(1)",
    "' onmouseover='alert(1)",
    "]]> --> {{7*7}} ${7*7} &lt;b&gt;",
    "javascript:alert(1)",
    "\u202egnp.exe\u2066",
    "tab\tnewline\nbell\x07",
]  # fmt: skip


def test_hostile_texts(sql):
    sql.run(
        "SELECT susx.create_classifier('hostile', %s, text_embeddings => %s::vector[])",
        HOSTILE,
        [vector(row) for row in np.eye(len(HOSTILE))],
    )
    sql.run("CREATE TABLE rows (key text, embedding vector, image bytea, truth text)")
    for i, (key, embedding) in enumerate(zip(HOSTILE, np.eye(len(HOSTILE)))):
        truth = HOSTILE[i // 2]
        sql.run("INSERT INTO rows VALUES (%s, %s::vector, %s, %s)", key, vector(embedding), encode(picture(i)), truth)
        sql.run("INSERT INTO rows VALUES (%s, '[1]', NULL, %s)", key, truth)
    for title in HOSTILE:
        page = report(sql, "SELECT key, embedding, image, truth FROM rows", "hostile", title=title)
        if title != "javascript:alert(1)":
            check(Page(page.source.replace("javascript:", "")))
        shown = unescape(page.source)
        assert not [c for c in shown if c in "\u202a\u202b\u202d\u202e\u2066\u2067\u2068\x07"]
        assert page.root.first("h1").text == page.root.first("head").first("title").text
    names = [row[0] for row in section(page, "summary").first("table").rows()]
    for name in HOSTILE[:6]:
        assert " ".join(name.split()) in names
    assert r"\u{202e}gnp.exe\u{2066}" in names
    # As names of anything, they are isolated from the direction of what follows.
    assert all(list(key.all("bdi")) for key in page.root.classed("key"))


def test_what_cannot_be_read_is_listed(sql):
    sql.run("SELECT susx.create_classifier('pets', '{cat,dog}', model => 'tiny_split')")
    sql.run("CREATE TABLE photos (id int, image bytea)")
    files = [encode(picture(i)) for i in range(5)] + [b"no image", encode(picture(9))[:300], None]
    sql.copy("photos", ["id", "image"], enumerate(files))
    page = report(sql, "SELECT id, image FROM photos", "pets")
    check(page)
    errors = dict(sql.rows("SELECT key::text, error FROM susx.classify_rows('pets', 'SELECT id::int8, image FROM photos') WHERE error IS NOT NULL"))
    assert dict(section(page, "unreadable").first("table").rows()) == errors and set(errors) == {"5", "6"}
    found = figures(section(page, "summary"))
    assert (found["Labelled"], found["Unreadable"], found["Without an image"]) == ("5 62.5 %", "2 25.0 %", "1 12.5 %")
    assert page.root.first("h1").text == "Labels of pets"


def test_an_image_that_cannot_be_shown_says_why(points):
    points.run("UPDATE points SET image = 'broken' WHERE id < 350")
    page = report(points, POINTS)
    check(page)
    assert {text.text for text in page.root.classed("broken")} and list(page.root.all("img"))
    assert all(text.text.startswith("Cannot be shown: expected an image") for text in page.root.classed("broken"))


def test_a_row_without_an_embedding_is_embedded(sql):
    sql.run("SELECT susx.create_classifier('pets', '{cat,dog}', model => 'tiny_split')")
    sql.run("CREATE TABLE photos (id int, image bytea, embedding vector)")
    sql.copy("photos", ["id", "image"], ((i, encode(picture(i))) for i in range(20)))
    plain = report(sql, "SELECT id, image FROM photos", "pets").source
    assert report(sql, "SELECT id, image, embedding FROM photos", "pets").source == plain
    sql.run("UPDATE photos SET embedding = susx.embed_image(image, 'tiny_split') WHERE id < 10")
    assert report(sql, "SELECT id, image, embedding FROM photos", "pets").source == plain


def test_images_that_look_the_same_collapse(sql):
    create_compass(sql)
    sql.run("CREATE TABLE rows (id int, embedding vector); INSERT INTO rows SELECT i, '[1,0.1]' FROM generate_series(1, 6) i")
    sql.run("INSERT INTO rows VALUES (7, '[1,0.8]'), (8, '[0,1]')")
    page = report(sql, "SELECT id, embedding FROM rows", "compass")
    east, north = page.root.classed("category")
    assert [text.text for text in east.classed("alike")] == ["+5 alike"] and len(keys(east)) == 2
    assert keys(north) == ["8"]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id, embedding FROM points WHERE false",
        "SELECT id, embedding FROM points",
        "SELECT NULL::int, embedding FROM points",
        "SELECT 7, embedding, image FROM points",
        "SELECT '{1,2}'::int[], embedding FROM points LIMIT 1",
        "SELECT id, NULL::vector AS embedding, truth FROM points",
        "SELECT id, embedding, NULL::bytea AS image, NULL::text AS truth FROM points",
        "WITH p AS (SELECT * FROM points) SELECT id, embedding FROM p",
    ],
)
def test_odd_queries(points, query):
    page = report(points, query)
    check(page)
    rows = points.one(f"SELECT count(*) FROM ({query}) q")
    assert figures(section(page, "summary"))["Rows"] == str(rows)
    assert bool(list(page.root.all("img"))) == ("image FROM points" in query)


@pytest.mark.parametrize(
    ("query", "sqlstate", "message"),
    [
        ("SELECT id FROM points", "42804", '"image" or "embedding"'),
        ("SELECT id, embedding, 1 AS other FROM points", "42804", '"other"'),
        ("SELECT id, embedding, embedding FROM points", "42804", 'two columns "embedding"'),
        ("SELECT id, embedding, 'x' AS image FROM points", "42804", "bytea, not text"),
        ("SELECT id, image FROM points", "55000", "no model"),
        ("SELECT id, embedding FROM points; SELECT 1", "22023", "one statement"),
        ("DELETE FROM points RETURNING id, embedding", "0A000", ""),
        ("SELECT repeat('x', 70000), embedding FROM points", "54000", "70000"),
    ],
)
def test_wrong_queries(points, query, sqlstate, message):
    refusal = points.fails("SELECT susx.report('random', %s)", query)
    assert refusal.sqlstate == sqlstate and message in refusal.message, refusal


@pytest.mark.parametrize(
    ("argument", "value"), [("thumbnails_per_category", 0), ("thumbnails_per_category", 1001), ("size", 15), ("size", 1025)]
)
def test_wrong_arguments(points, argument, value):
    refusal = points.fails(f"SELECT susx.report('random', %s, {argument} => %s)", POINTS, value)
    assert refusal.sqlstate == "22023" and str(value) in refusal.message


def noise(seed: int, side: int) -> bytes:
    """An image that no JPEG makes small."""
    return encode(Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)), "BMP")


def test_a_page_has_at_most_a_thousand_images_and_ten_megabytes(sql):
    create_random(sql, "random", 60, 32)
    sql.run("CREATE TABLE points (id int, image bytea, embedding vector)")
    embeddings = np.random.default_rng(8).normal(size=(3_000, 32))
    for side, least in ((16, 900), (200, 100)):
        files = [noise(seed, side) for seed in range(10)]
        sql.run("TRUNCATE points")
        sql.copy("points", ["id", "image", "embedding"], ((i, files[i % 10], vector(it)) for i, it in enumerate(embeddings)))
        page = report(sql, "SELECT id, image, embedding FROM points")
        check(page)
        shown = [len(list(sheet.all("img"))) for sheet in page.root.classed("category")]
        assert least < sum(shown) <= 1_000
        # Shared out fairly.
        assert max(shown) - min(shown) <= 1
        assert f"shows {sum(shown):,} images" in page.root.first("footer").text
        assert "left out" in page.root.first("footer").text


def test_ten_thousand_categories(sql):
    names = [f"category {i}" for i in range(10_000)]
    embeddings = np.random.default_rng(1).normal(size=(10_000, 8))
    sql.run(
        "SELECT susx.create_classifier('many', %s, text_embeddings => %s::vector[])", names, [vector(it) for it in embeddings]
    )
    sql.run("CREATE TABLE points (id int, embedding vector)")
    sql.copy("points", ["id", "embedding"], ((i, vector(it)) for i, it in enumerate(embeddings[:2_000])))
    page = report(sql, "SELECT id, embedding FROM points", "many")
    check(page)
    assert len(page.root.classed("category")) == 333
    assert "The 333 most frequent of 2,000 categories" in section(page, "categories").text
    assert "9,800 categories more" in section(page, "summary").text
    assert "8,800 categories that this page leaves out" in section(page, "summary").text


def test_computed_images_do_not_pile_up(points):
    """Images that the query makes are in memory: thumbnails take their place."""
    files = noise(1, 400)
    points.run("CREATE TABLE file (image bytea)")
    points.run("INSERT INTO file VALUES (%s)", files)
    query = "SELECT id, embedding, f.image || set_byte('\\x00', 0, id % 256) AS image FROM points, file f"
    page = report(points, query, size=16)
    check(page)
    assert len(list(page.root.all("img"))) > 6 * CATEGORIES


def test_it_writes_nothing(points):
    points.run("CREATE TABLE written (id int); CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS 'INSERT INTO written VALUES (1) RETURNING 1'")
    assert points.fails("SELECT susx.report('random', 'SELECT writes(), embedding FROM points')").sqlstate == "25006"
    points.run("SET default_transaction_read_only = on")
    check(report(points, POINTS))

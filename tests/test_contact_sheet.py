"""`susx.contact_sheet` against Pillow: where cells are, what they show, their labels; and its limits."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
from PIL import Image, ImageOps

from helpers.pictures import encode, picture
from helpers.session import session_of

pytestmark = pytest.mark.same_everywhere

GAP, LABEL = 8, 12
WHITE, GREY, INK = (255, 255, 255), (208, 208, 208), (32, 32, 32)


class Sheet:
    """A sheet's cells, and the strips below them."""

    def __init__(self, file: bytes, size: int, labels: bool):
        image = Image.open(io.BytesIO(file))
        assert (image.format, image.mode) == ("PNG", "RGB")
        self.image, self.size, self.label = image, size, LABEL if labels else 0

    def box(self, column: int, row: int) -> tuple[int, int, int, int]:
        left, top = GAP + column * (self.size + GAP), GAP + row * (self.size + self.label + GAP)
        return left, top, left + self.size, top + self.size

    def cell(self, column: int, row: int) -> Image.Image:
        return self.image.crop(self.box(column, row))

    def strip(self, column: int, row: int) -> Image.Image:
        left, _, right, bottom = self.box(column, row)
        return self.image.crop((left, bottom, right, bottom + LABEL))


def sheet(sql, query: str, columns: int = 8, size: int = 160, labels: bool = True) -> Sheet:
    return Sheet(sql.one("SELECT susx.contact_sheet(%s, %s, %s)", query, columns, size), size, labels)


def colours(image: Image.Image) -> set[tuple[int, ...]]:
    return {colour for _, colour in image.getcolors(1 << 20)}


def mean(image: Image.Image) -> np.ndarray:
    return np.asarray(image, float).mean((0, 1))


def reference(image: Image.Image, size: int) -> Image.Image:
    """A cell as Pillow makes it."""
    small = ImageOps.contain(image, (size, size), Image.Resampling.LANCZOS) if max(image.size) > size else image
    cell = Image.new("RGB", (size, size), "white")
    cell.paste(small, ((size - small.width) // 2, (size - small.height) // 2))
    return cell


DIMENSIONS = [(320, 240), (240, 320), (200, 200), (40, 30), (700, 90), (333, 500), (64, 64)]


@pytest.fixture
def photos(sql):
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, image bytea, name text)")
    rows = ((i, encode(picture(i, dimensions)), f"photo {i}") for i, dimensions in enumerate(DIMENSIONS))
    sql.copy("photos", ["id", "image", "name"], rows)
    return sql


@pytest.mark.parametrize("size", [64, 160])
@pytest.mark.parametrize("columns", [1, 3, 7, 64])
def test_cells_are_the_images_in_the_order_of_the_query(photos, columns, size):
    made = sheet(photos, "SELECT image, name FROM photos ORDER BY id DESC", columns, size)
    across = min(columns, len(DIMENSIONS))
    down = -(-len(DIMENSIONS) // across)
    assert made.image.size == (GAP + across * (size + GAP), GAP + down * (size + LABEL + GAP))
    for place, (seed, dimensions) in enumerate(reversed(list(enumerate(DIMENSIONS)))):
        cell = made.cell(place % across, place // across)
        expected = reference(picture(seed, dimensions), size)
        assert np.abs(mean(cell) - mean(expected)).max() < 2
        difference = np.abs(np.asarray(cell, float) - np.asarray(expected, float)).mean()
        assert difference < 6
        # Another picture is not so close.
        other = reference(picture(seed + 100, dimensions), size)
        assert np.abs(np.asarray(cell, float) - np.asarray(other, float)).mean() > 2 * difference


def test_between_cells_is_white(photos):
    made = sheet(photos, "SELECT image FROM photos ORDER BY id", 3, 64, labels=False)
    assert made.image.size == (GAP + 3 * 72, GAP + 3 * 72)
    mask = np.ones((made.image.height, made.image.width), bool)
    for place in range(len(DIMENSIONS)):
        left, top, right, bottom = made.box(place % 3, place // 3)
        mask[top:bottom, left:right] = False
    assert mask.any() and (np.asarray(made.image)[mask] == 255).all()


def test_labels_are_below(photos):
    made = sheet(photos, "SELECT image, CASE WHEN id <> 1 THEN name END FROM photos ORDER BY id", 4)
    strips = [made.strip(place % 4, place // 4) for place in range(len(DIMENSIONS))]
    assert [colours(strip) for place, strip in enumerate(strips) if place != 1] == [{WHITE, INK}] * 6
    assert colours(strips[1]) == {WHITE}
    # "photo 0" and "photo 2" differ in the last letter alone, and letters are eight pixels wide.
    zero, two = (np.asarray(strips[place]) for place in (0, 2))
    assert (zero[:, :48] == two[:, :48]).all() and (zero[:, 48:56] != two[:, 48:56]).any()
    assert (zero[:, 56:] == 255).all()


def test_labels_of_any_type(photos):
    for label in ("id", "id::numeric / 7", "now()", "ARRAY[id]", "name::char(100)", "'\"x\"'::jsonb"):
        made = sheet(photos, f"SELECT image, {label} FROM photos LIMIT 1")
        assert colours(made.strip(0, 0)) == {WHITE, INK}, label


def test_a_long_label_is_cut(photos):
    def strip(text: str) -> np.ndarray:
        return np.asarray(sheet(photos, f"SELECT image, {text} FROM photos WHERE id = 0", 1, 80).strip(0, 0))

    # Ten letters have room.
    whole, cut, longer = strip("'abcdefghij'"), strip("'abcdefghijk'"), strip("repeat('abcdefghij', 6000)")
    assert (cut == longer).all()
    assert (whole[:, :72] == cut[:, :72]).all() and (whole[:, 72:] != cut[:, 72:]).any()
    # Three dots, low in the line.
    dots = np.argwhere((cut[:, 72:] == 32).all(-1))
    assert len(dots) and dots[:, 0].min() >= 7 and len(set(dots[:, 1])) == 3


def test_letters(photos):
    def strip(text: str) -> np.ndarray:
        made = sheet(photos, f"SELECT image, {photos.one('SELECT quote_literal(%s)', text)} FROM photos WHERE id = 0")
        return np.asarray(made.strip(0, 0))

    shapes = [strip(letter) for letter in "AaÄéßñΩ漢"]
    for i, one in enumerate(shapes):
        assert not any((one == other).all() for other in shapes[:i])
    # What the font does not have is a box, and a line break is a space.
    assert (strip("漢") == strip("🎈")).all()
    assert (strip("a\nb\tc") == strip("a b c")).all()


def test_what_is_no_image(photos):
    photos.run("UPDATE photos SET image = 'not an image' WHERE id = 1; UPDATE photos SET image = NULL WHERE id = 2")
    made = sheet(photos, "SELECT image, name FROM photos ORDER BY id", 4)
    # Its error is in the cell.
    assert colours(made.cell(1, 0)) == {GREY, INK}
    assert colours(made.strip(1, 0)) == {WHITE, INK}
    assert colours(made.cell(2, 0)) == {WHITE}
    assert colours(made.strip(2, 0)) == {WHITE, INK}
    for place in (0, 3):
        expected = reference(picture(place, DIMENSIONS[place]), 160)
        assert np.abs(mean(made.cell(place % 4, 0)) - mean(expected)).max() < 2
    # In the smallest cell there is room for two letters.
    assert colours(sheet(photos, "SELECT image FROM photos WHERE id = 1", 8, 16, labels=False).cell(0, 0)) == {GREY, INK}


def test_only_nulls(sql):
    made = sheet(sql, "SELECT NULL::bytea, NULL FROM generate_series(1, 3)", 2, 32)
    assert made.image.size == (88, 8 + 2 * 52) and colours(made.image) == {WHITE}


def test_no_rows(photos):
    assert photos.rows("SELECT susx.contact_sheet('SELECT image FROM photos WHERE false')") == [(None,)]


def test_defaults(photos):
    query = "SELECT image, name FROM photos ORDER BY id"
    made = photos.one("SELECT susx.contact_sheet(%s)", query)
    assert made == photos.one("SELECT susx.contact_sheet(%s, 8, 160)", query)
    assert made == photos.one("SELECT susx.contact_sheet(%s, NULL, NULL)", query)


def test_a_thousand_images(sql):
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, image bytea)")
    files = [encode(Image.new("RGB", (30, 30), (25 * seed, 250 - 25 * seed, 90))) for seed in range(10)]
    sql.copy("photos", ["id", "image"], ((i, files[i % 10]) for i in range(1001)))
    made = sheet(sql, "SELECT image, id FROM photos WHERE id < 1000 ORDER BY id", 40, 24)
    assert made.image.size == (GAP + 40 * 32, GAP + 25 * 44)
    for place in range(1000):
        shown = mean(made.cell(place % 40, place // 40))
        assert np.abs(shown - [25 * (place % 10), 250 - 25 * (place % 10), 90]).max() < 4, place
    refusal = sql.fails("SELECT susx.contact_sheet('SELECT image FROM photos', 40, 24)")
    assert refusal.sqlstate == "54000" and "1000" in refusal.message and "1001" in refusal.message


def test_a_sheet_has_at_most_64_megapixels(sql):
    # 7 × 8 cells have 7,232 × 8,264 pixels, and a ninth row is too much.
    made = sheet(sql, "SELECT NULL::bytea FROM generate_series(1, 56)", 7, 1024, labels=False)
    assert made.image.size == (7232, 8264)
    refusal = sql.fails("SELECT susx.contact_sheet('SELECT NULL::bytea FROM generate_series(1, 57)', 7, 1024)")
    assert refusal.sqlstate == "54000" and "64000000" in refusal.message and str(7232 * 9296) in refusal.message


def test_a_thumbnail_may_have_more_bytes_than_an_image_may(new_cluster):
    """The settings limit images, and not what susx makes of them."""
    with new_cluster(**{"susx.max_image_bytes": "8kB"}) as cluster, session_of(cluster) as sql:
        sql.run("CREATE TABLE photos (image bytea)")
        noise = Image.frombytes("RGB", (128, 128), os.urandom(128 * 128 * 3))
        small = encode(noise, "JPEG", quality=45, subsampling=2)
        sql.run("INSERT INTO photos VALUES (%s), (%s)", small, encode(noise))
        assert len(small) < 8_192 < sql.one("SELECT length(susx.thumbnail(image)) FROM photos LIMIT 1")
        made = sheet(sql, "SELECT image FROM photos", 2, 128, labels=False)
        assert np.abs(mean(made.cell(0, 0)) - mean(noise)).max() < 4
        assert colours(made.cell(1, 0)) == {GREY, INK}


@pytest.mark.parametrize(
    ("argument", "value"),
    [("columns", 0), ("columns", 65), ("columns", -1), ("size", 15), ("size", 1025)],
)
def test_wrong_arguments(photos, argument, value):
    refusal = photos.fails(f"SELECT susx.contact_sheet('SELECT image FROM photos', {argument} => %s)", value)
    assert refusal.sqlstate == "22023" and str(value) in refusal.message


@pytest.mark.parametrize(
    ("query", "sqlstate", "message"),
    [
        ("SELECT id FROM photos", "42804", "integer"),
        ("SELECT name, image FROM photos", "42804", "text"),
        ("SELECT image, id, name FROM photos", "42804", "3"),
        ("SELECT FROM photos", "42804", "0"),
        ("SELECT image, repeat('x', 70000) FROM photos", "54000", "70000"),
        ("DELETE FROM photos RETURNING image", "0A000", ""),
        ("SELECT image FROM photos; SELECT 1", "22023", ""),
        ("SELECT image FROM there_is_none", "42P01", "there_is_none"),
    ],
)
def test_wrong_queries(photos, query, sqlstate, message):
    refusal = photos.fails("SELECT susx.contact_sheet(%s)", query)
    assert refusal.sqlstate == sqlstate and message in refusal.message, refusal


def test_it_writes_nothing(photos):
    photos.run(
        "CREATE TABLE written (id int); "
        "CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS 'INSERT INTO written VALUES (1) RETURNING 1'"
    )
    assert photos.fails("SELECT susx.contact_sheet('SELECT image, writes() FROM photos')").sqlstate == "25006"
    photos.run("SET default_transaction_read_only = on")
    sheet(photos, "SELECT image, name FROM photos")


def test_no_model_is_needed(new_cluster):
    changes = {"susx.model_dir": None, "susx.model": None, "susx.onnxruntime_library": "/nowhere"}
    with new_cluster(**changes) as cluster, session_of(cluster) as sql:
        sql.run("CREATE TABLE photos (image bytea)")
        sql.run("INSERT INTO photos VALUES (%s)", encode(picture(1)))
        cell = sheet(sql, "SELECT image FROM photos", labels=False).cell(0, 0)
        assert np.abs(mean(cell) - mean(reference(picture(1), 160))).max() < 2

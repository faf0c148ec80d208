"""embed_images and embed_texts: one row per element, in order, whatever else is in the array."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from helpers.pictures import encode, picture
from helpers.session import array, cosine

pytestmark = pytest.mark.same_everywhere

# A small model, so that many images take little time.
IMAGE = "SELECT susx.embed_image(%s, 'tiny_split')::text"
IMAGES = "SELECT ord, embedding::text, error FROM susx.embed_images(%s, 'tiny_split')"
TEXT = "SELECT susx.embed_text(%s, 'tiny_split')::text"
TEXTS = "SELECT ord, embedding::text, error FROM susx.embed_texts(%s, 'tiny_split')"


@pytest.fixture(scope="module")
def images():
    return [encode(picture(seed, (60 + seed % 7, 50)), "PNG") for seed in range(40)]


@pytest.fixture
def alone(sql, images):
    """Each image's embedding by a call of its own."""
    return [array(sql.one(IMAGE, image)) for image in images]


def check(rows, expected):
    """`expected`: an array, None for NULL, or a part of the error."""
    assert [row[0] for row in rows] == list(range(1, len(expected) + 1))
    for (_, embedding, error), right in zip(rows, expected):
        if isinstance(right, np.ndarray):
            assert error is None and cosine(array(embedding), right) > 0.99999
        elif right is None:
            assert embedding is None and error is None
        else:
            assert embedding is None and right in error


# Around the numbers at which one request becomes two, and one batch of the model becomes several.
@pytest.mark.parametrize("count", [1, 31, 32, 33, 64, 65, 200, 257])
def test_any_number_of_images(sql, images, alone, count):
    places = [i * 7 % len(images) for i in range(count)]
    check(sql.rows(IMAGES, [images[i] for i in places]), [alone[i] for i in places])


def test_images_larger_than_a_request(sql, images, alone):
    """Noise does not compress, so each of these files has several megabytes."""
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1300, 3), np.uint8)
    large = encode(Image.fromarray(noise), "BMP")
    assert len(large) > 4 << 20
    expected = array(sql.one(IMAGE, large))
    check(
        sql.rows(IMAGES, [images[0], large, large, images[1], large]),
        [alone[0], expected, expected, alone[1], expected],
    )


def test_null_elements(sql, images, alone):
    check(
        sql.rows(IMAGES, [None, images[0], None, None, images[1], None]), [None, alone[0], None, None, alone[1], None]
    )
    check(sql.rows(IMAGES, [None, None]), [None, None])


def test_broken_images_cost_an_error_each(sql, images, alone):
    broken = [b"", b"no picture at all", images[2][: len(images[2]) // 2], b"\xff\xd8\xff\xe0 but no JPEG"]
    mixed, expected = [], []
    for place in range(70):
        kind = place % 5
        mixed.append(broken[kind] if kind < 4 else images[place % 40])
        expected.append(("no bytes", "found text", "PNG", "JPEG")[kind] if kind < 4 else alone[place % 40])
    check(sql.rows(IMAGES, mixed), expected)


@pytest.mark.parametrize("array_of_none", ["NULL", "'{}'"])
def test_no_images(sql, array_of_none):
    assert sql.rows(f"SELECT * FROM susx.embed_images({array_of_none})") == []
    assert sql.rows(f"SELECT * FROM susx.embed_texts({array_of_none})") == []


@pytest.mark.parametrize("count", [1, 64, 65, 300])
def test_any_number_of_texts(sql, count):
    texts = [f"a photo of {i * i} {'big ' * (i % 9)}houses" for i in range(count)]
    found = sql.rows(TEXTS, texts)
    # A text's neighbours change the length that it is padded to, and nothing else.
    some = range(0, count, max(1, count // 12))
    alone = {i: array(sql.one(TEXT, texts[i])) for i in some}
    assert [row[0] for row in found] == list(range(1, count + 1))
    assert all(row[2] is None for row in found)
    for i in some:
        assert cosine(array(found[i][1]), alone[i]) > 0.99999


def test_null_texts(sql):
    rows = sql.rows(TEXTS, [None, "a cat", None])
    check(rows, [None, array(sql.one(TEXT, "a cat")), None])


def test_two_dimensional_arrays(sql, images, alone):
    """PostgreSQL has no type for a flat array: the elements come in storage order, as from unnest."""
    check(
        sql.rows(
            "SELECT ord, embedding::text, error "
            "FROM susx.embed_images(ARRAY[[%s, %s], [%s, NULL]]::bytea[], 'tiny_split')",
            *images[:3],
        ),
        [*alone[:3], None],
    )


def test_in_one_statement_with_the_table(sql, images, alone):
    """The statement of the manual: a table's images in batches, each embedding to its row."""
    sql.run("CREATE TABLE photos (id int PRIMARY KEY, image bytea, embedding vector)")
    sql.copy("photos", ["id", "image"], ((i, image) for i, image in enumerate(images)))
    sql.run(
        """
        UPDATE photos p SET embedding = e.embedding
        FROM (SELECT array_agg(id ORDER BY id) AS ids, array_agg(image ORDER BY id) AS images
              FROM photos GROUP BY id / 16) batch, susx.embed_images(batch.images, 'tiny_split') e
        WHERE p.id = batch.ids[e.ord]"""
    )
    for (found,), right in zip(sql.rows("SELECT embedding::text FROM photos ORDER BY id"), alone):
        assert cosine(array(found), right) > 0.99999

"""Labelled images: add_support with image files, and categories with unequal support."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from helpers.pictures import encode, picture
from helpers.session import array, cosine, vector
from helpers.toy import create_compass

pytestmark = pytest.mark.same_everywhere

ADD = "SELECT susx.add_support('pets', %s, %s::bytea[])"
EMBED = "SELECT susx.embed_image(%s, 'tiny_split')::text"


@pytest.fixture(scope="module")
def images():
    return [encode(picture(seed, (64, 48)), "JPEG") for seed in range(12)]


@pytest.fixture
def pets(sql):
    sql.run("SELECT susx.create_classifier('pets', '{cat,dog}', model => 'tiny_split')")
    return sql


def test_the_rows_that_it_adds(pets, images):
    assert pets.one(ADD, "dog", images[:3]) == 3
    assert pets.one(ADD, "cat", images[3:4]) == 1
    rows = pets.rows(
        "SELECT category, origin, prompt, source_key, similarity, image, embedding::text FROM pets "
        "WHERE kind = 'image' ORDER BY id"
    )
    assert [row[:5] for row in rows] == [(name, "labelled", None, None, None) for name in ("dog", "dog", "dog", "cat")]
    assert [row[5] for row in rows] == images[:4]
    for image, embedding in zip(images, (row[6] for row in rows)):
        assert cosine(array(embedding), array(pets.one(EMBED, image))) > 0.99999


def test_they_label(pets, images):
    """An image that was labelled keeps its label, whatever its name alone would say."""
    for place, image in enumerate(images):
        pets.run(ADD, ("cat", "dog")[place % 2], [image])
    pets.run("SELECT susx.alter_classifier('pets', alpha => 100, beta => 200, method => 'tip-adapter')")
    found = [pets.one("SELECT susx.label('pets', %s::bytea)", image) for image in images]
    assert found == ["cat", "dog"] * 6


def test_a_table_of_labelled_images(pets, images):
    """One call per category, in one statement."""
    pets.run("CREATE TABLE labelled (truth text, image bytea)")
    pets.copy("labelled", ["truth", "image"], ((("cat", "dog")[i % 3 == 0], image) for i, image in enumerate(images)))
    rows = pets.rows(
        "SELECT truth, susx.add_support('pets', truth, array_agg(image)) FROM labelled GROUP BY truth ORDER BY truth"
    )
    assert rows == [("cat", 8), ("dog", 4)]


def test_more_than_go_together(pets, images):
    """By their number, and by their bytes: each picture keeps its own embedding."""
    many = [images[i % 12] for i in range(300)]
    assert pets.one(ADD, "dog", many) == 300
    assert pets.column("SELECT image FROM pets WHERE kind = 'image' ORDER BY id") == many
    assert pets.one("SELECT count(DISTINCT embedding::text) FROM pets WHERE kind = 'image'") >= 12
    random = np.random.default_rng(0)
    large = [encode(Image.fromarray(random.integers(0, 256, (1600, 1500, 3), np.uint8)), "BMP") for _ in range(5)]
    assert sum(map(len, large)) > 32 << 20
    assert pets.one(ADD, "cat", large) == 5
    rows = pets.rows("SELECT image, embedding::text FROM pets WHERE kind = 'image' AND category = 'cat' ORDER BY id")
    assert [row[0] for row in rows] == large
    for image, embedding in rows:
        assert cosine(array(embedding), array(pets.one(EMBED, image))) > 0.99999


@pytest.mark.parametrize("place", [1, 2, 280])
def test_an_image_that_cannot_be_read(pets, images, place):
    """The error names the element; nothing is added, not even what came before it."""
    many = [images[i % 12] for i in range(290)]
    many[place - 1] = images[0][:40]
    refusal = pets.fails(ADD, "dog", many)
    assert refusal.sqlstate == "22P03"
    assert refusal.message.startswith(f"element {place}: ")
    assert "JPEG" in refusal.message and "damaged" in refusal.hint
    assert pets.one("SELECT count(category) FROM pets") == 2


@pytest.mark.parametrize(
    "array_of, named", [("'{}'", "must not be empty"), ("ARRAY[NULL]", "element 1 of images is NULL")]
)
def test_no_images(pets, array_of, named):
    refusal = pets.fails(f"SELECT susx.add_support('pets', 'dog', {array_of}::bytea[])")
    assert (refusal.sqlstate, named in refusal.message) == ("22023", True)


def test_null_among_images(pets, images):
    refusal = pets.fails(ADD, "dog", [images[0], None])
    assert "element 2 of images is NULL" in refusal.message
    assert pets.one("SELECT count(category) FROM pets") == 2


@pytest.mark.parametrize("what", ["ARRAY['x']::bytea[]", "ARRAY['[1,0]']::vector[]"])
def test_an_unknown_category(sql, pets, what):
    refusal = pets.fails(f"SELECT susx.add_support('pets', 'Dog', {what})")
    assert (refusal.sqlstate, refusal.message) == ("42704", 'category "Dog" of classifier "pets" does not exist')
    assert refusal.hint == "Its categories: cat, dog."
    # An image does not make a category.
    pets.run("INSERT INTO pets (category, embedding) SELECT 'orphan', embedding FROM pets LIMIT 1")
    assert pets.fails(f"SELECT susx.add_support('pets', 'orphan', {what})").sqlstate == "42704"


def test_vectors_of_other_dimensions(pets):
    refusal = pets.fails("SELECT susx.add_support('pets', 'dog', ARRAY['[1,0]']::vector[])")
    assert "32 dimensions, not 2" in refusal.message


def test_a_classifier_without_a_model(sql, images):
    create_compass(sql)
    refusal = sql.fails("SELECT susx.add_support('compass', 'east', %s::bytea[])", images)
    assert refusal.sqlstate == "55000" and "model" in refusal.message


def test_no_classifier(sql):
    sql.run("CREATE TABLE plain (i int)")
    for what in ("ARRAY['x']::bytea[]", "ARRAY['[1,0]']::vector[]"):
        assert sql.fails(f"SELECT susx.add_support('plain', 'east', {what})").sqlstate == "42704"


def test_rights(pets, schema, connect, images):
    """Who may only read is told so before anything is embedded, and before the category is looked for."""
    admin = connect()
    admin.run(f"CREATE ROLE dave LOGIN; GRANT USAGE ON SCHEMA {schema} TO dave")
    try:
        dave = connect(user="dave")
        dave.run(f"SET search_path = {schema}, public")
        for right in ("USAGE ON SCHEMA " + schema, "SELECT ON pets", "INSERT ON pets"):
            pets.run(f"REVOKE ALL ON pets FROM dave; GRANT {right} TO dave")
            for category in ("dog", "no such"):
                refusal = dave.fails(ADD, category, [b"no picture"])
                assert refusal.sqlstate == "42501" and "pets" in refusal.message
        pets.run("GRANT SELECT ON pets TO dave")
        assert dave.one(ADD, "dog", images[:2]) == 2
        dave.close()
    finally:
        admin.run("DROP OWNED BY dave; DROP ROLE dave")


def test_only_what_is_needed_is_read(pets, images):
    """Only the category is read, so an invalid other category does not matter."""
    pets.run("INSERT INTO pets (category, embedding) SELECT 'orphan', embedding FROM pets LIMIT 1")
    assert pets.fails("SELECT susx.label('pets', %s::bytea)", images[0]).sqlstate == "55000"
    assert pets.one(ADD, "dog", images[:1]) == 1
    assert pets.one("SELECT susx.add_support('pets', 'dog', array_agg(embedding)) FROM pets WHERE kind <> 'settings'") == 4


def test_categories_of_unequal_support(sql):
    """Three images, one and none: the formula with n̄/n_c, term by term, in float64."""
    prompts = np.array([[1, 0, 0.2], [0.1, 1, 0], [0, 0.2, 1]])
    support = [np.array([[1, 0.3, 0], [0.8, -0.2, 0.4], [1, 0.1, 0.1]]), np.array([[0.2, 0.9, 0.3]]), np.empty((0, 3))]
    sql.run(
        "SELECT susx.create_classifier('odd', '{a,b,c}', text_embeddings => %s::vector[])", [vector(p) for p in prompts]
    )
    for name, rows in zip("abc", support):
        if len(rows):
            sql.run("SELECT susx.add_support('odd', %s, %s::vector[])", name, [vector(row) for row in rows])
    alpha, beta, scale = 2.0, 3.0, 10.0
    sql.run("SELECT susx.alter_classifier('odd', alpha => %s, beta => %s, logit_scale => %s)", alpha, beta, scale)

    unit = lambda rows: rows / np.linalg.norm(rows, axis=-1, keepdims=True)  # noqa: E731
    query = unit(np.array([0.6, 0.5, 0.5]))
    zero_shot = scale * unit(prompts) @ query
    mean = 4 / 3
    cache = [alpha * mean / len(rows) * np.exp(-beta * (1 - unit(rows) @ query)).sum() for rows in support[:2]]
    # A category without images has what the best of the others has: its name decides.
    rows = sql.rows("SELECT category, score FROM susx.classify('odd', %s::vector, 3, 'tip-adapter')", vector(query))
    found = dict(rows)
    expected = zero_shot + np.array([*cache, max(cache)])
    assert [found[name] for name in "abc"] == pytest.approx(expected, rel=1e-4)

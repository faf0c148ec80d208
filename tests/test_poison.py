"""An image that kills the inference process each time costs one error, and the images beside it nothing."""

from __future__ import annotations

import pytest

from helpers.pictures import encode, picture
from helpers.poison import poisonous
from helpers.processes import servers
from helpers.session import array, cosine, in_background

pytestmark = pytest.mark.same_everywhere


@pytest.fixture(scope="module")
def cluster(own_cluster):
    """A cluster of its own instead of the shared one."""
    return own_cluster


@pytest.fixture(scope="module")
def poison(cluster):
    with poisonous(cluster) as image:
        yield image


def test_one_image_that_kills_the_server(sql, cluster, poison):
    images = [encode(picture(i)) for i in range(40)]
    alone = "SELECT embedding::text FROM susx.embed_images(%s, 'tiny_split')"
    expected = [array(row) for row in sql.column(alone, images)]
    first = servers(cluster.data_dir)
    rows = sql.rows(
        "SELECT embedding::text, error FROM susx.embed_images(%s, 'tiny_split')", [*images[:25], poison, *images[25:]]
    )
    assert servers(cluster.data_dir) != first, "the poison is none"
    (embedding, error) = rows.pop(25)
    assert embedding is None
    assert error.startswith("the inference process ended each of the 3 times that it processed this input: ")
    assert all(error is None for _, error in rows)
    assert all(cosine(array(found), wanted) > 0.9999 for (found, _), wanted in zip(rows, expected, strict=True))


def test_alone(sql, poison):
    refusal = sql.fails("SELECT susx.embed_image(%s, 'tiny_split')", poison)
    assert refusal.sqlstate == "08006"
    assert "ended each of the 3 times" in refusal.message and refusal.hint
    assert sql.one("SELECT vector_dims(susx.embed_image(%s, 'tiny_split'))", encode(picture(1))) > 0


def test_others_at_the_same_time(sql, connect, poison):
    """Their images meet the same crashes, and are not blamed."""
    image = encode(picture(2))
    others = [connect() for _ in range(4)]
    query = "SELECT count(embedding) FROM susx.embed_images(array_fill(%s::bytea, '{200}'), 'tiny_split')"
    with in_background(
        lambda: sql.fails("SELECT susx.embed_image(%s, 'tiny_split')", poison),
        *(lambda session=session: session.one(query, image) for session in others),
    ) as results:
        pass
    assert results[0].sqlstate == "08006"
    assert results[1:] == [200] * 4


class TestWhoseFaultItIs:
    """The image's: it costs what an image costs that cannot be read, in every function."""

    @pytest.fixture
    def sql(self, sql, poison):
        sql.run("SELECT susx.create_classifier('kinds', '{cat,dog}', model => 'tiny_split')")
        sql.run("SELECT susx.add_support('kinds', 'cat', ARRAY[%s, %s])", encode(picture(8)), encode(picture(9)))
        sql.run("CREATE TABLE photos (id bigint PRIMARY KEY, image bytea, truth text, embedding vector(32))")
        for i, image in enumerate((encode(picture(1)), poison, encode(picture(2)))):
            sql.run("INSERT INTO photos VALUES (%s, %s, 'cat')", i, image)
        return sql

    def test_classify_rows(self, sql):
        errors = sql.column("SELECT error FROM susx.classify_rows('kinds', 'SELECT id, image FROM photos ORDER BY id')")
        assert errors[0] is None and errors[2] is None and "ended each of the 3 times" in errors[1]

    def test_evaluate(self, sql):
        query = "SELECT n, failed FROM susx.evaluate('kinds', 'SELECT image, truth FROM photos ORDER BY id')"
        assert sql.rows(query) == [(2, 1), (2, 1), (0, 0)]
        assert any("row 2: the inference process ended" in notice for notice in sql.notices)

    def test_confusion_matrix(self, sql):
        rows = sql.rows("SELECT * FROM susx.confusion_matrix('kinds', 'SELECT image, truth FROM photos ORDER BY id')")
        assert ("cat", None, 1) in rows and sum(n for *_, n in rows) == 3

    def test_tune(self, sql):
        assert sql.rows("SELECT n, failed FROM susx.tune('kinds', 'SELECT image, truth FROM photos ORDER BY id')") == [(2, 1)]

    def test_embed_table(self, sql):
        sql.run("CALL susx.embed_table('photos', model => 'tiny_split')")
        assert sql.column("SELECT id FROM photos WHERE embedding IS NOT NULL ORDER BY id") == [0, 2]
        assert sql.rows("SELECT key, sqlstate FROM susx.errors WHERE relation = 'photos'::regclass") == [("1", "08006")]

    def test_embed_on_write(self, sql):
        sql.run(
            "CREATE TABLE more (LIKE photos INCLUDING ALL); "
            "CREATE TRIGGER t AFTER INSERT ON more REFERENCING NEW TABLE AS new FOR EACH STATEMENT "
            "EXECUTE FUNCTION susx.embed_on_write('image', 'embedding', 'tiny_split', 'record'); "
            "INSERT INTO more SELECT * FROM photos"
        )
        assert sql.column("SELECT id FROM more WHERE embedding IS NOT NULL ORDER BY id") == [0, 2]

    def test_add_support(self, sql):
        """add_support adds all images or none."""
        refusal = sql.fails("SELECT susx.add_support('kinds', 'dog', (SELECT array_agg(image ORDER BY id) FROM photos))")
        assert refusal.sqlstate == "08006" and refusal.message.startswith("element 2: the inference process ended")
        assert sql.one("SELECT count(*) FROM kinds WHERE kind = 'image'") == 2

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
    """Takes the place of the cluster that the other tests share."""
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
    assert error.startswith("the inference process ended each of the 3 times that it worked on this: ")
    assert all(error is None for _, error in rows)
    assert all(cosine(array(found), wanted) > 0.9999 for (found, _), wanted in zip(rows, expected, strict=True))


def test_alone(sql, poison):
    refusal = sql.fails("SELECT susx.embed_image(%s, 'tiny_split')", poison)
    assert refusal.sqlstate == "08006"
    assert "ended each of the 3 times" in refusal.message and refusal.hint
    assert sql.one("SELECT vector_dims(susx.embed_image(%s, 'tiny_split'))", encode(picture(1))) > 0


def test_others_at_the_same_time(sql, connect, poison):
    """Their images come to the same servers' ends, and are not to blame."""
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

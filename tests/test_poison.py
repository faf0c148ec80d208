"""An image that kills the inference process each time costs one error, and the images beside it nothing."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from helpers.pictures import encode, picture
from helpers.processes import servers
from helpers.session import array, cosine, in_background
from helpers.settings import reloaded
from tools.paths import pg_bin

# Enough for the program and a tiny model, not for the poison: a process that is refused memory is aborted.
ADDRESS_SPACE_KB = 2_500_000


@pytest.fixture(scope="module")
def cluster(own_cluster):
    """A cluster whose inference process may not grow, and whose limits on images do not prevent it."""
    # Where PostgreSQL's account can read it.
    with tempfile.TemporaryDirectory(prefix="susx-program-", dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        program = Path(folder) / "susx-server"
        server = pg_bin(own_cluster.pg, "susx-server")
        program.write_text(f'#!/bin/sh\nulimit -v {ADDRESS_SPACE_KB}\nexec {server} "$@"\n')
        program.chmod(0o755)
        with reloaded(own_cluster, server_program=program, max_image_pixels=2_000_000_000):
            yield own_cluster


@pytest.fixture(scope="module")
def poison() -> bytes:
    """A file of a picture of 30,000 x 30,000 pixels, all of one grey."""
    return encode(Image.new("L", (30_000, 30_000), 90), "JPEG")


def test_one_image_that_kills_the_server(sql, cluster, poison):
    images = [encode(picture(i)) for i in range(40)]
    expected = [array(row) for row in sql.column("SELECT embedding::text FROM susx.embed_images(%s, 'tiny_split')", images)]
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

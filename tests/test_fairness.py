"""Sessions that embed many inputs do not hold up those that embed few."""

from __future__ import annotations

import os
import random
import shutil
import signal

import pytest

from conftest import copy_model
from helpers.endless import make_endless
from helpers.models import new_model_dir
from helpers.pictures import encode, picture
from helpers.processes import PROMPTLY, eventually, servers
from helpers.session import array, cosine, in_background, session_of

pytestmark = pytest.mark.same_everywhere

BATCH = 32
# Those in flight, and the one that the single image is part of.
BATCHES = 2 + 1


@pytest.fixture(scope="module")
def images():
    return [encode(picture(seed, (80, 64)), "JPEG") for seed in range(40)]


def test_a_single_image_waits_for_the_batches_in_flight(sql, connect, images):
    """Counted, not timed: how many single images are answered, one after the other, during a bulk call."""
    query = "SELECT count(embedding) FROM susx.embed_images(%s, 'demo')"
    single = "SELECT susx.embed_image(%s, 'demo')::text"
    alone = array(sql.one(single, images[0]))
    bulk, other = images * 24, connect()
    answered = 0
    with in_background(lambda: other.one(query, bulk)) as results:
        while results == [None]:
            embedding = array(sql.one(single, images[0]))
            assert cosine(embedding, alone) > 0.99999
            answered += 1
    assert results == [len(bulk)]
    # The first one may have come before the bulk call and the last one after it.
    assert answered - 2 >= len(bulk) // (BATCHES * BATCH) - 1, f"{answered} during {len(bulk)}"


def test_a_single_image_goes_between_the_pieces_of_a_batch(new_cluster, images):
    """With one thread, as with a large model, there is only one session. It runs four images at a time."""
    with new_cluster(**{"susx.threads": 1}) as cluster, session_of(cluster) as sql, session_of(cluster) as other:
        single = "SELECT susx.embed_image(%s)::text"
        alone = array(sql.one(single, images[0]))
        bulk, answered = images * 12, 0
        with in_background(lambda: other.one("SELECT count(embedding) FROM susx.embed_images(%s)", bulk)) as results:
            while results == [None]:
                assert cosine(array(sql.one(single, images[0])), alone) > 0.99999
                answered += 1
        assert results == [len(bulk)]
        # With whole batches in between, there would be one for 32 images at most.
        assert answered >= len(bulk) // 16, f"{answered} during {len(bulk)}"


class TestTheLane:
    """A single input waits for no batch of another session: these batches never end."""

    KINDS = ("image", "text")

    @pytest.fixture(scope="class")
    def cluster(self, new_cluster, model_dir):
        """Its models end only for a single input."""
        folder = new_model_dir()
        for kind, encoder in zip(self.KINDS, ("vision", "text")):
            copy_model(model_dir / "tiny_split", folder / kind)
            make_endless(folder / kind, probe_ends=True, encoder=encoder)
        # With one thread, there is one session, which the batch has.
        with new_cluster(**{"susx.model_dir": folder, "susx.model": "text", "susx.threads": 2}) as cluster:
            yield cluster
        shutil.rmtree(folder)

    @pytest.mark.parametrize("kind", KINDS)
    def test_beside_batches_that_never_end(self, cluster, connect, kind):
        inputs = [encode(picture(seed, (64, 64))) for seed in range(3)] if kind == "image" else ["a", "cat", "a dog"]
        column = "bytea" if kind == "image" else "text"
        many = f"SELECT count(embedding) FROM susx.embed_{kind}s(array_fill(%s::{column}, '{{{10 * BATCH}}}'), '{kind}')"
        one = f"SELECT susx.embed_{kind}(%s, '{kind}')::text"
        bulk, *others = (connect() for _ in range(4))
        for other in others:
            # Without the lane, the calls would wait for ever.
            other.run(f"SET statement_timeout = '{PROMPTLY}s'")
        alone = [array(others[0].one(one, item)) for item in inputs]

        def are_answered() -> bool:
            """Whether each session gets its embeddings while the others ask, too."""
            calls = (lambda other=other: [array(other.one(one, item)) for item in inputs] for other in others)
            with in_background(*calls) as found:
                pass
            assert all(isinstance(embeddings, list) for embeddings in found), found
            return all(cosine(a, b) > 0.99999 for embeddings in found for a, b in zip(embeddings, alone, strict=True))

        with in_background(lambda: bulk.fails(many, inputs[0])) as results:
            # These inputs wait or are in flight.
            assert eventually(lambda: others[0].one("SELECT queue_inputs FROM susx.stat_server") >= 2 * BATCH)
            try:
                assert are_answered()
                assert results == [None]
            finally:
                others[0].one("SELECT pg_cancel_backend(%s)", bulk.pid)
        assert results[0].sqlstate == "57014"
        # The batches in flight have no session any more, but still run.
        assert are_answered()
        (server,) = servers(cluster.data_dir)
        os.kill(server, signal.SIGKILL)


def test_texts_have_no_influence_on_each_other(sql):
    """Those of like length are run together: whatever the order, every text gets its own embedding."""
    shuffle = random.Random(1)
    words = "a photo of the old red bicycle near some tall trees".split()
    texts = [" ".join(shuffle.choices(words, k=shuffle.choice((1, 2, 3, 5, 8, 40, 90)))) for _ in range(300)]
    query = "SELECT ord, embedding::text FROM susx.embed_texts(%s, %s)"
    for model in ("demo", "tiny_split", "tiny_no_mask"):
        embeddings = {}
        for _ in range(2):
            shuffle.shuffle(texts)
            for ord, embedding in sql.rows(query, texts, model):
                embedding = array(embedding)
                assert cosine(embeddings.setdefault(texts[ord - 1], embedding), embedding) > 0.99999, texts[ord - 1]
        for text in texts[:20]:
            alone = array(sql.one("SELECT susx.embed_text(%s, %s)::text", text, model))
            assert cosine(embeddings[text], alone) > 0.99999, text
